//! `ate sim`: the core's own machines in a world of faults, played by the thousand.
//!
//! The work is done in `holdfast_sim`; here it is asked for, and what it came to is shown.
//!
//! Exit codes: 0 when all invariants held, 1 when one was violated, 2 when the command line or a plan makes no
//! sense, 130 when it was interrupted, which keeps and shows what was found until then.

mod found;
mod frontier;
mod museum;
mod options;
mod progress;
mod replay;
mod report;
mod run;
mod search;
mod shrink;
mod story;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Subcommand;
use holdfast_runtime::shutdown::{insisted, signalled};
use holdfast_runtime::terminal::tell;
use holdfast_runtime::tokio;

use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Sim {
    /// Play many plans on all cores, and say what went wrong, how fast it was and what was covered
    Run(run::Run),
    /// Print the plan that a seed makes
    Plan(replay::Print),
    /// Play one plan, and tell the end of its story
    Replay(replay::Replay),
    /// Find the smallest plan that goes wrong in the same way
    Shrink(shrink::Shrink),
    /// Look for the plan that comes nearest to a bound
    Search(search::Search),
    /// Write the story of one plan as a page for a browser
    Story(story::Tell),
    /// Hunt known bugs, built in one by one: the simulator has to find each of them
    Museum(museum::Museum),
    /// Measure how far clocks may drift and how long processes may pause until two hold one lease, beside the formula
    Frontier(frontier::Frontier),
}

/// What every part of it asks from time to time: whether it is to stop.
pub type Stop = AtomicBool;

/// An invariant was violated.
pub const VIOLATED: u8 = 1;
/// Somebody pressed Ctrl-C: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Does what the command line says. Asked to stop, it stops where it can keep
/// what it has; asked twice, at once.
///
/// The work is done on this thread; the runtime around it is there for the signals.
pub fn run(sim: Sim) -> Result<ExitCode, Failure> {
    let stop = Arc::new(Stop::new(false));
    let signal = signalled().map_err(Failure::Runtime)?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        signal.await;
        stopped.store(true, Ordering::Relaxed);
        if let Ok(again) = insisted() {
            tell("stopping; press Ctrl-C again to end at once and keep nothing");
            again.await;
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    let code = match sim {
        Sim::Run(args) => args.run(&stop),
        Sim::Plan(args) => args.run(),
        Sim::Replay(args) => args.run(),
        Sim::Shrink(args) => args.run(&stop),
        Sim::Search(args) => args.run(&stop),
        Sim::Story(args) => args.run(),
        Sim::Museum(args) => args.run(&stop),
        Sim::Frontier(args) => args.run(),
    }?;
    Ok(match stop.load(Ordering::Relaxed) {
        true => ExitCode::from(INTERRUPTED),
        false => code,
    })
}

/// How it ends when nobody interrupts it.
fn ended(has_held: bool) -> ExitCode {
    match has_held {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(VIOLATED),
    }
}
