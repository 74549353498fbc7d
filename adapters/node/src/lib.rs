//! atelet: the node machine of the core, behind gRPC, with this machine's disk, images and sandboxes.
//!
//! ```text
//! AteomHerder, NodeControl (service) --Order--> Node machine --Output--> effects: journal, images, snapshots,
//!             ^                                     |                    bundles, ateoms, reports
//!             +--------------- Reply ---------------+
//! ```
//!
//! Nothing is decided here: services check the form of requests in the original's words, effects carry
//! out what the machine asks for, and answers go back the way they came.

mod assets;
mod ateom;
mod causes;
mod desk;
mod disposal;
mod effects;
mod heartbeat;
mod images;
mod journal;
mod order;
mod original;
mod rfc3339;
mod service;
mod settling;
mod tasks;
mod tending;
mod work;
mod workers;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::effect::NodeRow;
use holdfast_core::id::NodeName;
use holdfast_core::node::{Input, Memory, Node};
use holdfast_core::settings::{BrokenRelation, Settings};
use holdfast_images::{Cache, DiskError, PullOptions, Puller};
use holdfast_objects::Backend;
use holdfast_rpc::atelet::ateom_herder_server::{self, AteomHerderServer};
use holdfast_rpc::gate::Gate;
use holdfast_rpc::holdfast_v1::node_control_server::{self, NodeControlServer};
use holdfast_rpc::reflection::introspected;
use holdfast_rpc::server::Observers;
use holdfast_rpc::trace::Tracer;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{self, Address, BindError, Listener, ServerTls, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio::task::spawn_blocking;
use holdfast_runtime::tokio::{self, sync::watch};
use holdfast_runtime::{driver, entropy};
use holdfast_sandbox::layout::Layout;
use holdfast_telemetry::Telemetry;
use holdfast_telemetry::health::Readiness;
use holdfast_telemetry::node::Watching;
use tonic::service::Routes;

pub use holdfast_sandbox::confinement::refuse_links;
pub use journal::{FORMAT as JOURNAL_FORMAT, JournalError};

/// What it is called where several services are watched.
pub const SERVICE: &str = "atelet";

/// The base directory in a cluster.
pub const BASE_DIR: &str = "/var/lib/ateom-gvisor";

/// How often, and after which pause, a journal is tried that another process has open.
const JOURNAL_TRIES: u32 = 50;
const JOURNAL_RETRY: Duration = Duration::from_millis(100);

/// How much longer than its calls a node that stops may live, to report what became of them.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// Everything that a node needs from outside.
#[derive(Clone)]
pub struct Config {
    /// The node's name, by which the control plane knows it.
    pub node_name: NodeName,
    /// Where it serves.
    pub listen: Address,
    /// Where the control plane reaches it; `None`: where it serves.
    pub advertise: Option<Address>,
    /// The directory that it shares with its ateoms; see [`holdfast_sandbox::layout`].
    pub base_dir: PathBuf,
    /// Replicas of the control plane. It reports to one, and to the next when that does not answer.
    pub control_planes: Vec<Address>,
    /// Every duration.
    pub settings: Settings,
    /// Where external snapshots are.
    pub storage: holdfast_objects::Config,
    /// How images are pulled.
    pub images: PullOptions,
    /// What its sandboxes are.
    pub sandboxes: Sandboxes,
    /// Who may give it orders, and how it reaches the control plane.
    pub security: Security,
    /// Has spans of what it does.
    pub tracer: Tracer,
}

/// How the connections of a node are secured. By default they are plaintext.
#[derive(Clone, Default)]
pub struct Security {
    /// What it speaks where it serves, if it is TLS.
    pub server: Option<Arc<dyn ServerTls>>,
    /// How it reaches the control plane.
    pub control_planes: net::Security,
}

/// What the sandboxes of a node are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandboxes {
    /// gVisor's. `runsc` is used instead of the one that a SandboxConfig names.
    Gvisor {
        /// An installed runsc.
        runsc: Option<PathBuf>,
    },
    /// Plain processes, which need no files of their own.
    Process,
}

/// Why a node could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two settings do not fit together.
    #[error("settings: {0}")]
    Settings(#[from] BrokenRelation),
    /// It cannot listen where it should.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It serves where nobody else could reach it by that address.
    #[error("{0} is no address that others reach; say which is, with an advertise address")]
    Unreachable(Address),
    /// What it remembers cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The image cache cannot be used.
    #[error("image cache: {0}")]
    Images(#[from] DiskError),
    /// The base directory cannot be used.
    #[error("{path}: {source}", path = .path.display())]
    Disk {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Reflection could not be built from our own descriptors.
    #[error("reflection: {0}")]
    Reflection(String),
    /// The process is going down while the node begins.
    #[error("stopped before it could begin")]
    StoppedEarly,
}

/// Runs one node until `shutdown` is triggered. It then takes no more orders, lets what is under way end
/// (for at most [`Transport::drain_timeout`]), reports once more and returns; what has not ended is
/// remembered, and goes on when it is ordered again.
///
/// Dropping the future ends everything where it stands, as a kill would.
///
/// # Errors
/// If it could not begin to serve.
pub async fn run(config: Config, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Result<(), Error> {
    run_observed(config, Telemetry::new(SERVICE), clock, shutdown).await
}

/// The same, and `telemetry` has what operators want to know of it.
///
/// # Errors
/// If it could not begin to serve.
pub async fn run_observed(
    config: Config,
    telemetry: Telemetry,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    config.settings.check()?;
    let transport = Transport::default();
    let mut listener = Listener::bind(&config.listen).await?;
    if let Some(tls) = config.security.server {
        listener = listener.secured(tls);
    }
    let advertised = advertised(config.advertise.as_ref(), listener.address())?;
    let layout = Layout::new(&config.base_dir);
    let architecture: Arc<str> = config.images.platform.architecture.as_str().into();
    let backend = Arc::new(Backend::new(config.storage));
    let (journal, memory) = open_journal(&config.base_dir).await?;
    let (images, files, sandboxes) = (
        config.base_dir.join("images"),
        layout.static_files(),
        config.sandboxes,
    );
    let (arch, store) = (architecture.clone(), backend.clone());
    let opened = off_thread(move || {
        let cache = Cache::open(&images)?;
        let assets = assets::Assets::open(files.clone(), sandboxes, arch, store);
        let assets = assets.map_err(|source| Error::Disk { path: files, source })?;
        Ok((cache, assets))
    });
    let (cache, assets) = opened.await?;

    let (inbox, queue) = driver::inbox();
    let tracer = config.tracer;
    let desk = desk::Desk::new(inbox.clone());
    let stall_after = config.settings.pull.stall_after / 2;
    let puller = Puller::new(cache, config.images);
    let images = Arc::new(images::Images::new(puller, clock.clone(), stall_after));
    let ateoms = Arc::new(ateom::Ateoms::new(
        layout.clone(),
        config.settings.workflow.deadline,
        original::duty(&config.control_planes),
    ));
    let making_room = images.clone();
    let every = config.settings.node.heartbeat_every;
    let heartbeat = Arc::new(heartbeat::Heartbeat::new(
        &config.control_planes,
        &config.security.control_planes,
        every,
    ));
    let workshop = Arc::new(work::Workshop::new(
        layout.clone(),
        backend.clone(),
        assets,
        images.clone(),
        ateoms.clone(),
        clock.clone(),
    ));
    let known = memory.entries.keys().cloned().collect();
    for (worker, entry) in &memory.entries {
        workshop.note(worker, entry);
    }
    let row = NodeRow {
        name: config.node_name,
        address: advertised.to_string().into(),
        incarnation: format!("{:016x}", entropy::fresh_u64()).into(),
        sequence: 0,
        session: 0,
        lapsed: 0,
        version: 0,
    };
    tracing::info!(node = %row.name, address = %listener.address(), advertised = %row.address, "serving");
    let (machine, settled) = settling::Settling::new(
        Node::new(row, config.settings),
        Watching::new(&telemetry, config.settings.node.heartbeat_every),
    );
    inbox.send(Input::Start(memory));
    let effects = effects::NodeEffects::new(
        inbox.clone(),
        desk.clone(),
        journal,
        workshop,
        images,
        heartbeat.clone(),
        ateoms.clone(),
    )
    .traced(tracer.clone());
    let driving = driver::drive(machine, queue, clock.clone(), effects);
    let disposal = disposal::Disposal::new(layout.clone(), backend.clone());
    let discovering = workers::discover(layout, ateoms, inbox, known);

    let service = service::Service {
        desk,
        heartbeat,
        disposal,
        architecture,
    };
    let routes =
        Routes::new(AteomHerderServer::new(service.clone())).add_service(NodeControlServer::new(service));
    let names = [
        ateom_herder_server::SERVICE_NAME,
        node_control_server::SERVICE_NAME,
    ];
    let (routes, _health) = introspected(routes, &names)
        .await
        .map_err(|error| Error::Reflection(error.to_string()))?;
    let observers = Observers {
        calls: Some(telemetry.calls() as _),
        tracer,
    };
    let health = telemetry.health().clone();
    health.set(Readiness::Ready);
    let stop = {
        let asked = shutdown.triggered();
        async move {
            asked.await;
            health.set(Readiness::Leaving);
        }
    };
    let gate = Gate::default();
    let serving =
        holdfast_rpc::server::serve_behind(gate, observers, listener, routes, transport, clock, stop);
    let finishing = async {
        serving.await;
        settle(settled).await;
    };
    tokio::select! {
        biased;
        () = finishing => {}
        () = give_up(shutdown, transport.drain_timeout) => {}
        () = driving => {}
        () = discovering => {}
        () = making_room.make_room() => {}
    }
    Ok(())
}

/// Opens the journal in the base directory, which is made if need be. An atelet that is just ending may
/// have it open for a moment yet.
async fn open_journal(base: &Path) -> Result<(journal::Journal, Memory), Error> {
    let mut tries = 0;
    loop {
        let base = base.to_owned();
        let opened = off_thread(move || {
            let mut directory = std::fs::DirBuilder::new();
            let made = directory.recursive(true).mode(0o700).create(&base);
            made.map_err(|source| Error::Disk {
                path: base.clone(),
                source,
            })?;
            let journal = journal::Journal::open(&base.join("journal.redb"))?;
            let memory = journal.load()?;
            Ok((journal, memory))
        });
        match opened.await {
            Err(Error::Journal(JournalError::InUse { .. })) if tries < JOURNAL_TRIES => tries += 1,
            opened => return opened,
        }
        tokio::time::sleep(JOURNAL_RETRY).await;
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::StoppedEarly))
}

/// Waits until nothing is under way any more, the report of that included.
async fn settle(mut settled: watch::Receiver<bool>) {
    // An error means that the machine has gone, and everything with it.
    let _ = settled.wait_for(|is_settled| *is_settled).await;
}

/// Ends the waiting for what is under way, some time after stopping has been asked for.
async fn give_up(shutdown: Shutdown, after: Duration) {
    shutdown.triggered().await;
    tokio::time::sleep(after + LAST_REPORT).await;
    tracing::warn!(
        ?after,
        "leaving what is still under way; it goes on when it is ordered again"
    );
}

/// The address under which others are told to reach this node.
fn advertised(configured: Option<&Address>, bound: &Address) -> Result<Address, Error> {
    if let Some(address) = configured {
        return Ok(address.clone());
    }
    match bound {
        Address::Tcp { host, .. } if host == "0.0.0.0" || host == "::" => {
            Err(Error::Unreachable(bound.clone()))
        }
        bound => Ok(bound.clone()),
    }
}
