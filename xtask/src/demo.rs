//! The demo is a program of its own, `holdfast-demo` in `tests/`: it needs the test kit, and we stay small.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;

use crate::setup;
use crate::step::Step;

/// The option that is ours and not the demo's: figures are told of optimised programs.
const RELEASE: &str = "--release";

/// Installs what is missing, builds the programs that the demo runs and the demo itself, and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    setup::ensure()?;
    let (ours, demos): (Vec<_>, Vec<_>) = options.iter().partition(|option| *option == RELEASE);
    if ours.is_empty() {
        build_programs().run()?;
        show().args(demos).run()
    } else {
        build_programs().args([RELEASE]).run()?;
        shown_by("release").args(demos).run()
    }
}

/// Runs the demo that has been built for the tests.
pub fn show() -> Step {
    shown_by("debug")
}

/// Cargo has put it near us; `cargo run` would choose other features and build half of it once more.
fn shown_by(profile: &str) -> Step {
    let own = env::current_exe().unwrap_or_default();
    let target = own.ancestors().nth(2).unwrap_or(Path::new("target"));
    Step::new(target.join(profile).join("holdfast-demo"))
}

/// Builds every program as the tests expect to find it.
pub fn build_programs() -> Step {
    Step::cargo("build --workspace --exclude xtask --exclude holdfast-workloads --bins")
}
