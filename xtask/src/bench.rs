//! The bench of the core is a program of its own, built as a release is.

use std::ffi::OsString;

use anyhow::Result;

use crate::step::Step;

/// Builds it and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    Step::cargo("bench --quiet --package holdfast-core --bench throughput --")
        .args(options)
        .run()
}
