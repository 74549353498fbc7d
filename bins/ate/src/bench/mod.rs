//! `ate bench`: how fast a control plane is, and what it costs.
//!
//! ```text
//! clients (load) --one call each--> control plane --Run, Restore, Checkpoint--> nodes that do nothing (node)
//!    |    |
//!    |    +-> herd: which actor sleeps, runs, or is in somebody's hands
//!    +-> tally: times and errors -> display, report
//! ```
//!
//! Only calls that the original has are made, so that it can be measured as well.
//!
//! Exit codes: 0 when it was measured, 1 when it could not be, 2 when the command line makes no sense, 130 when
//! it was interrupted, which shows what was measured until then.

mod clean;
mod display;
mod herd;
mod load;
mod mix;
mod node;
mod process;
mod report;
mod run;
mod server;
mod tally;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Options;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Put a load on a control plane, and say how it has answered
    Run(run::Run),
    /// Be nodes that do nothing, and do it at once, so that a control plane is measured alone
    Node(node::Node),
    /// Remove the actors that an earlier run has left
    Clean(clean::Clean),
}

/// Does what the command line says.
pub async fn run(bench: Bench, options: Options) -> Result<ExitCode, Failure> {
    match bench {
        Bench::Run(run) => run.run(options).await,
        Bench::Node(node) => node.run(options).await.map(|()| ExitCode::SUCCESS),
        Bench::Clean(clean) => clean.run(options).await.map(|()| ExitCode::SUCCESS),
    }
}
