//! ateapi: the replica machine of the core, behind gRPC, in front of a store and of nodes.
//!
//! ```text
//! Control, Admin, Nodes (service) --Request--> Replica machine --Output--> effects: store, node calls
//!             ^                                      |
//!             +-------------- Verdict ---------------+
//! ```
//!
//! Nothing is decided here: services check the form of requests in the original's words, effects
//! carry out what the machine asks for, and answers go back the way they came.

mod causes;
mod clearing;
mod desk;
mod effects;
mod identity;
mod nodes;
mod service;
mod surroundings;
mod workload;

use std::sync::Arc;

use holdfast_core::effect::StoreEvent;
use holdfast_core::id::ReplicaId;
use holdfast_core::replica::{Input, Replica};
use holdfast_core::settings::{BrokenRelation, Settings};
use holdfast_rpc::ateapi::control_server::{self, ControlServer};
use holdfast_rpc::ateapi::session_identity_server::{self, SessionIdentityServer};
use holdfast_rpc::gate::Gate;
use holdfast_rpc::holdfast_v1::admin_server::{self, AdminServer};
use holdfast_rpc::holdfast_v1::nodes_server::{self, NodesServer};
use holdfast_rpc::reflection::{HealthReporter, ServingStatus, introspected};
use holdfast_rpc::server::Observers;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::driver::{self, Inbox};
use holdfast_runtime::net::{self, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::watch;
use holdfast_store::Store;
use holdfast_telemetry::Telemetry;
use holdfast_telemetry::health::Readiness;
use holdfast_telemetry::replica::Watched;

pub use desk::{Desk, Gone};
pub use identity::{Binding, Identity};
pub use surroundings::{DERIVED, Directory, Known, SecretUnknown, Surroundings, Teller};

/// Who may ask what, and how nodes are asked. By default everybody, and in plaintext.
#[derive(Clone, Default)]
pub struct Security {
    /// What every call has to pass.
    pub gate: Gate,
    /// How connections to nodes are secured.
    pub nodes: net::Security,
    /// What identities are minted with.
    pub identity: Identity,
    /// Whether anybody may delete everything.
    pub debug_clear: DebugClear,
}

/// What becomes of DebugClear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DebugClear {
    /// It is refused.
    #[default]
    Refused,
    /// It deletes all actors, workers and atespaces.
    Offered,
}

/// What it is called where several services are watched.
pub const SERVICE: &str = "ateapi";

/// Everything that a replica needs from outside.
pub struct Config {
    /// Every duration.
    pub settings: Settings,
    /// Where it serves.
    pub listener: Listener,
    /// Where records are.
    pub store: Arc<dyn Store>,
    /// Who declares templates and pools, and knows of worker pods.
    pub surroundings: Arc<dyn Surroundings>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who may ask what.
    pub security: Security,
}

/// Why a replica could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two settings do not fit together.
    #[error("settings: {0}")]
    Settings(#[from] BrokenRelation),
    /// Reflection could not be built from our own descriptors.
    #[error("reflection: {0}")]
    Reflection(String),
    /// It was told to stop before it could begin.
    #[error("stopped before the store could be reached")]
    StoppedEarly,
    /// It was told to stop before it knew what is declared.
    #[error("stopped before templates, pools and worker pods were known")]
    StoppedUnaware,
}

/// Runs one replica until `shutdown` is triggered: it then hands its leases back and returns.
///
/// # Errors
/// If it could not begin to serve.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    run_observed(config, Telemetry::new(SERVICE), shutdown).await
}

/// The same, and `telemetry` has what operators want to know of it.
///
/// # Errors
/// If it could not begin to serve.
pub async fn run_observed(config: Config, telemetry: Telemetry, shutdown: Shutdown) -> Result<(), Error> {
    config.settings.check()?;
    let Config {
        settings,
        listener,
        store,
        surroundings,
        clock,
        security,
    } = config;
    let id = ReplicaId(holdfast_runtime::entropy::fresh_u64());
    let catalog = tokio::select! {
        biased;
        () = shutdown.triggered() => return Err(Error::StoppedUnaware),
        catalog = surroundings.begin() => catalog,
    };
    let replica = Replica::new(id, settings, catalog);
    let (inbox, queue) = driver::inbox();
    let desk = Desk::new(inbox.clone());
    let (effects, signals) = effects::ReplicaEffects::new(
        store.clone(),
        desk.clone(),
        inbox.clone(),
        surroundings.clone(),
        settings.workflow.deadline,
        security.nodes,
        telemetry.tracer().clone(),
    );
    let replica = Watched::new(replica, settings, &telemetry);
    let machine = tokio::spawn(driver::drive(replica, queue, clock.clone(), effects));

    inbox.send(Input::Start);
    tokio::spawn(follow_store(store.watch(), surroundings.clone(), inbox.clone()));
    let teller = Teller::new(inbox.clone(), desk.clone());
    let following = surroundings.clone();
    let following = tokio::spawn(async move { following.follow(teller).await });
    tokio::select! {
        biased;
        () = shutdown.triggered() => return Err(Error::StoppedEarly),
        _ = signals.ready => {}
    }

    let minter = identity::Minter::new(desk.clone(), security.identity, clock.clone());
    let clearable = (security.debug_clear == DebugClear::Offered).then(|| store.clone());
    let service = service::Service::new(desk, surroundings, clearable);
    let routes = tonic::service::Routes::new(ControlServer::new(service.clone()))
        .add_service(SessionIdentityServer::new(minter))
        .add_service(AdminServer::new(service.clone()))
        .add_service(NodesServer::new(service));
    let names = [
        control_server::SERVICE_NAME,
        session_identity_server::SERVICE_NAME,
        admin_server::SERVICE_NAME,
        nodes_server::SERVICE_NAME,
    ];
    let (routes, reporter) = introspected(routes, &names)
        .await
        .map_err(|error| Error::Reflection(error.to_string()))?;
    tokio::spawn(report_health(telemetry.health().changes(), reporter, names));
    tracing::info!(replica = %format!("{:016x}", id.0), address = %listener.address(), "serving");
    // Leases are handed back first, so that calls in flight hear from the machine, not from a cut connection.
    let stop = {
        let (inbox, shutdown) = (inbox.clone(), shutdown.clone());
        async move {
            shutdown.triggered().await;
            inbox.send(Input::Shutdown);
            let _ = signals.left.await;
        }
    };
    let transport = Transport::default();
    let observers = Observers {
        calls: Some(telemetry.calls() as _),
        tracer: telemetry.tracer().clone(),
    };
    holdfast_rpc::server::serve_behind(security.gate, observers, listener, routes, transport, clock, stop)
        .await;
    machine.abort();
    following.abort();
    Ok(())
}

/// Says by `grpc.health.v1` of each service, and of the server as a whole, whether requests are of use.
async fn report_health<const N: usize>(
    mut readiness: watch::Receiver<Readiness>,
    reporter: HealthReporter,
    services: [&'static str; N],
) {
    loop {
        let status = match *readiness.borrow_and_update() {
            Readiness::Ready => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        };
        for service in services.into_iter().chain([""]) {
            reporter.set_service_status(service, status).await;
        }
        if readiness.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_store(
    mut watch: holdfast_store::Watch,
    surroundings: Arc<dyn Surroundings>,
    inbox: Inbox<Input>,
) {
    while let Some(event) = watch.next().await {
        match &event {
            StoreEvent::Worker(worker) => surroundings.learn(Known::Worker(worker)),
            StoreEvent::WorkerGone(key) => surroundings.learn(Known::WorkerGone(key)),
            StoreEvent::Node(row) => surroundings.learn(Known::Node(row)),
            StoreEvent::Resync => {}
        }
        inbox.send(Input::Watched(event));
    }
}
