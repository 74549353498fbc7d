//! `ate`: actors, atespaces and workers from the command line.
//!
//! ```text
//! arguments -> cli -> commands -> client ~~gRPC~~> ateapi
//!                        |
//!                        +-> output -> table | protojson
//! ```
//!
//! Exit codes: 0 when it was done, 1 when the control plane said no or could not be asked, 2 when the
//! command line makes no sense. `ate dev` and `ate sim` ask no control plane; the latter has codes of its own.

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod bench;
mod cli;
mod client;
mod commands;
mod dev;
mod failure;
mod output;
mod protojson;
mod sim;
mod table;

use std::process::ExitCode;

use clap::FromArgMatches;
use holdfast_runtime::threads;
use holdfast_runtime::tokio::runtime::Builder;

use cli::{Cli, Command};
use failure::Failure;

/// What may be typed.
pub fn command() -> clap::Command {
    cli::command()
}

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let parsed = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(parsed) {
        Ok(code) => code,
        Err(Failure::Usage(error)) => error.format(&mut cli::subcommand(&matches)).exit(),
        Err(failure) => {
            failure.tell();
            match failure {
                Failure::Input(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let mut runtime = Builder::new_multi_thread();
    // A whole cluster takes what the machine has; one call needs one thread.
    match cli.command {
        Command::Dev(_) | Command::Worker(_) => &mut runtime,
        Command::Bench(_) => runtime.worker_threads(threads::for_a_server()),
        _ => runtime.worker_threads(1),
    };
    let runtime = runtime.enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(commands::run(cli))
}
