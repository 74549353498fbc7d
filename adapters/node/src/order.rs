//! Requests as orders: what is wrong with one is said in the original's order and words (compat.md 7.2).
//!
//! Whatever becomes part of a path passes through a type that checks it; nothing else of a request does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use holdfast_core::catalog::{
    AssetFile, Container, Env, EnvValue, Mount, Readyz, SandboxAssets, Scope, Workload,
};
use holdfast_core::effect::{Place, Verb};
use holdfast_core::id::{ActorKey, Name, PodUid};
use holdfast_core::name::check_atespace;
use holdfast_core::node::Order;
use holdfast_objects::{LocalName, SnapshotUri};
use holdfast_rpc::atelet::{
    self, CheckpointRequest, CheckpointType, ExternalCheckpointConfiguration, LocalCheckpointConfiguration,
    RestoreRequest, RunRequest, SnapshotScope, VolumeType,
};
use holdfast_rpc::holdfast_v1::{DiscardRequest, StopRequest, ThawRequest, UploadRequest};
use holdfast_rpc::metadata::Credentials;
use holdfast_sandbox::names::{ActorRef, Label};
use tonic::{Request, Status};

use crate::disposal::Discard;

/// More snapshots than any record remembers to have let go of.
const DISCARDED_MAX: usize = 1024;

/// An order to boot an actor. `architecture` is this machine's, in the names Go has for them.
///
/// # Errors
/// `InvalidArgument` with the first rule that the request breaks.
pub(crate) fn run(request: Request<RunRequest>, architecture: &str) -> Result<Order, Status> {
    let (credentials, message) = taken(request);
    let target = Target::of(
        &message.target_ateom_uid,
        &message.actor_template_namespace,
        &message.actor_template_name,
        &message.actor_id,
    )?;
    let workload = workload(message.spec)?;
    let assets = message
        .sandbox_assets
        .ok_or_else(|| Status::invalid_argument("missing sandbox_assets"))?;
    if !assets.assets.contains_key(architecture) {
        return Err(Status::invalid_argument(format!(
            "sandbox_assets has no assets for architecture \"{architecture}\""
        )));
    }
    let assets = sandbox_assets(assets);
    Ok(target.order(credentials?, workload, Verb::Run { assets }))
}

/// An order to put an actor to sleep.
///
/// # Errors
/// `InvalidArgument` with the first rule that the request breaks.
pub(crate) fn checkpoint(request: Request<CheckpointRequest>) -> Result<Order, Status> {
    use atelet::checkpoint_request::Config;
    let (credentials, message) = taken(request);
    let target = Target::of(
        &message.target_ateom_uid,
        &message.actor_template_namespace,
        &message.actor_template_name,
        &message.actor_id,
    )?;
    let workload = workload(message.spec)?;
    let scope = scope(message.scope)?;
    let (local, external) = match message.config {
        Some(Config::LocalConfig(local)) => (Some(local), None),
        Some(Config::ExternalConfig(external)) => (None, Some(external)),
        None => (None, None),
    };
    let to = place(message.r#type, local, external)?;
    Ok(target.order(credentials?, workload, Verb::Checkpoint { to, scope }))
}

/// An order to wake an actor.
///
/// # Errors
/// `InvalidArgument` with the first rule that the request breaks.
pub(crate) fn restore(request: Request<RestoreRequest>) -> Result<Order, Status> {
    use atelet::restore_request::Config;
    let (credentials, message) = taken(request);
    let target = Target::of(
        &message.target_ateom_uid,
        &message.actor_template_namespace,
        &message.actor_template_name,
        &message.actor_id,
    )?;
    let workload = workload(message.spec)?;
    let scope = scope(message.scope)?;
    let (local, external) = match message.config {
        Some(Config::LocalConfig(local)) => (Some(local), None),
        Some(Config::ExternalConfig(external)) => (None, Some(external)),
        None => (None, None),
    };
    let from = place(message.r#type, local, external)?;
    Ok(target.order(credentials?, workload, Verb::Restore { from, scope }))
}

/// An order to see to it that nothing runs for an actor.
///
/// # Errors
/// `InvalidArgument` with the first rule that the request breaks.
pub(crate) fn stop(request: Request<StopRequest>) -> Result<Order, Status> {
    let (credentials, message) = taken(request);
    let target = Target::of(
        &message.target_ateom_uid,
        &message.actor_template_namespace,
        &message.actor_template_name,
        &message.actor_id,
    )?;
    let credentials = in_atespace(credentials?, message.atespace)?;
    Ok(target.order(credentials, Workload::default(), Verb::Stop))
}

/// An order to let a frozen actor go on.
///
/// # Errors
/// `InvalidArgument` with the first rule that the request breaks.
pub(crate) fn thaw(request: Request<ThawRequest>) -> Result<Order, Status> {
    let (credentials, message) = taken(request);
    let target = Target::of(
        &message.target_ateom_uid,
        &message.actor_template_namespace,
        &message.actor_template_name,
        &message.actor_id,
    )?;
    let credentials = in_atespace(credentials?, message.atespace)?;
    Ok(target.order(credentials, Workload::default(), Verb::Thaw))
}

/// An order to copy a local snapshot to the object store. The worker that wrote it may be gone.
///
/// # Errors
/// `InvalidArgument` with the first rule that the request breaks.
pub(crate) fn upload(request: Request<UploadRequest>) -> Result<Order, Status> {
    let (credentials, message) = taken(request);
    let target = Target {
        actor: actor_ref(
            &message.actor_template_namespace,
            &message.actor_template_name,
            &message.actor_id,
        )?,
        worker: match message.target_ateom_uid.as_str() {
            "" => PodUid::default(),
            uid => worker(uid)?,
        },
    };
    let name: LocalName = message.snapshot_prefix.parse().map_err(invalid)?;
    let to = SnapshotUri::parse(&message.snapshot_uri_prefix).map_err(invalid)?;
    let credentials = in_atespace(credentials?, message.atespace)?;
    let verb = Verb::Upload {
        name: name.as_str().into(),
        to: to.to_string().into(),
    };
    Ok(target.order(credentials, Workload::default(), verb))
}

/// Which snapshots are to be deleted. It is no order: nobody can hold them, and whoever asks for it twice has
/// asked for it once.
///
/// # Errors
/// `InvalidArgument` with the first rule that the request breaks.
pub(crate) fn discard(request: Request<DiscardRequest>) -> Result<Discard, Status> {
    let message = request.into_inner();
    let actor = actor_ref(
        &message.actor_template_namespace,
        &message.actor_template_name,
        &message.actor_id,
    )?;
    let count = message.snapshot_prefixes.len() + message.snapshot_uri_prefixes.len();
    if count > DISCARDED_MAX {
        return Err(invalid(format!(
            "{count} snapshots are too many at once: at most {DISCARDED_MAX}"
        )));
    }
    let local = message.snapshot_prefixes.iter().map(|name| name.parse());
    let external = message.snapshot_uri_prefixes.iter().map(|uri| {
        let uri = SnapshotUri::parse(uri).map_err(invalid)?;
        // A bucket as a whole is nobody's snapshot.
        match uri.path() {
            "" => Err(invalid(format!(
                "invalid snapshot URI prefix \"{uri}\": it names a bucket"
            ))),
            _ => Ok(uri),
        }
    });
    Ok(Discard {
        actor: actor.within(Some(&message.atespace)).map_err(invalid)?,
        local: local.collect::<Result<_, _>>().map_err(invalid)?,
        external: external.collect::<Result<_, _>>()?,
    })
}

/// Whom a request is about.
struct Target {
    actor: ActorRef,
    worker: PodUid,
}

impl Target {
    fn of(uid: &str, namespace: &str, template: &str, actor_id: &str) -> Result<Self, Status> {
        Ok(Self {
            actor: actor_ref(namespace, template, actor_id)?,
            worker: worker(uid)?,
        })
    }

    fn order(self, credentials: Credentials, workload: Workload, verb: Verb) -> Order {
        let atespace = credentials.atespace.unwrap_or_default();
        Order {
            worker: self.worker,
            worker_fence: credentials.worker_fence.unwrap_or_default(),
            actor: ActorKey::new(atespace, self.actor.actor_id()),
            incarnation: credentials.incarnation.unwrap_or_default(),
            fence: credentials.actor_fence.unwrap_or_default(),
            op: credentials.operation,
            template: (
                self.actor.template_namespace().into(),
                self.actor.template_name().into(),
            ),
            workload: Arc::new(workload),
            session: credentials.session.unwrap_or_default(),
            run: credentials.run.unwrap_or_default(),
            verb,
        }
    }
}

/// The original's rules come first; what only we send is looked at when the rest is in order.
fn taken<T>(request: Request<T>) -> (Result<Credentials, Status>, T) {
    (Credentials::read(request.metadata()), request.into_inner())
}

/// The message's atespace goes before the metadata's.
fn in_atespace(mut credentials: Credentials, atespace: String) -> Result<Credentials, Status> {
    if !atespace.is_empty() {
        check_atespace(&atespace).map_err(|failure| Status::invalid_argument(failure.message))?;
        credentials.atespace = Some(atespace.into());
    }
    Ok(credentials)
}

fn actor_ref(namespace: &str, template: &str, actor_id: &str) -> Result<ActorRef, Status> {
    ActorRef::parse(namespace, template, actor_id).map_err(invalid)
}

fn worker(uid: &str) -> Result<PodUid, Status> {
    let uid = Label::parse("target ateom UID", uid).map_err(invalid)?;
    Ok(uid.as_str().into())
}

fn workload(spec: Option<atelet::WorkloadSpec>) -> Result<Workload, Status> {
    let spec = spec.unwrap_or_default();
    let mut names = BTreeSet::new();
    for container in &spec.containers {
        let name = Label::container(&container.name).map_err(invalid)?;
        if !names.insert(name) {
            return Err(invalid(format!(
                "duplicate container name \"{}\"",
                container.name
            )));
        }
    }
    let mut durable_volumes = Vec::with_capacity(spec.volumes.len());
    for volume in spec.volumes {
        let kind = volume.r#type();
        let name = Label::parse("volume name", &volume.name).map_err(invalid)?;
        if kind != VolumeType::DurableDir {
            let kind = kind.as_str_name();
            return Err(invalid(format!("volume \"{name}\" has unsupported type {kind}")));
        }
        let name = Name::from(name.as_str());
        if durable_volumes.contains(&name) {
            return Err(invalid(format!("duplicate volume name \"{name}\"")));
        }
        durable_volumes.push(name);
    }
    let containers = spec.containers.into_iter();
    Ok(Workload {
        pause_image: spec.pause_image.into(),
        containers: containers
            .map(|container| self::container(container, &durable_volumes))
            .collect::<Result<_, _>>()?,
        durable_volumes,
    })
}

fn container(container: atelet::Container, volumes: &[Name]) -> Result<Container, Status> {
    let name = container.name;
    let mut mounts = Vec::with_capacity(container.volume_mounts.len());
    for mount in container.volume_mounts {
        let (volume, path) = (Name::from(mount.name), Name::from(mount.mount_path));
        if !volumes.contains(&volume) {
            return Err(invalid(format!(
                "container \"{name}\" mounts volume \"{volume}\", which the spec does not have"
            )));
        }
        mounts.push(Mount { volume, path });
    }
    let readyz = match container.readyz.and_then(|readyz| readyz.http_get) {
        None => None,
        Some(get) => {
            let port = u16::try_from(get.port)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| {
                    invalid(format!(
                        "container \"{name}\": readyz port {} is not 1 to 65535",
                        get.port
                    ))
                })?;
            Some(Readyz {
                path: get.path.into(),
                port,
            })
        }
    };
    let env = container.env.into_iter().map(|entry| Env {
        name: entry.name.into(),
        value: EnvValue::Literal(entry.value.into()),
    });
    Ok(Container {
        name: name.into(),
        image: container.image.into(),
        command: container.command.into_iter().map(Name::from).collect(),
        env: env.collect(),
        readyz,
        mounts,
    })
}

fn sandbox_assets(assets: atelet::SandboxAssets) -> SandboxAssets {
    let by_arch = assets.assets.into_iter().map(|(arch, files)| {
        let files = files.files.into_iter().map(|(name, file)| {
            let file = AssetFile {
                url: file.url.into(),
                sha256: file.sha256.into(),
            };
            (Name::from(name), file)
        });
        (Name::from(arch), files.collect::<BTreeMap<_, _>>())
    });
    SandboxAssets {
        sandbox_class: assets.sandbox_class.into(),
        assets: by_arch.collect(),
    }
}

fn scope(scope: i32) -> Result<Scope, Status> {
    match SnapshotScope::try_from(scope) {
        Ok(SnapshotScope::Full) => Ok(Scope::Full),
        Ok(SnapshotScope::Data) => Ok(Scope::Data),
        Ok(SnapshotScope::Unspecified) => Err(invalid("snapshot scope must be non-zero")),
        Err(_) => Err(invalid(format!("invalid snapshot scope: {scope}"))),
    }
}

fn place(
    kind: i32,
    local: Option<LocalCheckpointConfiguration>,
    external: Option<ExternalCheckpointConfiguration>,
) -> Result<Place, Status> {
    match CheckpointType::try_from(kind) {
        Ok(CheckpointType::External) => {
            let prefix = external.unwrap_or_default().snapshot_uri_prefix;
            let uri = SnapshotUri::parse(&prefix).map_err(invalid)?;
            Ok(Place::External(uri.to_string().into()))
        }
        Ok(CheckpointType::Local) => {
            let prefix = local.unwrap_or_default().snapshot_prefix;
            if prefix.is_empty() {
                return Err(invalid(
                    "snapshot prefix must be non-empty for type CHECKPOINT_TYPE_LOCAL",
                ));
            }
            let name: LocalName = prefix.parse().map_err(invalid)?;
            Ok(Place::Local(name.as_str().into()))
        }
        Ok(other) => Err(invalid(format!(
            "invalid checkpoint type: {}",
            other.as_str_name()
        ))),
        Err(_) => Err(invalid(format!("invalid checkpoint type: {kind}"))),
    }
}

fn invalid(why: impl Display) -> Status {
    Status::invalid_argument(why.to_string())
}

#[cfg(test)]
mod tests;
