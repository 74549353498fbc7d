//! `atelet`: the node daemon.
//!
//! ```text
//! flags -> plan (everything checked, nothing touched) -> holdfast_node::run
//! ```
//!
//! Exit codes: 0 when it was asked to stop and did, 1 when it could not serve, 2 when a flag or an
//! environment variable is wrong.

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod flags;
mod images;
mod plan;
mod security;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use holdfast_node::{Config, Sandboxes};
use holdfast_runtime::causes;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::logging;
use holdfast_runtime::net::BindError;
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::terminal::{answer, tell};
use holdfast_runtime::tokio::runtime::Builder;

use flags::{Flags, Mode};

const WRONG_INPUT: u8 = 2;

/// Why a node that was started correctly could not serve.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot set the process up: {0}")]
    Process(#[from] std::io::Error),
    #[error("{flag}")]
    Bind { flag: &'static str, source: BindError },
    #[error(transparent)]
    Node(holdfast_node::Error),
}

/// What may be typed.
pub fn command() -> clap::Command {
    Flags::command()
}

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    let flags = Flags::parse();
    let (mode, log_format) = (flags.mode(), flags.log_format);
    let unused = unused(&flags);
    let listen_flag = flags.listen_flag();
    let config = match plan::plan(flags) {
        Ok(config) => config,
        Err(error) => {
            tell(format_args!("error: {}", causes::told(&error)));
            return ExitCode::from(WRONG_INPUT);
        }
    };
    if mode == Mode::Check {
        return match answer("OK") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    logging::init(log_format);
    for flag in unused {
        tracing::warn!(flag, "this flag of the original does nothing here");
    }
    warn(&config);
    // Before there are threads: what they inherit cannot be given to them later.
    if let Err(error) = holdfast_node::refuse_links(&config.base_dir) {
        tracing::warn!(
            %error,
            "cannot refuse links below the base directory: a worker that plants one there can lead this daemon elsewhere"
        );
    }
    match serve(config, listen_flag) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(format_args!("error: {}", causes::told(&failure)));
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config, listen_flag: &'static str) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signal()?;
        let ran = holdfast_node::run(config, Arc::new(SystemClock), shutdown).await;
        ran.map_err(|error| match error {
            holdfast_node::Error::Bind(source) => Failure::Bind {
                flag: listen_flag,
                source,
            },
            other => Failure::Node(other),
        })
    })
}

/// The original's flags that were given and have no meaning here.
fn unused(flags: &Flags) -> Vec<&'static str> {
    let metrics = flags
        .metrics_listen_addr
        .is_some()
        .then_some("--metrics-listen-addr");
    metrics.into_iter().collect()
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
