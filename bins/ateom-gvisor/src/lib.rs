//! The worker's daemon: drives `runsc` for one sandbox slot.

#![warn(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use holdfast_runtime::causes;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::logging::{self, LogFormat};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::terminal::tell;
use holdfast_runtime::tokio::runtime::Runtime;
use holdfast_telemetry::Telemetry;
use holdfast_telemetry::otlp::{Defaults, Exporter, TraceFlags, Tracer};
use holdfast_worker::flags::{self, Worker};

/// What it is called where several services are watched.
const SERVICE: &str = "ateom-gvisor";
const WRONG_INPUT: u8 = 2;

/// Drives the sandbox of one worker pod.
#[derive(Parser, Debug)]
#[command(name = "ateom-gvisor", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    worker: Worker,
    #[command(flatten)]
    traces: TraceFlags,
    /// How log lines look: json or text
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    log_format: LogFormat,
}

/// What may be typed.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let variable = |name: &str| std::env::var(name).ok();
    let traces = match cli.traces.plan(Defaults::following(SERVICE), variable) {
        Ok(traces) => traces,
        Err(error) => {
            tell(format_args!("error: {}", causes::told(&error)));
            return ExitCode::from(WRONG_INPUT);
        }
    };
    logging::init(cli.log_format);
    let served = Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let shutdown = Shutdown::on_signal()?;
            let Some(traces) = traces else {
                return Ok(flags::run(cli.worker, Tracer::default(), shutdown).await?);
            };
            let telemetry = Telemetry::new(SERVICE);
            let (exporter, telemetry) = Exporter::begin(traces, telemetry, Arc::new(SystemClock));
            let ran = flags::run(cli.worker, telemetry.tracer().clone(), shutdown).await;
            exporter.finish().await;
            Ok(ran?)
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {}", causes::told(&*error)));
            ExitCode::FAILURE
        }
    }
}
