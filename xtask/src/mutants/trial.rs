//! Runs tests, one process each, with one mutant on or none, for a limited time and in limited memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::mutants::build::Program;

/// A test may take so many times as long with a mutant on as it takes without.
const PATIENCE: u32 = 10;
/// And so much besides, for machines that have other things to do.
const LEAST: Duration = Duration::from_secs(5);
/// A test that takes longer without any mutant hangs.
const LONGEST: Duration = Duration::from_secs(600);
/// What a test may allocate, in KiB: a mutant that fills a queue for ever ends itself.
const MEMORY_MAX_KIB: u64 = 4 << 20;

/// One test.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Where it is: the member and the program, and its name there.
    pub label: String,
    /// The member whose test it is.
    pub member: &'static str,
    program: PathBuf,
    directory: PathBuf,
    name: String,
    /// How long it takes.
    pub takes: Duration,
    /// The numbers of the mutants whose place it comes to.
    pub reaches: BTreeSet<usize>,
}

/// How a test ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It finds nothing wrong.
    Passed,
    /// It fails, or the program ends in any other way.
    Failed,
    /// It goes on for too long.
    TimedOut,
}

/// The tests of a program.
pub fn list(program: &Program, copy: &Path) -> Result<Vec<Trial>> {
    let output = Command::new(&program.path)
        .args(["--list", "--format", "terse"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.path.display().to_string())?;
    ensure!(
        output.status.success(),
        "{} does not list its tests",
        program.path.display()
    );
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let trials = names.map(|name| Trial {
        label: match program.name == program.member {
            true => format!("{}: {name}", program.member),
            false => format!("{} {}: {name}", program.member, program.name),
        },
        member: program.member,
        program: program.path.clone(),
        directory: copy.join(program.member),
        name: name.to_owned(),
        takes: Duration::ZERO,
        reaches: BTreeSet::new(),
    });
    Ok(trials.collect())
}

impl Trial {
    /// Runs it with no mutant on, and takes note of how long it takes and which mutants it comes to.
    pub fn measure(&mut self, notes: &Path) -> Result<()> {
        if notes.exists() {
            fs::remove_file(notes)?;
        }
        let start = Instant::now();
        let outcome = self.start(("HOLDFAST_MUTANTS_SEEN", notes.as_os_str()), LONGEST)?;
        ensure!(
            outcome == Outcome::Passed,
            "{}: {outcome:?}, although no mutant is on",
            self.label
        );
        self.takes = start.elapsed();
        let seen = fs::read_to_string(notes).unwrap_or_default();
        self.reaches = seen.lines().map(str::parse).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Runs it with this mutant on.
    pub fn judge(&self, number: usize) -> Result<Outcome> {
        self.start(
            ("HOLDFAST_MUTANT", number.to_string().as_ref()),
            self.takes * PATIENCE + LEAST,
        )
    }

    fn start(&self, (name, value): (&str, &std::ffi::OsStr), limit: Duration) -> Result<Outcome> {
        let script = format!("ulimit -v {MEMORY_MAX_KIB} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(&self.program);
        command.args(["--exact", &self.name, "--test-threads", "1", "--quiet"]);
        for own in [
            "REWRITE",
            "PROPTEST_CASES",
            "HOLDFAST_MUTANT",
            "HOLDFAST_MUTANTS_SEEN",
        ] {
            command.env_remove(own);
        }
        // Every mutant meets the same cases. What fails has done its work: nobody reads the smallest such case.
        command
            .env("PROPTEST_RNG_SEED", "1")
            .env("PROPTEST_MAX_SHRINK_TIME", "1");
        command
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
            .env("RUST_BACKTRACE", "0");
        command.env(name, value).current_dir(&self.directory);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("cannot start sh")?;
        Ok(match wait(&mut child, limit)? {
            None => Outcome::TimedOut,
            Some(status) if status.success() => Outcome::Passed,
            Some(_) => Outcome::Failed,
        })
    }
}

/// Waits for a child, and ends it when it takes too long.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
