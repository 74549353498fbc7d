//! The worlds that have to hold are an example of the simulator, and want an optimised build.

use std::ffi::OsString;

use anyhow::Result;

use crate::step::Step;

/// Plays all of them.
pub fn step() -> Step {
    Step::cargo("run --quiet --release --package holdfast-sim --example worlds --")
}

/// Builds it and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    step().args(options).run()
}
