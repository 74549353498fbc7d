//! Entries as JSON. There is no workload in them, so there are no secrets.

use std::collections::BTreeMap;

use holdfast_core::catalog::{AssetFile, SandboxAssets, Scope};
use holdfast_core::effect::{Fenced, NodeFailure, NodeFailureKind, Place, Verb};
use holdfast_core::id::{ActorKey, Fence, Incarnation, Name, NotAnId, OpId, TooHigh};
use holdfast_core::node::{Done, Entry, Hosted, Pending, Sandbox};
use holdfast_rpc::failure::{from_tonic, to_tonic};
use serde::{Deserialize, Serialize};

/// A row that is not what this program writes.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("operation id {0:?}: {1}")]
    OpId(String, NotAnId),
    #[error(transparent)]
    TooHigh(#[from] TooHigh),
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(&EntryJson::from(entry))
        .expect("maps with text keys, numbers and text always serialise")
}

pub(super) fn decode(json: &[u8]) -> Result<Entry, EntryError> {
    serde_json::from_slice::<EntryJson>(json)?.try_into()
}

/// One actor's key. A JSON array, because no character is left to separate the parts with.
pub(super) fn encode_actor(actor: &ActorKey, incarnation: Incarnation) -> String {
    serde_json::json!([actor.atespace.as_str(), actor.name.as_str(), incarnation.0]).to_string()
}

pub(super) fn decode_actor(key: &str) -> Result<(ActorKey, Incarnation), EntryError> {
    let (atespace, name, incarnation): (String, String, u64) = serde_json::from_str(key)?;
    Ok((ActorKey::new(atespace, name), Incarnation(incarnation)))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson {
    highest: u64,
    /// Zero in older journals.
    #[serde(default)]
    voided: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hosted: Option<HostedJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<PendingJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<DoneJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostedJson {
    atespace: String,
    actor: String,
    incarnation: u64,
    /// Older journals do not have it.
    #[serde(default)]
    template: (String, String),
    op: String,
    /// Zero in older journals.
    #[serde(default)]
    session: u64,
    sandbox: SandboxJson,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum SandboxJson {
    Busy,
    Running,
    Frozen,
    Stopped,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PendingJson {
    op: String,
    atespace: String,
    actor: String,
    incarnation: u64,
    template: (String, String),
    verb: VerbJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    captured: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum VerbJson {
    Run {
        class: String,
        /// Architecture -> name -> (URL, SHA-256).
        assets: BTreeMap<String, BTreeMap<String, (String, String)>>,
    },
    Restore {
        from: PlaceJson,
        scope: ScopeJson,
    },
    Checkpoint {
        to: PlaceJson,
        scope: ScopeJson,
    },
    Upload {
        name: String,
        to: String,
    },
    Stop,
    Thaw,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum PlaceJson {
    External(String),
    Local(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ScopeJson {
    Full,
    Data,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DoneJson {
    op: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<FailureJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailureJson {
    /// The number of the gRPC code.
    code: i32,
    message: String,
    kind: KindJson,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum KindJson {
    Crash,
    SandboxGone,
    StaleActorFence(u64),
    StaleWorkerFence(u64),
    Busy,
    SessionOver,
    Occupied,
    Unreachable,
    NotBegun,
    Failed,
}

impl From<&Entry> for EntryJson {
    fn from(entry: &Entry) -> Self {
        Self {
            highest: entry.highest.0,
            voided: entry.voided.0,
            hosted: entry.hosted.as_ref().map(HostedJson::from),
            current: entry.current.as_ref().map(PendingJson::from),
            last: entry.last.as_ref().map(DoneJson::from),
        }
    }
}

impl TryFrom<EntryJson> for Entry {
    type Error = EntryError;

    fn try_from(json: EntryJson) -> Result<Self, EntryError> {
        Ok(Self {
            highest: Fence::try_from(json.highest)?,
            voided: Fence::try_from(json.voided)?,
            hosted: json.hosted.map(Hosted::try_from).transpose()?,
            current: json.current.map(Pending::try_from).transpose()?,
            last: json.last.map(Done::try_from).transpose()?,
        })
    }
}

impl From<&Hosted> for HostedJson {
    fn from(hosted: &Hosted) -> Self {
        Self {
            atespace: hosted.actor.atespace.to_string(),
            actor: hosted.actor.name.to_string(),
            incarnation: hosted.incarnation.0,
            template: (hosted.template.0.to_string(), hosted.template.1.to_string()),
            op: hosted.op.to_string(),
            session: hosted.session,
            sandbox: match hosted.sandbox {
                Sandbox::Busy => SandboxJson::Busy,
                Sandbox::Running => SandboxJson::Running,
                Sandbox::Frozen => SandboxJson::Frozen,
                Sandbox::Stopped => SandboxJson::Stopped,
            },
        }
    }
}

impl TryFrom<HostedJson> for Hosted {
    type Error = EntryError;

    fn try_from(json: HostedJson) -> Result<Self, EntryError> {
        Ok(Self {
            actor: ActorKey::new(json.atespace, json.actor),
            incarnation: Incarnation(json.incarnation),
            template: (json.template.0.into(), json.template.1.into()),
            op: op(json.op)?,
            session: json.session,
            sandbox: match json.sandbox {
                SandboxJson::Busy => Sandbox::Busy,
                SandboxJson::Running => Sandbox::Running,
                SandboxJson::Frozen => Sandbox::Frozen,
                SandboxJson::Stopped => Sandbox::Stopped,
            },
        })
    }
}

impl From<&Pending> for PendingJson {
    fn from(pending: &Pending) -> Self {
        let files = |files: &Vec<Name>| files.iter().map(Name::to_string).collect();
        Self {
            op: pending.op.to_string(),
            atespace: pending.actor.atespace.to_string(),
            actor: pending.actor.name.to_string(),
            incarnation: pending.incarnation.0,
            template: (pending.template.0.to_string(), pending.template.1.to_string()),
            verb: VerbJson::from(&pending.verb),
            captured: pending.captured.as_ref().map(files),
        }
    }
}

impl TryFrom<PendingJson> for Pending {
    type Error = EntryError;

    fn try_from(json: PendingJson) -> Result<Self, EntryError> {
        Ok(Self {
            op: op(json.op)?,
            actor: ActorKey::new(json.atespace, json.actor),
            incarnation: Incarnation(json.incarnation),
            template: (json.template.0.into(), json.template.1.into()),
            verb: json.verb.into(),
            captured: json
                .captured
                .map(|files| files.into_iter().map(Name::from).collect()),
        })
    }
}

impl From<&Verb> for VerbJson {
    fn from(verb: &Verb) -> Self {
        match verb {
            Verb::Run { assets } => {
                let file = |(name, file): (&Name, &AssetFile)| {
                    (name.to_string(), (file.url.to_string(), file.sha256.to_string()))
                };
                let arch = |(arch, files): (&Name, &BTreeMap<Name, AssetFile>)| {
                    (arch.to_string(), files.iter().map(file).collect())
                };
                Self::Run {
                    class: assets.sandbox_class.to_string(),
                    assets: assets.assets.iter().map(arch).collect(),
                }
            }
            Verb::Restore { from, scope } => Self::Restore {
                from: from.into(),
                scope: (*scope).into(),
            },
            Verb::Checkpoint { to, scope } => Self::Checkpoint {
                to: to.into(),
                scope: (*scope).into(),
            },
            Verb::Upload { name, to } => Self::Upload {
                name: name.to_string(),
                to: to.to_string(),
            },
            Verb::Stop => Self::Stop,
            Verb::Thaw => Self::Thaw,
        }
    }
}

impl From<VerbJson> for Verb {
    fn from(json: VerbJson) -> Self {
        match json {
            VerbJson::Run { class, assets } => {
                let file = |(name, (url, sha256)): (String, (String, String))| {
                    let file = AssetFile {
                        url: url.into(),
                        sha256: sha256.into(),
                    };
                    (Name::from(name), file)
                };
                let arch = |(arch, files): (String, BTreeMap<_, _>)| {
                    (Name::from(arch), files.into_iter().map(file).collect())
                };
                let assets = SandboxAssets {
                    sandbox_class: class.into(),
                    assets: assets.into_iter().map(arch).collect(),
                };
                Self::Run { assets }
            }
            VerbJson::Restore { from, scope } => Self::Restore {
                from: from.into(),
                scope: scope.into(),
            },
            VerbJson::Checkpoint { to, scope } => Self::Checkpoint {
                to: to.into(),
                scope: scope.into(),
            },
            VerbJson::Upload { name, to } => Self::Upload {
                name: name.into(),
                to: to.into(),
            },
            VerbJson::Stop => Self::Stop,
            VerbJson::Thaw => Self::Thaw,
        }
    }
}

impl From<&Place> for PlaceJson {
    fn from(place: &Place) -> Self {
        match place {
            Place::External(prefix) => Self::External(prefix.to_string()),
            Place::Local(name) => Self::Local(name.to_string()),
        }
    }
}

impl From<PlaceJson> for Place {
    fn from(json: PlaceJson) -> Self {
        match json {
            PlaceJson::External(prefix) => Self::External(prefix.into()),
            PlaceJson::Local(name) => Self::Local(name.into()),
        }
    }
}

impl From<Scope> for ScopeJson {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Full => Self::Full,
            Scope::Data => Self::Data,
        }
    }
}

impl From<ScopeJson> for Scope {
    fn from(json: ScopeJson) -> Self {
        match json {
            ScopeJson::Full => Self::Full,
            ScopeJson::Data => Self::Data,
        }
    }
}

impl From<&Done> for DoneJson {
    fn from(done: &Done) -> Self {
        Self {
            op: done.op.to_string(),
            failure: done.result.as_ref().err().map(|failure| FailureJson {
                code: to_tonic(failure.code) as i32,
                message: failure.message.clone(),
                kind: failure.kind.into(),
            }),
        }
    }
}

impl TryFrom<DoneJson> for Done {
    type Error = EntryError;

    fn try_from(json: DoneJson) -> Result<Self, EntryError> {
        let failure = |failure: FailureJson| {
            Ok::<_, EntryError>(NodeFailure {
                code: from_tonic(tonic::Code::from_i32(failure.code)),
                message: failure.message,
                kind: failure.kind.try_into()?,
            })
        };
        Ok(Self {
            op: op(json.op)?,
            result: json.failure.map(failure).transpose()?.map_or(Ok(()), Err),
        })
    }
}

impl From<NodeFailureKind> for KindJson {
    fn from(kind: NodeFailureKind) -> Self {
        match kind {
            NodeFailureKind::Crash => Self::Crash,
            NodeFailureKind::SandboxGone => Self::SandboxGone,
            NodeFailureKind::StaleFence {
                of: Fenced::Actor,
                highest,
            } => Self::StaleActorFence(highest.0),
            NodeFailureKind::StaleFence {
                of: Fenced::Worker,
                highest,
            } => Self::StaleWorkerFence(highest.0),
            NodeFailureKind::Busy => Self::Busy,
            NodeFailureKind::SessionOver => Self::SessionOver,
            NodeFailureKind::Occupied => Self::Occupied,
            NodeFailureKind::Unreachable => Self::Unreachable,
            NodeFailureKind::NotBegun => Self::NotBegun,
            NodeFailureKind::Failed => Self::Failed,
        }
    }
}

impl TryFrom<KindJson> for NodeFailureKind {
    type Error = TooHigh;

    fn try_from(json: KindJson) -> Result<Self, TooHigh> {
        Ok(match json {
            KindJson::Crash => Self::Crash,
            KindJson::SandboxGone => Self::SandboxGone,
            KindJson::StaleActorFence(highest) => Self::StaleFence {
                of: Fenced::Actor,
                highest: highest.try_into()?,
            },
            KindJson::StaleWorkerFence(highest) => Self::StaleFence {
                of: Fenced::Worker,
                highest: highest.try_into()?,
            },
            KindJson::Busy => Self::Busy,
            KindJson::SessionOver => Self::SessionOver,
            KindJson::Occupied => Self::Occupied,
            KindJson::Unreachable => Self::Unreachable,
            KindJson::NotBegun => Self::NotBegun,
            KindJson::Failed => Self::Failed,
        })
    }
}

fn op(text: String) -> Result<OpId, EntryError> {
    text.parse().map_err(|error| EntryError::OpId(text, error))
}
