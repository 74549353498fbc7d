//! `atelet`: the node daemon.
//!
//! ```text
//! flags -> plan (everything checked, nothing touched) -> holdfast_node::run_observed
//! ```
//!
//! Exit codes: 0 when it was asked to stop and did, 1 when it could not serve, 2 when a flag or an
//! environment variable is wrong.

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod flags;
mod images;
mod plan;
mod security;

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use holdfast_configuration::Arguments;
use holdfast_node::{Config, Sandboxes};
use holdfast_runtime::clock::{Clock, SystemClock};
use holdfast_runtime::net::{BindError, Listener};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::terminal::{answer, tell};
use holdfast_runtime::tokio::runtime::Builder;
use holdfast_runtime::{causes, logging, tokio};
use holdfast_telemetry::otlp::Exporter;
use holdfast_telemetry::{Telemetry, http};

use flags::{Flags, Mode};
use plan::Plan;

const WRONG_INPUT: u8 = 2;

/// Why a node that was started correctly could not serve.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot set the process up: {0}")]
    Process(#[from] std::io::Error),
    #[error("{flag}")]
    Bind { flag: &'static str, source: BindError },
    #[error("--metrics-listen-addr: {0}")]
    BindMetrics(BindError),
    #[error(transparent)]
    Node(holdfast_node::Error),
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
    let listen_flag = flags.listen_flag();
    let plan = match plan::plan(flags) {
        Ok(plan) => plan,
        Err(error) => return wrong_input(&arguments.explain(&causes::told(&error).to_string())),
    };
    if mode == Mode::Check {
        return match answer("OK") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    logging::init(log_format);
    warn(&plan.config);
    // Before there are threads: what they inherit cannot be given to them later.
    if let Err(error) = holdfast_node::refuse_links(&plan.config.base_dir) {
        tracing::warn!(
            %error,
            "cannot refuse links below the base directory: a worker that plants one there can lead this daemon elsewhere"
        );
    }
    match serve(plan, listen_flag) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(format_args!("error: {}", causes::told(&failure)));
            ExitCode::FAILURE
        }
    }
}

fn serve(plan: Plan, listen_flag: &'static str) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signal()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut config = plan.config;
        let mut telemetry = Telemetry::new(holdfast_node::SERVICE);
        let mut exporter = None;
        if let Some(traces) = plan.traces {
            let (begun, traced) = Exporter::begin(traces, telemetry, clock.clone());
            (exporter, telemetry) = (Some(begun), traced);
            config.tracer = telemetry.tracer().clone();
        }
        // Until the end, so that whoever stops this can see how far it is.
        if let Some(address) = &plan.metrics {
            let listener = Listener::bind(address).await.map_err(Failure::BindMetrics)?;
            tracing::info!(address = %listener.address(), "answering /metrics, /readyz and /healthz");
            tokio::spawn(http::serve(listener, telemetry.clone(), clock.clone()));
        }
        let ran = holdfast_node::run_observed(config, telemetry, clock, shutdown).await;
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        ran.map_err(|error| match error {
            holdfast_node::Error::Bind(source) => Failure::Bind {
                flag: listen_flag,
                source,
            },
            other => Failure::Node(other),
        })
    })
}

/// What an operator may not have meant.
fn warn(config: &Config) {
    if config.control_planes.is_empty() {
        tracing::warn!("no --control-plane: this node reports to nobody, so only orders reach it");
    }
    if config.sandboxes == Sandboxes::Process {
        tracing::warn!("--sandbox process: actors run as plain processes of this machine, with NO ISOLATION");
    }
}
