//! The record of an actor.

use std::collections::BTreeMap;

use holdfast_core::actor::{
    Actor, Assignment, Boot, Claim, Crash, Garbage, Loss, Snapshot, Source, State, Status, Transition,
};
use holdfast_core::catalog::Selector;
use holdfast_core::id::{ActorKey, Fence, Incarnation, LeaseToken, Name, OpId, Version, WorkerKey};
use serde::{Deserialize, Serialize};

use super::scalar::{Count, Id, Int, Named, Text, Wire};
use super::template::TemplateJson;
use super::{RecordFault, VERSION, Versioned, missing, original};

impl Named for Status {
    const WHAT: &'static str = "status of an actor";
    const TABLE: &'static [(Status, &'static str, u64)] = &[
        (Status::Resuming, "STATUS_RESUMING", 1),
        (Status::Running, "STATUS_RUNNING", 2),
        (Status::Suspending, "STATUS_SUSPENDING", 3),
        (Status::Suspended, "STATUS_SUSPENDED", 4),
        (Status::Pausing, "STATUS_PAUSING", 5),
        (Status::Paused, "STATUS_PAUSED", 6),
        (Status::Crashed, "STATUS_CRASHED", 7),
    ];
}

impl Named for Transition {
    const WHAT: &'static str = "transition";
    const TABLE: &'static [(Transition, &'static str, u64)] = &[
        (Transition::Resume, "RESUME", 1),
        (Transition::Suspend, "SUSPEND", 2),
        (Transition::Pause, "PAUSE", 3),
    ];
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SnapshotType {
    #[default]
    Unspecified,
    Local,
    External,
}

impl Named for SnapshotType {
    const WHAT: &'static str = "type of snapshot";
    const TABLE: &'static [(SnapshotType, &'static str, u64)] = &[
        (SnapshotType::Unspecified, "SNAPSHOT_TYPE_UNSPECIFIED", 0),
        (SnapshotType::Local, "SNAPSHOT_TYPE_LOCAL", 1),
        (SnapshotType::External, "SNAPSHOT_TYPE_EXTERNAL", 2),
    ];
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ActorJson {
    pub(super) version: Count<Version>,
    #[serde(alias = "actor_id", skip_serializing_if = "Text::is_empty")]
    pub(super) actor_id: Text,
    #[serde(alias = "actor_template_namespace", skip_serializing_if = "Text::is_empty")]
    pub(super) actor_template_namespace: Text,
    #[serde(alias = "actor_template_name", skip_serializing_if = "Text::is_empty")]
    pub(super) actor_template_name: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<Wire<Status>>,
    #[serde(alias = "ateom_pod_namespace", skip_serializing_if = "Text::is_empty")]
    pub(super) ateom_pod_namespace: Text,
    #[serde(alias = "ateom_pod_name", skip_serializing_if = "Text::is_empty")]
    pub(super) ateom_pod_name: Text,
    #[serde(alias = "ateom_pod_ip", skip_serializing_if = "Text::is_empty")]
    pub(super) ateom_pod_ip: Text,
    #[serde(alias = "in_progress_snapshot", skip_serializing_if = "Text::is_empty")]
    pub(super) in_progress_snapshot: Text,
    #[serde(alias = "ateom_pod_uid", skip_serializing_if = "Text::is_empty")]
    pub(super) ateom_pod_uid: Text,
    #[serde(alias = "latest_snapshot_info", skip_serializing_if = "Option::is_none")]
    pub(super) latest_snapshot_info: Option<SnapshotJson>,
    #[serde(alias = "worker_selector", skip_serializing_if = "Option::is_none")]
    pub(super) worker_selector: Option<SelectorJson>,
    #[serde(alias = "worker_pool_name", skip_serializing_if = "Text::is_empty")]
    pub(super) worker_pool_name: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub(super) atespace: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    holdfast: Option<Extra>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SnapshotJson {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<Wire<SnapshotType>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<ExternalJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<LocalJson>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct ExternalJson {
    #[serde(alias = "snapshot_uri_prefix")]
    snapshot_uri_prefix: Text,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct LocalJson {
    #[serde(alias = "snapshot_prefix")]
    snapshot_prefix: Text,
    #[serde(
        alias = "node_vms_with_local_snapshots",
        skip_serializing_if = "Vec::is_empty"
    )]
    node_vms_with_local_snapshots: Vec<Text>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SelectorJson {
    #[serde(alias = "match_labels", skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<Text, Text>,
}

/// What the original has no field for.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Extra {
    v: u64,
    incarnation: Int,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<Id<OpId>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fresh: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<LifeJson>,
    /// The node whose local snapshot is being suspended.
    #[serde(skip_serializing_if = "Text::is_empty")]
    source: Text,
    /// The snapshot being written, where it is not the one in progress.
    #[serde(skip_serializing_if = "Text::is_empty")]
    snapshot: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    crash: Option<CrashJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<LossJson>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    last_external: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    fallback: Text,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    garbage: Vec<GarbageJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<TemplateJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimJson {
    token: Id<LeaseToken>,
    fence: Count<Fence>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GarbageJson {
    snapshot: SnapshotJson,
    since: Count<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Id<LeaseToken>>,
}

/// What an assignment says beyond the original's fields.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LifeJson {
    incarnation: Text,
    node: Text,
    fence: Count<Fence>,
    #[serde(default, skip_serializing_if = "Int::is_zero")]
    session: Int,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CrashJson {
    during: Wire<Transition>,
    reason: Text,
    node: Text,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LossJson {
    namespace: Text,
    pool: Text,
    pod: Text,
    reason: Text,
}

impl Versioned for ActorJson {
    fn format(&self) -> Option<u64> {
        self.holdfast.as_ref().map(|extra| extra.v)
    }
}

impl From<&Actor> for ActorJson {
    fn from(actor: &Actor) -> ActorJson {
        let mut extra = Extra {
            v: VERSION,
            incarnation: Int(actor.incarnation.0),
            claim: actor.claim.map(|claim| ClaimJson {
                token: Id(claim.token),
                fence: Count(claim.fence),
            }),
            op: actor.operation().map(Id),
            loss: actor.loss.as_ref().map(LossJson::from),
            last_external: actor.last_external.as_ref().into(),
            fallback: actor.fallback.as_ref().into(),
            garbage: actor.garbage.iter().map(GarbageJson::from).collect(),
            template: actor.pinned.as_deref().map(TemplateJson::from),
            ..Extra::default()
        };
        match &actor.state {
            State::Resuming { boot, .. } => extra.fresh = *boot == Boot::Fresh,
            State::Suspending { from, snapshot, .. } => {
                if let Source::Local(node) = from {
                    extra.source = node.into();
                }
                extra.set_snapshot(snapshot, actor.in_progress.as_ref());
            }
            State::Pausing { snapshot, .. } => extra.set_snapshot(snapshot, actor.in_progress.as_ref()),
            State::Crashed(crash) => extra.crash = Some(CrashJson::from(crash)),
            State::Running { .. } | State::Suspended | State::Paused => {}
        }
        let mut record = ActorJson {
            version: Count(actor.version),
            actor_id: (&actor.key.name).into(),
            actor_template_namespace: (&actor.template_namespace).into(),
            actor_template_name: (&actor.template_name).into(),
            status: Some(Wire(actor.status())),
            in_progress_snapshot: actor.in_progress.as_ref().into(),
            latest_snapshot_info: actor.latest.as_ref().map(SnapshotJson::from),
            worker_selector: SelectorJson::of(&actor.selector),
            atespace: (&actor.key.atespace).into(),
            ..ActorJson::default()
        };
        if let Some(on) = actor.assignment() {
            record.ateom_pod_namespace = (&on.worker.namespace).into();
            record.ateom_pod_name = (&on.worker.pod).into();
            record.ateom_pod_ip = (&on.ip).into();
            record.ateom_pod_uid = (&on.pod_uid).into();
            record.worker_pool_name = (&on.worker.pool).into();
            extra.worker = Some(LifeJson {
                incarnation: (&on.incarnation).into(),
                node: (&on.node).into(),
                fence: Count(on.fence),
                session: Int(on.session),
            });
        }
        record.holdfast = Some(extra);
        record
    }
}

impl ActorJson {
    pub(super) fn into_actor(mut self) -> Result<Actor, RecordFault> {
        match self.holdfast.take() {
            Some(extra) => self.with(extra),
            None => original::adopt(self),
        }
    }

    /// The actor that one of our own records describes.
    fn with(self, extra: Extra) -> Result<Actor, RecordFault> {
        let state = self.state(&extra)?;
        Ok(Actor {
            key: ActorKey {
                atespace: self.atespace.0,
                name: self.actor_id.0,
            },
            version: self.version.0,
            incarnation: Incarnation(extra.incarnation.0),
            template_namespace: self.actor_template_namespace.0,
            template_name: self.actor_template_name.0,
            pinned: extra.template.map(|template| template.into_template().into()),
            selector: self
                .worker_selector
                .map(SelectorJson::into_selector)
                .unwrap_or_default(),
            state,
            claim: extra.claim.map(|claim| Claim {
                token: claim.token.0,
                fence: claim.fence.0,
            }),
            latest: self
                .latest_snapshot_info
                .map(SnapshotJson::into_snapshot)
                .transpose()?
                .flatten(),
            last_external: extra.last_external.some(),
            fallback: extra.fallback.some(),
            in_progress: self.in_progress_snapshot.some(),
            loss: extra.loss.map(LossJson::into_loss),
            garbage: let_go(extra.garbage)?,
        })
    }

    fn state(&self, extra: &Extra) -> Result<State, RecordFault> {
        let status = self.status.ok_or_else(|| missing("status"))?.0;
        let op = || extra.op.map(|op| op.0).ok_or_else(|| missing("holdfast.op"));
        let on = || {
            let life = extra.worker.as_ref().ok_or_else(|| missing("holdfast.worker"))?;
            Ok(Assignment {
                incarnation: life.incarnation.0.clone(),
                node: life.node.0.clone(),
                fence: life.fence.0,
                session: life.session.0,
                ..self.pod()
            })
        };
        let snapshot = || {
            let written = extra.snapshot.clone().some();
            written
                .or_else(|| self.in_progress_snapshot.clone().some())
                .ok_or_else(|| missing("inProgressSnapshot"))
        };
        Ok(match status {
            Status::Suspended => State::Suspended,
            Status::Paused => State::Paused,
            Status::Running => State::Running { on: on()? },
            Status::Resuming => State::Resuming {
                op: op()?,
                on: on()?,
                boot: if extra.fresh { Boot::Fresh } else { Boot::Golden },
            },
            Status::Suspending => {
                let from = match extra.source.clone().some() {
                    Some(node) => Source::Local(node),
                    None => Source::Worker(on()?),
                };
                State::Suspending {
                    op: op()?,
                    from,
                    snapshot: snapshot()?,
                }
            }
            Status::Pausing => State::Pausing {
                op: op()?,
                on: on()?,
                snapshot: snapshot()?,
            },
            Status::Crashed => {
                let crash = extra.crash.as_ref().ok_or_else(|| missing("holdfast.crash"))?;
                State::Crashed(Crash {
                    during: crash.during.0,
                    reason: crash.reason.0.clone(),
                    node: crash.node.0.clone(),
                })
            }
        })
    }

    /// The assignment as far as the original's fields tell it.
    pub(super) fn pod(&self) -> Assignment {
        Assignment {
            worker: WorkerKey {
                namespace: self.ateom_pod_namespace.0.clone(),
                pool: self.worker_pool_name.0.clone(),
                pod: self.ateom_pod_name.0.clone(),
            },
            pod_uid: self.ateom_pod_uid.0.clone(),
            incarnation: Name::default(),
            ip: self.ateom_pod_ip.0.clone(),
            node: Name::default(),
            fence: Fence(0),
            session: 0,
        }
    }
}

impl Extra {
    fn set_snapshot(&mut self, snapshot: &Name, in_progress: Option<&Name>) {
        if in_progress != Some(snapshot) {
            self.snapshot = snapshot.into();
        }
    }
}

impl From<&Snapshot> for SnapshotJson {
    fn from(snapshot: &Snapshot) -> SnapshotJson {
        match snapshot {
            Snapshot::External(prefix) => SnapshotJson {
                kind: Some(Wire(SnapshotType::External)),
                external: Some(ExternalJson {
                    snapshot_uri_prefix: prefix.into(),
                }),
                local: None,
            },
            Snapshot::Local { name, nodes } => SnapshotJson {
                kind: Some(Wire(SnapshotType::Local)),
                external: None,
                local: Some(LocalJson {
                    snapshot_prefix: name.into(),
                    node_vms_with_local_snapshots: nodes.iter().map(Text::from).collect(),
                }),
            },
        }
    }
}

impl From<&Garbage> for GarbageJson {
    fn from(garbage: &Garbage) -> GarbageJson {
        GarbageJson {
            snapshot: SnapshotJson::from(&garbage.snapshot),
            since: Count(garbage.since),
            by: garbage.by.map(Id),
        }
    }
}

/// All of them, each of which must be one.
pub(super) fn into_snapshots(records: Vec<SnapshotJson>) -> Result<Vec<Snapshot>, RecordFault> {
    records.into_iter().map(SnapshotJson::must_be_one).collect()
}

fn let_go(records: Vec<GarbageJson>) -> Result<Vec<Garbage>, RecordFault> {
    let garbage = |record: GarbageJson| {
        Ok(Garbage {
            snapshot: record.snapshot.must_be_one()?,
            since: record.since.0,
            by: record.by.map(|by| by.0),
        })
    };
    records.into_iter().map(garbage).collect()
}

impl SnapshotJson {
    fn must_be_one(self) -> Result<Snapshot, RecordFault> {
        let nothing = || RecordFault::Corrupt("a snapshot is named that is none".into());
        self.into_snapshot()?.ok_or_else(nothing)
    }

    pub(super) fn into_snapshot(self) -> Result<Option<Snapshot>, RecordFault> {
        let kind = self.kind.map(|kind| kind.0).unwrap_or_default();
        match (kind, self.external, self.local) {
            (SnapshotType::Unspecified, None, None) => Ok(None),
            (SnapshotType::External, Some(external), None) => {
                Ok(external.snapshot_uri_prefix.some().map(Snapshot::External))
            }
            (SnapshotType::Local, None, Some(local)) => {
                let nodes = local
                    .node_vms_with_local_snapshots
                    .into_iter()
                    .filter_map(Text::some)
                    .collect();
                Ok(local
                    .snapshot_prefix
                    .some()
                    .map(|name| Snapshot::Local { name, nodes }))
            }
            _ => Err(RecordFault::Corrupt(
                "a snapshot's type and its content disagree".into(),
            )),
        }
    }
}

impl SelectorJson {
    fn of(selector: &Selector) -> Option<SelectorJson> {
        let labels = || {
            selector
                .match_labels
                .iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect()
        };
        (!selector.match_labels.is_empty()).then(|| SelectorJson {
            match_labels: labels(),
        })
    }

    pub(super) fn into_selector(self) -> Selector {
        Selector {
            match_labels: self
                .match_labels
                .into_iter()
                .map(|(key, value)| (key.0, value.0))
                .collect(),
        }
    }
}

impl From<&Crash> for CrashJson {
    fn from(crash: &Crash) -> CrashJson {
        CrashJson {
            during: Wire(crash.during),
            reason: (&crash.reason).into(),
            node: (&crash.node).into(),
        }
    }
}

impl From<&Loss> for LossJson {
    fn from(loss: &Loss) -> LossJson {
        LossJson {
            namespace: (&loss.worker.namespace).into(),
            pool: (&loss.worker.pool).into(),
            pod: (&loss.worker.pod).into(),
            reason: (&loss.reason).into(),
        }
    }
}

impl LossJson {
    fn into_loss(self) -> Loss {
        Loss {
            worker: WorkerKey {
                namespace: self.namespace.0,
                pool: self.pool.0,
                pod: self.pod.0,
            },
            reason: self.reason.0,
        }
    }
}
