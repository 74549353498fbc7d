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

mod desk;
mod effects;
mod nodes;
mod service;
mod workload;

use std::sync::Arc;

use holdfast_core::id::ReplicaId;
use holdfast_core::replica::{Input, Replica};
use holdfast_core::settings::{BrokenRelation, Settings};
use holdfast_manifests::{ManifestError, Watcher};
use holdfast_rpc::ateapi::control_server::{self, ControlServer};
use holdfast_rpc::holdfast_v1::admin_server::{self, AdminServer};
use holdfast_rpc::holdfast_v1::nodes_server::{self, NodesServer};
use holdfast_rpc::reflection::{HealthReporter, ServingStatus, introspected};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::driver::{self, Inbox};
use holdfast_runtime::net::{Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::watch;
use holdfast_store::Store;
use holdfast_telemetry::Telemetry;
use holdfast_telemetry::health::Readiness;
use holdfast_telemetry::replica::Watched;

pub use desk::{Desk, Gone};

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
    /// What operators have declared.
    pub manifests: Watcher,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
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
    /// It was told to stop before the store let it begin.
    #[error("stopped before the store could be reached")]
    StoppedEarly,
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
        manifests,
        clock,
    } = config;
    let id = ReplicaId(holdfast_runtime::entropy::fresh_u64());
    let replica = Replica::new(id, settings, manifests.current().catalog.clone());
    let (inbox, queue) = driver::inbox();
    let desk = Desk::new(inbox.clone());
    let (effects, signals) = effects::ReplicaEffects::new(
        store.clone(),
        desk.clone(),
        inbox.clone(),
        manifests.current().clone(),
        settings.workflow.deadline,
    );
    let secrets = effects.manifests();
    let replica = Watched::new(replica, settings, &telemetry);
    let machine = tokio::spawn(driver::drive(replica, queue, clock.clone(), effects));

    inbox.send(Input::Start);
    tokio::spawn(follow_store(store.watch(), inbox.clone()));
    tokio::spawn(follow_manifests(manifests, secrets, inbox.clone()));
    tokio::select! {
        biased;
        () = shutdown.triggered() => return Err(Error::StoppedEarly),
        _ = signals.ready => {}
    }

    let service = service::Service::new(desk);
    let routes = tonic::service::Routes::new(ControlServer::new(service.clone()))
        .add_service(AdminServer::new(service.clone()))
        .add_service(NodesServer::new(service));
    let names = [
        control_server::SERVICE_NAME,
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
    let observer = Some(telemetry.calls() as _);
    holdfast_rpc::server::serve_observed(observer, listener, routes, Transport::default(), clock, stop).await;
    machine.abort();
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

async fn follow_store(mut watch: holdfast_store::Watch, inbox: Inbox<Input>) {
    while let Some(event) = watch.next().await {
        inbox.send(Input::Watched(event));
    }
}

async fn follow_manifests(mut watcher: Watcher, current: effects::Current, inbox: Inbox<Input>) {
    while !inbox.is_closed() {
        match watcher.changed().await {
            Ok(manifests) => {
                tracing::info!("manifests reloaded");
                inbox.send(Input::Declared(manifests.catalog.clone()));
                current.replace(manifests);
            }
            Err(errors) => report(&errors),
        }
    }
}

fn report(errors: &[ManifestError]) {
    for error in errors {
        tracing::error!(%error, "manifests not reloaded; what was declared before stays in force");
    }
}
