//! `ateapi`: one replica of the control plane.
//!
//! ```text
//! flags -> plan (everything checked, nothing touched) -> listener, store -> holdfast_control::run
//! ```
//!
//! Exit codes: 0 when it was asked to stop and did, 1 when it could not serve, 2 when a flag or a manifest
//! is wrong.

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod flags;
mod plan;
mod redis;
mod security;

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use holdfast_configuration::Arguments;
use holdfast_control::{Config, Directory, Surroundings};
use holdfast_core::effect::StoreError;
use holdfast_core::time::Duration;
use holdfast_kubernetes::{AccessError, Cluster};
use holdfast_runtime::causes;
use holdfast_runtime::clock::{Clock, SystemClock};
use holdfast_runtime::duration;
use holdfast_runtime::logging;
use holdfast_runtime::net::{BindError, Listener};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::terminal::{answer, tell};
use holdfast_runtime::threads;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::runtime::Builder;
use holdfast_store::Store;
use holdfast_store::embedded::{Embedded, OpenError};
use holdfast_store::redis::{Config as RedisConfig, Redis};
use holdfast_telemetry::otlp::Exporter;
use holdfast_telemetry::{Telemetry, http};

use flags::Flags;
use plan::{DeclaredBy, Plan, StorePlace};

const WRONG_INPUT: u8 = 2;
/// The pause between two attempts to reach the store at start.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Why a replica that was started correctly could not serve.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot set the process up: {0}")]
    Process(#[from] std::io::Error),
    #[error("--grpc-listen-addr: {0}")]
    Bind(#[from] BindError),
    #[error("--metrics-listen-addr: {0}")]
    BindMetrics(BindError),
    #[error("--store: {0}")]
    Open(#[from] OpenError),
    #[error("--store: {0}")]
    Refused(String),
    #[error("--store: not reached within {} (--redis-start-timeout): {why}", duration::show(*.patience))]
    Unreachable { why: String, patience: Duration },
    #[error("stopped before the store could be reached")]
    Stopped,
    #[error("Kubernetes: {0}")]
    Kubernetes(#[from] AccessError),
    #[error(transparent)]
    Control(#[from] holdfast_control::Error),
}

/// What may be typed.
pub fn command() -> clap::Command {
    Flags::command()
}

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    let wrong_input = |told: &dyn Display| {
        tell(format_args!("error: {told}"));
        ExitCode::from(WRONG_INPUT)
    };
    let arguments = match Arguments::gather(&command(), std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(arguments) => arguments,
        Err(error) => return wrong_input(&causes::told(&error)),
    };
    let flags = match Flags::try_parse_from(&arguments.all) {
        Ok(flags) => flags,
        Err(error) if error.use_stderr() => {
            tell(arguments.explain(&error.render().to_string()));
            return ExitCode::from(WRONG_INPUT);
        }
        // Help, and the version.
        Err(error) => error.exit(),
    };
    let (mode, log_format) = (flags.mode(), flags.log_format);
    let plan = match Plan::new(flags) {
        Ok(plan) => plan,
        Err(error) => return wrong_input(&arguments.explain(&causes::told(&error).to_string())),
    };
    if mode == flags::Mode::Check {
        if let Err(error) = plan.store.check() {
            return wrong_input(&format_args!("--store: {}", causes::told(&error)));
        }
        return match answer("OK") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    logging::init(log_format);
    match serve(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(format_args!("error: {}", causes::told(&failure)));
            ExitCode::FAILURE
        }
    }
}

fn serve(plan: Plan) -> Result<(), Failure> {
    Builder::new_multi_thread()
        .worker_threads(threads::for_a_server())
        .enable_all()
        .build()?
        .block_on(run(plan))
}

/// The listener comes first: where the address is taken, no store is made.
async fn run(plan: Plan) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut listener = Listener::bind(&plan.listen).await?;
    if let Some(tls) = plan.tls {
        listener = listener.secured(tls);
    }
    let telemetry = Telemetry::new(holdfast_control::SERVICE);
    // From now on, so that whoever starts this can see why it is not ready; and until the end.
    if let Some(address) = &plan.metrics {
        let listener = Listener::bind(address).await.map_err(Failure::BindMetrics)?;
        tracing::info!(address = %listener.address(), "answering /metrics, /readyz and /healthz");
        holdfast_runtime::tokio::spawn(http::serve(listener, telemetry.clone(), clock.clone()));
    }
    let store = open(plan.store, clock.clone(), &shutdown).await?;
    let surroundings: Arc<dyn Surroundings> = match plan.declared {
        DeclaredBy::Manifests(watcher) => Arc::new(Directory::new(*watcher)),
        DeclaredBy::Kubernetes(access) => {
            let client = access.client().await?;
            Arc::new(Cluster::follow(
                client,
                plan.atelet_port,
                &plan.settings,
                clock.clone(),
            ))
        }
    };
    let config = Config {
        settings: plan.settings,
        listener,
        store,
        surroundings,
        clock,
        security: plan.security,
    };
    let Some(traces) = plan.traces else {
        return Ok(holdfast_control::run_observed(config, telemetry, shutdown).await?);
    };
    let (exporter, telemetry) = Exporter::begin(traces, telemetry, config.clock.clone());
    let ran = holdfast_control::run_observed(config, telemetry, shutdown).await;
    exporter.finish().await;
    Ok(ran?)
}

async fn open(
    place: StorePlace,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<Arc<dyn Store>, Failure> {
    match place {
        StorePlace::Embedded(path) => Ok(Arc::new(Embedded::open(path, clock)?)),
        StorePlace::Redis { config, patience } => reach(*config, patience, clock, shutdown).await,
    }
}

/// Waits for a store that may still be starting. Wrong passwords, certificates and databases are not waited for.
async fn reach(
    config: RedisConfig,
    patience: Duration,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<Arc<dyn Store>, Failure> {
    let redis = Redis::new(config);
    let begin = clock.now();
    loop {
        match redis.ping().await {
            Ok(()) => return Ok(Arc::new(redis)),
            Err(StoreError::Refused(why)) => return Err(Failure::Refused(why)),
            Err(StoreError::Unavailable(why)) if clock.now().since(begin) >= patience => {
                return Err(Failure::Unreachable { why, patience });
            }
            Err(StoreError::Unavailable(why)) => tracing::warn!(why, "the store does not answer yet"),
        }
        tokio::select! {
            biased;
            () = shutdown.triggered() => return Err(Failure::Stopped),
            () = tokio::time::sleep(ASK_AGAIN_AFTER) => {}
        }
    }
}
