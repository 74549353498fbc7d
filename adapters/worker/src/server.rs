//! The life of a worker: clear up, serve, clear up.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_rpc::ateom::ateom_server::{AteomServer, SERVICE_NAME as ATEOM};
use holdfast_rpc::gate::Gate;
use holdfast_rpc::holdfast_v1::WorkerState;
use holdfast_rpc::holdfast_v1::worker_control_server::{SERVICE_NAME as CONTROL, WorkerControlServer};
use holdfast_rpc::reflection::introspected;
use holdfast_rpc::server::{Observers, serve_behind};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::entropy;
use holdfast_runtime::net::{Address, BindError, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_sandbox::layout::{self, Layout};
use holdfast_sandbox::names::{Label, NameError};
use holdfast_sandbox::network::{NetworkError, WorkerNetwork};
use holdfast_sandbox::reaper::Reaper;
use holdfast_sandbox::{Driver, SandboxError, sweep};
use thiserror::Error;
use tonic::service::Routes;

use crate::activity::Activity;
use crate::ateom::AteomService;
use crate::control::ControlService;
use crate::record::Record;
use crate::slot::Slot;
use crate::{Class, Config, Network};

/// Why a worker cannot start, or could not clear up after itself.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The pod's UID cannot name a socket.
    #[error("--pod-uid: {0}")]
    PodUid(#[from] NameError),
    /// Its directory cannot be made, or what is in it cannot be read.
    #[error("worker directory: {0}; the base directory must be writable for this user")]
    Directory(io::Error),
    /// It cannot become the reaper of its children.
    #[error("cannot reap orphaned processes: {0}")]
    Reaper(io::Error),
    /// The network of its actors cannot be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What an earlier incarnation left running cannot be ended.
    #[error("cannot end what an earlier incarnation left running in {path}: {source}", path = .path.display())]
    Leftover {
        /// The actor's directory.
        path: PathBuf,
        /// Why.
        source: SandboxError,
    },
    /// Its socket cannot be served.
    #[error("{}: {}; a socket's path holds at most 107 bytes", .0.address, .0.source)]
    Bind(BindError),
    /// The descriptions of its services are broken.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Its last sandbox could not be ended.
    #[error("the sandbox could not be ended: {}", .0.message())]
    Stop(tonic::Status),
    /// A step that must not panic did.
    #[error("defect in the worker: {0}")]
    Defect(#[from] tokio::task::JoinError),
}

/// Serves one worker until `shutdown`, or until nobody has called for [`Config::idle_exit`].
///
/// Told to stop, it first lets its actor be put to sleep, for [`Config::drain_timeout`] at most; see
/// [`WorkerState::draining`]. Then it finishes the operation in progress, ends the sandbox, and removes its socket
/// and its network.
/// Every child of this process must be spawned through its [`Reaper`].
///
/// # Errors
/// When it cannot start, or something is left behind at the end.
pub async fn run(config: Config, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Result<(), WorkerError> {
    let pod_uid = Label::parse("pod UID", &config.pod_uid)?;
    let layout = Layout::new(&config.base_dir);
    let record = Record::at(layout.worker_activation(&pod_uid));
    let reaper = Reaper::of_this_process().map_err(WorkerError::Reaper)?;

    layout::make_private_dir(&layout.worker(&pod_uid)).map_err(WorkerError::Directory)?;
    let socket = layout.worker_socket(&pod_uid);
    // Before anything is cleared up: who has the socket is the living worker of this pod.
    let listener = Listener::bind(&Address::Unix(socket.clone()))
        .await
        .map_err(WorkerError::Bind)?;
    let (uid, class) = (pod_uid, config.class);
    let prepared = tokio::task::spawn_blocking(move || prepare(&uid, class, reaper, record));
    let (driver, network, record) = prepared.await??;

    let state = WorkerState {
        ateom_incarnation: format!("{:016x}", entropy::fresh_u64()),
        pod_uid: config.pod_uid,
        ..WorkerState::default()
    };
    tracing::info!(socket = %socket.display(), incarnation = state.ateom_incarnation, class = ?config.class, "worker ready");
    let (slot, deaths) = Slot::new(driver, layout, record, clock.clone(), config.actor_log, state);
    let burying = tokio::spawn(slot.clone().bury(deaths));
    let enforcing = tokio::spawn(slot.clone().enforce());

    let activity = Activity::default();
    let ending = Shutdown::new();
    let ateom = AteomService {
        slot: slot.clone(),
        activity: activity.clone(),
    };
    let control = ControlService {
        slot: slot.clone(),
        activity: activity.clone(),
        shutdown: ending.clone(),
    };
    let routes = Routes::new(AteomServer::new(ateom)).add_service(WorkerControlServer::new(control));
    let (routes, _health) = introspected(routes, &[ATEOM, CONTROL]).await?;
    let draining = slot.clone();
    let stop = async move {
        let idle = async {
            match config.idle_exit {
                Some(limit) => activity.idle_for(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.triggered() => draining.drain(config.drain_timeout, &config.hurry).await,
            () = idle => {
                tracing::info!(limit = ?config.idle_exit, "nobody has called; stopping");
            }
        }
        ending.trigger();
    };
    let observers = Observers {
        tracer: config.tracer,
        ..Observers::default()
    };
    let (gate, transport) = (Gate::default(), Transport::default());
    serve_behind(gate, observers, listener, routes, transport, clock, stop).await;

    let closed = slot.close().await;
    burying.abort();
    enforcing.abort();
    let cleared = tokio::task::spawn_blocking(move || {
        let network = network.map_or(Ok(()), |network| network.remove());
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WorkerError::Directory(error)),
            _ => Ok(network?),
        }
    });
    cleared.await??;
    closed.map_err(WorkerError::Stop)
}

/// Ends what an earlier incarnation left, and makes ready for new sandboxes.
fn prepare(
    pod_uid: &Label,
    class: Class,
    reaper: &'static Reaper,
    record: Record,
) -> Result<(Driver, Option<Arc<WorkerNetwork>>, Record), WorkerError> {
    if let Some(dirs) = record.read().map_err(WorkerError::Directory)? {
        tracing::warn!(actor = %dirs.root().display(), "ending what an earlier incarnation left running");
        sweep(&dirs).map_err(|source| WorkerError::Leftover {
            path: dirs.root().to_owned(),
            source,
        })?;
        record.remove().map_err(WorkerError::Directory)?;
    }
    let network = match class {
        Class::Gvisor {
            network: Network::Netns,
        } => Some(Arc::new(WorkerNetwork::open(pod_uid)?)),
        Class::Gvisor {
            network: Network::None,
        }
        | Class::Process { .. } => None,
    };
    let driver = match class {
        Class::Gvisor { .. } => Driver::gvisor(reaper, network.clone()),
        Class::Process { address } => Driver::process(reaper, address),
    };
    Ok((driver, network, record))
}
