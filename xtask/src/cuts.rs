//! The crash cuts are an example of the simulator, and want an optimised build.

use std::ffi::OsString;

use anyhow::Result;

use crate::step::Step;

/// Builds it and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    Step::cargo("run --quiet --release --package holdfast-sim --example cuts --")
        .args(options)
        .run()
}
