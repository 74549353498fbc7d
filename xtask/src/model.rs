//! The model checker is a program of its own and wants an optimised build.

use std::ffi::OsString;

use anyhow::Result;

use crate::step::Step;

/// Builds it and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    Step::cargo("run --quiet --release --package holdfast-model --")
        .args(options)
        .run()
}
