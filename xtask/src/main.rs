//! Everything one does twice: `cargo xtask --help`.

mod bench;
mod check;
mod cuts;
mod demo;
mod fuzz;
mod model;
mod mutants;
mod say;
mod setup;
mod step;
mod worlds;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Parser, Subcommand};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Everything one does twice, as one command each
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", styles = STYLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing on this machine: runsc, redis-server, openssl, nftables, iproute2
    Setup(setup::Args),
    /// Show what Holdfast does, on real sandboxes (its own options: `cargo xtask demo --help`)
    #[command(disable_help_flag = true)]
    Demo {
        /// Options of the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Cut every effect of every workflow, singly and in pairs, and count what converges (`single`: no pairs;
    /// `tell SCENE STRIKE..`: the story of one run)
    Cuts {
        /// Options of the cuts
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Play the simulated worlds that have to hold: the corpus, 10,000 small ones and 1,000 standard ones, and some in
    /// two processes that must agree
    Worlds {
        /// Options of the worlds
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Look at every history of small worlds around the core's machines: states, depth, time and verdict of each
    /// (its own options: `cargo xtask model --help`)
    #[command(disable_help_flag = true)]
    Model {
        /// Options of the model checker
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Measure how many inputs per second the core gets through, by mix and size (`heartbeats 1k 100k`: one mix,
    /// two sizes)
    Bench {
        /// Options of the bench
        #[arg(trailing_var_arg = true)]
        options: Vec<OsString>,
    },
    /// Play the fuzz targets with coverage as their guide, for a while each, and say what that has come to
    Fuzz(fuzz::Args),
    /// Change the core in hundreds of small ways, one at a time, and see whether its tests notice
    Mutants(mutants::Args),
    /// Write images of a counter, and manifests that go with them, to a directory: something for `ate dev`
    Images {
        /// The directory, made if there is none
        dir: PathBuf,
        /// Build optimised programs
        #[arg(long)]
        release: bool,
    },
    /// Run everything that must pass before a change lands, and say how to repeat what failed
    Test,
    /// Check style, lints, the simulated build and the purity of the core
    Lint,
    /// Format every crate
    Fmt,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Setup(args) => setup::run(&args),
        Task::Demo { options } => demo::run(&options),
        Task::Cuts { options } => cuts::run(&options),
        Task::Worlds { options } => worlds::run(&options),
        Task::Model { options } => model::run(&options),
        Task::Bench { options } => bench::run(&options),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Mutants(args) => mutants::run(&args),
        Task::Images { dir, release } => demo::images(&dir, release),
        Task::Test => check::test(),
        Task::Lint => check::lint(),
        Task::Fmt => check::format(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
