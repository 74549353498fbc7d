//! The worker's daemon: drives `runsc` for one sandbox slot.

#![warn(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use holdfast_runtime::causes;
use holdfast_runtime::logging::{self, LogFormat};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::terminal::tell;
use holdfast_runtime::tokio::runtime::Runtime;
use holdfast_worker::flags::{self, Worker};

/// Drives the sandbox of one worker pod.
#[derive(Parser, Debug)]
#[command(name = "ateom-gvisor", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    worker: Worker,
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
    logging::init(cli.log_format);
    let served = Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async { Ok(flags::run(cli.worker, Shutdown::on_signal()?).await?) })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {}", causes::told(&*error)));
            ExitCode::FAILURE
        }
    }
}
