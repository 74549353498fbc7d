//! The demo, as `cargo xtask demo` runs it.

mod bare;
mod client;
mod cluster;
mod demo;
mod figures;
mod interrupt;
mod manifests;
mod say;
mod scenes;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use holdfast_tests::wait;

/// As a shell says it of a command that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Show what Holdfast does, on real sandboxes; exits with an error if any of it is not so
#[derive(Parser, Debug)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
struct Args {
    /// Where the control plane keeps its records
    #[arg(long, value_enum, default_value_t = Store::All)]
    store: Store,
    /// What actors run in; auto takes runsc where it is recent enough, else plain processes
    #[arg(long, value_enum, default_value_t = Sandbox::Auto)]
    sandbox: Sandbox,
    /// How many actors
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1000))]
    actors: u16,
    /// How many workers they share
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Also pull and unpack an image of 1.5 GB, and tell how much memory that took
    #[arg(long)]
    large_image: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// Both, one after the other
    All,
    /// One process with an embedded store
    Embedded,
    /// Two control planes on a Redis that is started for it
    Redis,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Sandbox {
    Auto,
    Runsc,
    Process,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let result = match &arguments[..] {
        [_, argument, bundles] if argument == bare::ARGUMENT => bare::main(bundles.as_ref()),
        _ => {
            let args = Args::parse();
            interrupt::watch().and_then(|()| demo::run(&args))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if wait::is_interrupted() => {
            say::note("interrupted; what the demo had started has ended, and its directory is gone");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
