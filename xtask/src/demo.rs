//! The demo is a program of its own, `holdfast-demo` in `tests/`: it needs the test kit, and we stay small.

use std::env;
use std::ffi::OsString;

use anyhow::Result;

use crate::step::Step;

/// Builds the programs that the demo runs and the demo itself, and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    build_programs().run()?;
    show().args(options).run()
}

/// Runs the demo that has been built.
pub fn show() -> Step {
    // Cargo has put it beside us; `cargo run` would choose other features and build half of it once more.
    let own = env::current_exe().unwrap_or_default();
    Step::new(own.with_file_name("holdfast-demo"))
}

/// Builds every program as the tests expect to find it.
pub fn build_programs() -> Step {
    Step::cargo("build --workspace --exclude xtask --exclude holdfast-workloads --bins")
}
