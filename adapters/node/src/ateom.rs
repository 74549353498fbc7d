//! The node's end of the connections to its ateoms.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_core::catalog::{Container, Scope};
use holdfast_core::id::{ActorKey, Name, PodUid};
use holdfast_core::node::{Order, Tend};
use holdfast_core::time::Instant;
use holdfast_core::worker::Duty;
use holdfast_rpc::ateom::ateom_client::AteomClient;
use holdfast_rpc::ateom::{
    self, CheckpointWorkloadRequest, RestoreWorkloadRequest, RunWorkloadRequest, SnapshotScope,
};
use holdfast_rpc::holdfast_v1::worker_control_client::WorkerControlClient;
use holdfast_rpc::holdfast_v1::{
    DescribeRequest, ExtendWorkloadRequest, FreezeWorkloadRequest, StopWorkloadRequest, ThawWorkloadRequest,
    WorkerState,
};
use holdfast_rpc::metadata::Credentials;
use holdfast_rpc::trace;
use holdfast_runtime::net::{Address, Channel, Transport, deadline};
use holdfast_runtime::tokio::task::spawn_blocking;
use holdfast_sandbox::layout::Layout;
use holdfast_sandbox::names::{ActorRef, Label};
use tonic::{Request, Response, Status};

use crate::assets::{Paths, RUNSC};
use crate::original::{self, Original};
use crate::work::StepError;
use crate::workers::SocketMark;

/// How long ateom may take to hear for how long its actor may run.
const TENDED_WITHIN: Duration = Duration::from_secs(5);
/// How long ateom may take to say what it has.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// All ateoms of this node.
pub(crate) struct Ateoms {
    layout: Layout,
    /// How long ateom may take for one operation.
    limit: Duration,
    /// What workers with the original's ateom are good for.
    originals: Duty,
    workers: Mutex<BTreeMap<PodUid, Worker>>,
}

struct Worker {
    channel: Channel,
    /// Whose sandbox is there, alive or not.
    occupant: Option<ActorRef>,
    /// What is known of it, if it is the original's.
    original: Option<Arc<Original>>,
}

impl Ateoms {
    pub fn new(layout: Layout, limit: Duration, originals: Duty) -> Self {
        Self {
            layout,
            limit,
            originals,
            workers: Mutex::default(),
        }
    }

    /// Where workers have their directories.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where a worker's ateom serves.
    pub fn address(&self, worker: &PodUid) -> Result<Address, StepError> {
        let uid = Label::parse("target ateom UID", worker.as_str())?;
        Ok(Address::Unix(self.layout.worker_socket(&uid)))
    }

    /// The connection to a worker's ateom, dialled when it is first used.
    pub fn channel(&self, worker: &PodUid) -> Result<Channel, StepError> {
        let address = self.address(worker)?;
        let mut workers = self.lock();
        let known = workers.entry(worker.clone()).or_insert_with(|| Worker {
            channel: Channel::new(address, Transport::default()),
            occupant: None,
            original: None,
        });
        Ok(known.channel.clone())
    }

    /// What is known of a worker's ateom, if it is the original's.
    pub fn original(&self, worker: &PodUid) -> Option<Arc<Original>> {
        self.lock().get(worker)?.original.clone()
    }

    /// The same, of the run that has this socket: from now on it is known to be the original's.
    pub async fn original_at(&self, worker: &PodUid, socket: SocketMark) -> Arc<Original> {
        if let Some(known) = self.original(worker).filter(|known| known.has(socket)) {
            return known;
        }
        let (layout, uid) = (self.layout.clone(), worker.clone());
        let occupant = spawn_blocking(move || original::occupant(&layout, &uid, socket)).await;
        let original = Arc::new(Original::new(worker, socket, occupant.ok().flatten()));
        if let Some(known) = self.lock().get_mut(worker) {
            known.original = Some(original.clone());
        }
        original::announce(worker, self.originals);
        original
    }

    /// What a worker is good for, of which this is said.
    pub fn duty(&self, worker: &PodUid, said: Duty) -> Duty {
        match self.original(worker) {
            Some(_) if said == Duty::Serving => self.originals,
            _ => said,
        }
    }

    /// Takes note of what a worker's ateom says of its sandbox.
    pub fn note(&self, worker: &PodUid, occupant: Option<ActorRef>) {
        if let Some(known) = self.lock().get_mut(worker) {
            known.occupant = occupant;
        }
    }

    /// Whose sandbox a worker has, alive or not, as its ateom said last.
    pub fn occupant(&self, worker: &PodUid) -> Option<ActorRef> {
        self.lock().get(worker)?.occupant.clone()
    }

    /// Whether the worker has been dialled, and has not gone since.
    pub fn knows(&self, worker: &PodUid) -> bool {
        self.lock().contains_key(worker)
    }

    /// Forgets a worker that is gone.
    pub fn forget(&self, worker: &PodUid) {
        self.lock().remove(worker);
    }

    /// Boots an actor from its bundles; it may run `until` then, if anything bounds it.
    pub async fn run(
        &self,
        order: &Order,
        actor: &ActorRef,
        assets: &Paths,
        until: Option<Instant>,
    ) -> Result<(), StepError> {
        let (runsc_path, runtime_asset_paths) = paths(assets);
        let request = RunWorkloadRequest {
            actor_template_namespace: actor.template_namespace().to_owned(),
            actor_template_name: actor.template_name().to_owned(),
            actor_id: actor.actor_id().to_owned(),
            runsc_path,
            spec: Some(spec(order)),
            runtime_asset_paths,
        };
        let mut client = AteomClient::new(self.channel(&order.worker)?);
        let call = async {
            client
                .run_workload(with_credentials(order, actor, until, request)?)
                .await
        };
        let original = self.original(&order.worker);
        original::boot(original, order, actor, self.limited(order, call)).await
    }

    /// Restores an actor from the files in its restore directory; it may run `until` then, if anything
    /// bounds it.
    pub async fn restore(
        &self,
        order: &Order,
        actor: &ActorRef,
        assets: &Paths,
        scope: Scope,
        until: Option<Instant>,
    ) -> Result<(), StepError> {
        let (runsc_path, runtime_asset_paths) = paths(assets);
        let request = RestoreWorkloadRequest {
            actor_template_namespace: actor.template_namespace().to_owned(),
            actor_template_name: actor.template_name().to_owned(),
            actor_id: actor.actor_id().to_owned(),
            runsc_path,
            spec: Some(spec(order)),
            snapshot_uri_prefix: String::new(),
            runtime_asset_paths,
            scope: wire_scope(scope) as i32,
        };
        let mut client = AteomClient::new(self.channel(&order.worker)?);
        let call = async {
            client
                .restore_workload(with_credentials(order, actor, until, request)?)
                .await
        };
        let original = self.original(&order.worker);
        original::boot(original, order, actor, self.limited(order, call)).await
    }

    /// Checkpoints an actor into its checkpoint directory and ends its sandbox; the names of the files.
    pub async fn checkpoint(
        &self,
        order: &Order,
        actor: &ActorRef,
        assets: &Paths,
        scope: Scope,
    ) -> Result<Vec<String>, StepError> {
        let (runsc_path, runtime_asset_paths) = paths(assets);
        let request = CheckpointWorkloadRequest {
            actor_template_namespace: actor.template_namespace().to_owned(),
            actor_template_name: actor.template_name().to_owned(),
            actor_id: actor.actor_id().to_owned(),
            runsc_path,
            spec: Some(spec(order)),
            snapshot_uri_prefix: String::new(),
            runtime_asset_paths,
            scope: wire_scope(scope) as i32,
        };
        let mut client = AteomClient::new(self.channel(&order.worker)?);
        let call = async {
            client
                .checkpoint_workload(with_credentials(order, actor, None, request)?)
                .await
        };
        let answer = self.limited(order, call).await?;
        if let Some(original) = self.original(&order.worker) {
            original.vacated();
        }
        Ok(answer.into_inner().snapshot_files)
    }

    /// Ends an actor's sandbox on the order's worker, if it is there.
    pub async fn stop(&self, order: &Order, actor: &ActorRef) -> Result<(), StepError> {
        if let Some(original) = self.original(&order.worker) {
            return original.stopped(&order.worker, actor);
        }
        let request = StopWorkloadRequest {
            actor_template_namespace: actor.template_namespace().to_owned(),
            actor_template_name: actor.template_name().to_owned(),
            actor_id: actor.actor_id().to_owned(),
        };
        let mut client = WorkerControlClient::new(self.channel(&order.worker)?);
        let call = async { client.stop(with_credentials(order, actor, None, request)?).await };
        self.limited(order, call).await.map(drop)
    }

    /// Lets a frozen actor go on until then.
    pub async fn thaw(&self, order: &Order, actor: &ActorRef, until: Instant) -> Result<(), StepError> {
        let request = thaw(actor, until);
        let mut client = WorkerControlClient::new(self.channel(&order.worker)?);
        let call = async { client.thaw(about(actor, request)?).await };
        self.limited(order, call).await.map(drop)
    }

    /// Tells a worker for how long its actor may run.
    pub async fn tend(
        &self,
        worker: &PodUid,
        actor: &ActorKey,
        template: &(Name, Name),
        tend: Tend,
    ) -> Result<(), StepError> {
        // Nothing can hold its sandbox still, and nothing was promised for it.
        if self.original(worker).is_some() {
            return Ok(());
        }
        let actor = ActorRef::parse(template.0.as_str(), template.1.as_str(), actor.name.as_str())?
            .within(Some(actor.atespace.as_str()))?;
        let mut client = WorkerControlClient::new(self.channel(worker)?);
        let call = async {
            match tend {
                Tend::Extend(until) => client
                    .extend(about(&actor, extend(&actor, until))?)
                    .await
                    .map(drop),
                Tend::Freeze => client.freeze(about(&actor, freeze(&actor))?).await.map(drop),
                Tend::Thaw(until) => client.thaw(about(&actor, thaw(&actor, until))?).await.map(drop),
            }
        };
        deadline(TENDED_WITHIN, call)
            .await
            .map_err(|status| StepError::Ateom {
                worker: worker.clone(),
                status,
            })
    }

    /// What a worker's ateom has, now.
    pub async fn describe(&self, worker: &PodUid) -> Result<WorkerState, StepError> {
        if let Some(original) = self.original(worker) {
            return Ok(original.state());
        }
        let mut client = WorkerControlClient::new(self.channel(worker)?);
        let call = async { client.describe(DescribeRequest {}).await };
        deadline(ANSWERED_WITHIN, call)
            .await
            .map(Response::into_inner)
            .map_err(|status| StepError::Ateom {
                worker: worker.clone(),
                status,
            })
    }

    async fn limited<T>(
        &self,
        order: &Order,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, StepError> {
        deadline(self.limit, call)
            .await
            .map_err(|status| StepError::Ateom {
                worker: order.worker.clone(),
                status,
            })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodUid, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `message` with the order's fences and its operation, so that ateom knows a repetition, and with the
/// atespace under which ateom knows, or is to know, the actor.
fn with_credentials<T>(
    order: &Order,
    actor: &ActorRef,
    until: Option<Instant>,
    message: T,
) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let credentials = Credentials {
        actor_fence: Some(order.fence).filter(|fence| fence.0 > 0),
        worker_fence: Some(order.worker_fence).filter(|fence| fence.0 > 0),
        operation: order.op,
        incarnation: Some(order.incarnation).filter(|incarnation| incarnation.0 > 0),
        atespace: actor.atespace().map(Name::from),
        until,
        ..Credentials::default()
    };
    credentials.write(request.metadata_mut())?;
    trace::inject(request.metadata_mut());
    Ok(request)
}

/// `message` about an actor, and of no operation: the sandbox stays the one of the operation that brought it.
fn about<T>(actor: &ActorRef, message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let credentials = Credentials {
        atespace: actor.atespace().map(Name::from),
        ..Credentials::default()
    };
    credentials.write(request.metadata_mut())?;
    Ok(request)
}

fn extend(actor: &ActorRef, until: Instant) -> ExtendWorkloadRequest {
    ExtendWorkloadRequest {
        actor_template_namespace: actor.template_namespace().to_owned(),
        actor_template_name: actor.template_name().to_owned(),
        actor_id: actor.actor_id().to_owned(),
        until_us: until.as_micros(),
    }
}

fn freeze(actor: &ActorRef) -> FreezeWorkloadRequest {
    FreezeWorkloadRequest {
        actor_template_namespace: actor.template_namespace().to_owned(),
        actor_template_name: actor.template_name().to_owned(),
        actor_id: actor.actor_id().to_owned(),
    }
}

fn thaw(actor: &ActorRef, until: Instant) -> ThawWorkloadRequest {
    ThawWorkloadRequest {
        actor_template_namespace: actor.template_namespace().to_owned(),
        actor_template_name: actor.template_name().to_owned(),
        actor_id: actor.actor_id().to_owned(),
        until_us: Some(until.as_micros()),
    }
}

/// The runsc binary, and all assets by name.
fn paths(assets: &Paths) -> (String, BTreeMap<String, String>) {
    let text = |path: &PathBuf| path.display().to_string();
    let runsc = assets.get(RUNSC).map(text).unwrap_or_default();
    let all = assets.iter().map(|(name, path)| (name.clone(), text(path)));
    (runsc, all.collect())
}

fn spec(order: &Order) -> ateom::WorkloadSpec {
    let volumes = &order.workload.durable_volumes;
    let container = |container: &Container| ateom::Container {
        name: container.name.to_string(),
        readyz: container.readyz.as_ref().map(|readyz| ateom::Readyz {
            http_get: Some(ateom::HttpGetAction {
                path: readyz.path.to_string(),
                port: i32::from(readyz.port),
            }),
        }),
        durable_dir_volumes: {
            let durable = container
                .mounts
                .iter()
                .filter(|mount| volumes.contains(&mount.volume));
            durable.map(|mount| mount.path.to_string()).collect()
        },
    };
    ateom::WorkloadSpec {
        containers: order.workload.containers.iter().map(container).collect(),
    }
}

fn wire_scope(scope: Scope) -> SnapshotScope {
    match scope {
        Scope::Full => SnapshotScope::Full,
        Scope::Data => SnapshotScope::Data,
    }
}
