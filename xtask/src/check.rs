//! What must pass, as a list of stages.

mod no_std;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::demo;
use crate::say;
use crate::setup;
use crate::step::Step;
use crate::worlds;

/// The flags that swap the host for the simulator; others who build with them share the artefacts.
const SIMULATED: (&str, &str) = ("RUSTFLAGS", "--cfg madsim");

struct Stage {
    name: &'static str,
    step: Step,
}

/// Formats every crate.
pub fn format() -> Result<()> {
    Step::cargo("fmt --all").run()
}

/// Everything that is checked without running Holdfast.
pub fn lint() -> Result<()> {
    run(&lint_stages()?)
}

/// Everything that must pass.
pub fn test() -> Result<()> {
    setup::ensure()?;
    let mut stages = lint_stages()?;
    stages.extend(test_stages());
    run(&stages)
}

fn lint_stages() -> Result<Vec<Stage>> {
    let (flags, madsim) = SIMULATED;
    let simulated = Step::cargo("check --workspace").env(flags, madsim);
    let mut stages = vec![
        stage("format", Step::cargo("fmt --all --check")),
        stage(
            "lints",
            Step::cargo("clippy --workspace --all-targets -- -D warnings"),
        ),
        stage("simulated build", simulated),
        stage("core without std", no_std::step()?),
    ];
    stages.extend(no_std::wasm_step().map(|step| stage("core for wasm32", step)));
    Ok(stages)
}

fn test_stages() -> Vec<Stage> {
    let nextest = Step::cargo("nextest --version").answer().is_some();
    // One failure is not to hide others.
    let runner = if nextest { "nextest run" } else { "test" };
    let all = "--no-fail-fast";
    let (flags, madsim) = SIMULATED;
    let simulated = Step::cargo(&format!("{runner} --package holdfast-runtime {all}")).env(flags, madsim);
    vec![
        stage("programs", demo::build_programs()),
        stage("tests", Step::cargo(&format!("{runner} --workspace {all}"))),
        stage(
            "examples in the documentation",
            Step::cargo("test --quiet --workspace --doc"),
        ),
        stage("simulated transport", simulated),
        stage("simulated worlds", worlds::step()),
        stage("demo", demo::show()),
    ]
}

fn stage(name: &'static str, step: Step) -> Stage {
    Stage { name, step }
}

/// Runs the stages in order, up to the first that fails.
fn run(stages: &[Stage]) -> Result<()> {
    let begin = Instant::now();
    for (index, stage) in stages.iter().enumerate() {
        say::heading(&format!("{} ({} of {})", stage.name, index + 1, stages.len()));
        say::command(&stage.step.to_string());
        let start = Instant::now();
        if let Err(error) = stage.step.run() {
            anstream::println!("\nstages: {index} passed, 1 failed");
            say::heading("to repeat it:");
            say::command(&stage.step.to_string());
            bail!("{} failed: {error:#}", stage.name);
        }
        say::ok(&format!("{} ({})", stage.name, say::time(start.elapsed())));
    }
    say::heading(&format!("all of it in {}", say::time(begin.elapsed())));
    anstream::println!("stages: {} passed, 0 failed", stages.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let touch = |name: &str| Step::new("touch").args([directory.path().join(name)]);
        let stages = [
            stage("first", touch("first")),
            stage("second", Step::new("false")),
            stage("third", touch("third")),
        ];
        let error = format!("{:#}", run(&stages).unwrap_err());
        assert!(
            error.contains("second failed") && error.contains("false"),
            "{error}"
        );
        assert!(directory.path().join("first").exists());
        assert!(!directory.path().join("third").exists());
        run(&stages[..1]).unwrap();
    }
}
