//! The demo is a program of its own, `holdfast-demo` in `tests/`: it needs the test kit, and we stay small.

use std::ffi::OsString;

use anyhow::Result;

use crate::step::Step;

/// Builds the programs that the demo runs, then the demo, and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    Step::cargo(
        "build --quiet --bins --package ate --package ateapi --package atelet --package ateom-gvisor",
    )
    .run()?;
    Step::cargo("run --quiet --package holdfast-tests --bin holdfast-demo --")
        .args(options)
        .run()
}
