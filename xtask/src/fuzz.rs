//! Plays the fuzz targets with coverage as their guide, for a while each, and says what that has come to.
//!
//! libFuzzer is linked into one program per target (`fuzz/`, feature `libfuzzer`). It needs instrumented code and a C++ compiler,
//! and neither cargo-fuzz nor a nightly toolchain: without a sanitizer, what it needs of rustc is stable. The programs have a
//! target directory of their own, because everything in it is built with other flags.

mod log;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::say;
use crate::step::{Step, root};
use log::Log;

/// What rustc is to put into the code so that libFuzzer sees where it comes to, and what it compares.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing";
/// An input that takes longer hangs: none of the corpus takes a tenth of it.
const HANGS_AFTER_SECS: u64 = 20;
/// An input for which more is allocated fills memory.
const MEMORY_MAX_MIB: u64 = 2048;

/// Which targets to play, and for how long.
#[derive(clap::Args)]
pub struct Args {
    /// How long each target is played
    #[arg(long, default_value_t = 30, value_name = "N")]
    seconds: u64,
    /// Only this target; may be given several times
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Name the targets and play none
    #[arg(long)]
    list: bool,
    /// Give the target this input, once, instead of playing it
    #[arg(long, value_name = "FILE", requires = "target")]
    replay: Option<PathBuf>,
}

/// Plays them one after the other, and fails if anything was found.
pub fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    if let Some(stranger) = args.target.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {stranger}; there are: {}", all.join(", "));
    }
    let is_wanted = |name: &&String| args.target.is_empty() || args.target.contains(name);
    let wanted: Vec<&String> = all.iter().filter(is_wanted).collect();
    if args.list {
        wanted.iter().for_each(|name| anstream::println!("{name}"));
        return Ok(());
    }
    let directory = fs::canonicalize(root())?.join("target/fuzz");
    say::heading("instrumented programs");
    let programs = build(&directory, &wanted)?;
    if let Some(input) = &args.replay {
        let [name] = wanted[..] else {
            bail!("one input is for one target: give --target once");
        };
        return Step::new(programs.join(name))
            .args([std::path::absolute(input)?])
            .run();
    }
    say::heading(&format!("{} targets, {} s each", wanted.len(), args.seconds));
    anstream::println!(
        "{:<18} {:>11} {:>9}  {:>15}  {:>15}  {:>10}",
        "target",
        "executions",
        "per s",
        "edges",
        "features",
        "new inputs"
    );
    let mut found = Vec::new();
    for name in wanted {
        found.extend(play(name, &programs, &directory, args.seconds)?);
    }
    anstream::println!("new inputs are in {}", directory.join("corpus").display());
    for (name, input) in &found {
        say::warn(&format!(
            "{name} does not hold for {}; to repeat it:",
            input.display()
        ));
        say::command(&format!(
            "cargo xtask fuzz --target {name} --replay {}",
            input.display()
        ));
    }
    ensure!(
        found.is_empty(),
        "{} inputs for which a target does not hold; once mended, they go to fuzz/corpus",
        found.len()
    );
    Ok(())
}

/// Every target, by the name of its directory in the corpus.
fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(root().join("fuzz/corpus")).context("fuzz/corpus")?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds the programs of these targets, and says where they are.
fn build(directory: &Path, names: &[&String]) -> Result<PathBuf> {
    let version = Step::new("rustc").args(["-vV"]).answer().context("rustc -vV")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say for which host it is")?;
    let mut arguments: Vec<OsString> = Vec::new();
    for name in names {
        arguments.extend(["--bin".into(), name.into()]);
    }
    // With a target named, build scripts and macros are built without these flags.
    Step::cargo("build --package holdfast-fuzz --features libfuzzer")
        .args(["--target", host, "--target-dir"])
        .args([directory])
        .args(arguments)
        .env("RUSTFLAGS", INSTRUMENTED)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .run()?;
    Ok(directory.join(host).join("debug"))
}

/// Plays one target, tells what that came to, and returns the inputs for which it does not hold.
fn play(name: &str, programs: &Path, directory: &Path, seconds: u64) -> Result<Vec<(String, PathBuf)>> {
    let (corpus, findings) = (
        directory.join("corpus").join(name),
        directory.join("findings").join(name),
    );
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let known = count(&corpus)?;
    let log = directory.join(format!("{name}.log"));
    let start = Instant::now();
    // What it finds goes to the directory that comes first; what is committed it reads only.
    Command::new(programs.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={HANGS_AFTER_SECS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg("-print_final_stats=1")
        .arg(&corpus)
        .arg(root().join("fuzz/corpus").join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    let text = fs::read(&log)?;
    let text = String::from_utf8_lossy(&text);
    let played = Log::read(&text);
    let (first, last) = played
        .coverage
        .with_context(|| format!("{name} did not begin: {}", log.display()))?;
    let took = start.elapsed().as_secs_f64().max(0.001);
    anstream::println!(
        "{name:<18} {:>11} {:>9.0}  {:>15}  {:>15}  {:>10}",
        played.executions,
        played.executions as f64 / took,
        format!("{} -> {}", first.edges, last.edges),
        format!("{} -> {}", first.features, last.features),
        count(&corpus)?.saturating_sub(known)
    );
    Ok(played
        .findings
        .into_iter()
        .map(|input| (name.to_owned(), input))
        .collect())
}

fn count(directory: &Path) -> Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}
