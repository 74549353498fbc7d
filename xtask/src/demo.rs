//! The demo is a program of its own, `holdfast-demo` in `tests/`, and so is what writes images: they need the
//! test kit, and we stay small.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;

use crate::setup;
use crate::step::Step;

/// The option that is ours and not the demo's: figures are told of optimised programs.
const RELEASE: &str = "--release";

const DEMO: &str = "holdfast-demo";

/// Installs what is missing, builds the programs that the demo runs and the demo itself, and hands over.
pub fn run(options: &[OsString]) -> Result<()> {
    setup::ensure()?;
    let (ours, demos): (Vec<_>, Vec<_>) = options.iter().partition(|option| *option == RELEASE);
    // Ctrl-C reaches the demo at any rate; in our place it can clear up before the prompt is back.
    Err(built(DEMO, !ours.is_empty())?.args(demos).become_it())
}

/// Writes images and manifests for `ate dev` to a directory.
pub fn images(dir: &Path, is_release: bool) -> Result<()> {
    setup::ensure()?;
    let dir = std::path::absolute(dir)?;
    built("holdfast-images", is_release)?.args([dir]).run()
}

/// Runs the demo that has been built for the tests.
pub fn show() -> Step {
    program(DEMO, "debug")
}

/// A program of the workspace, after all of them have been built.
fn built(name: &str, is_release: bool) -> Result<Step> {
    if is_release {
        build_programs().args([RELEASE]).run()?;
        return Ok(program(name, "release"));
    }
    build_programs().run()?;
    Ok(program(name, "debug"))
}

/// Cargo has put it near us; `cargo run` would choose other features and build half of it once more.
fn program(name: &str, profile: &str) -> Step {
    let own = env::current_exe().unwrap_or_default();
    let target = own.ancestors().nth(2).unwrap_or(Path::new("target"));
    Step::new(target.join(profile).join(name))
}

/// Builds every program as the tests expect to find it.
pub fn build_programs() -> Step {
    Step::cargo("build --workspace --exclude xtask --exclude holdfast-workloads --bins")
}
