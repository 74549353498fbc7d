//! The worlds that have to hold before a change lands: the corpus, ten thousand small ones and a thousand standard
//! ones, with fixed seeds, and some of them in two processes that must agree on every input and output.
//!
//! `cargo xtask worlds` runs it; `ate sim run --seed N` plays others.

use holdfast_sim::campaign::{Campaign, Tally};
use holdfast_sim::plan::{Plan, Recipe};
use holdfast_sim::world::{Story, World};
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;
use std::time::Instant;

/// How many small worlds are played.
const SMALL: u64 = 10_000;
/// How many standard worlds are played.
const STANDARD: u64 = 1_000;
/// How many of each are played in two processes, to be compared in all that happens.
const COMPARED: (u64, u64) = (200, 4);
/// Of how many plans that go wrong it is told how.
const TOLD_MAX: usize = 5;
/// Those that are known to go wrong, and how: the store fails over again and again in all of them. They are told, and let
/// pass until they are mended; then they go from here.
const KNOWN: &[(&str, u64, &str)] = &[("small", 2374, "I3"), ("standard", 77, "I2")];
const USAGE: &str = "worlds [--jobs N] [--part K/N]; part K of N plays every Nth seed";
/// Has this program say the digests of the worlds to compare, and nothing else.
const DIGESTS: &str = "digests";

/// Plans by their numbers.
type Draw<'a> = &'a (dyn Fn(u64) -> Plan + Sync);

/// How much is played by how many.
struct Wish {
    jobs: NonZeroUsize,
    /// Which part of how many, counted from 1.
    part: (u64, u64),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words == [DIGESTS] {
        println!("{}", digests().join("\n"));
        return ExitCode::SUCCESS;
    }
    let Some(wish) = wish(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let corpus = corpus();
    let begin = Instant::now();
    let nth = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let worlds: [(&str, u64, Draw<'_>); 3] = [
        ("corpus", corpus.len() as u64, &|number| {
            corpus[nth(number)].1.clone()
        }),
        ("small", SMALL, &|seed| Recipe::small(seed).plan()),
        ("standard", STANDARD, &|seed| Recipe::standard(seed).plan()),
    ];
    let mut violated = 0;
    for (name, plans, plan) in worlds {
        violated += play(name, plans, plan, &wish);
    }
    let agree = processes_agree();
    println!("all of it in {:.0} s", begin.elapsed().as_secs_f64());
    match violated == 0 && agree {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn wish(mut words: &[&str]) -> Option<Wish> {
    let mut wish = Wish {
        jobs: available_parallelism().unwrap_or(NonZeroUsize::MIN),
        part: (1, 1),
    };
    loop {
        words = match words {
            [] => return Some(wish),
            ["--jobs", jobs, rest @ ..] => {
                wish.jobs = jobs.parse().ok()?;
                rest
            }
            ["--part", part, rest @ ..] => {
                let (nth, of) = part.split_once('/')?;
                wish.part = (nth.parse().ok()?, of.parse().ok()?);
                let (nth, of) = wish.part;
                (1 <= nth && nth <= of).then_some(rest)?
            }
            _ => return None,
        };
    }
}

/// The plans that went wrong once and are mended.
fn corpus() -> Vec<(PathBuf, Plan)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = folder
        .read_dir()
        .unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: PathBuf| {
        let plan = Plan::from_file(&path).unwrap_or_else(|why| panic!("{why}"));
        (path, plan)
    };
    paths.into_iter().map(read).collect()
}

/// Plays the part of these plans that is wished for, says what it came to, and keeps those that went wrong; how
/// many there are of them.
fn play(name: &str, plans: u64, plan: Draw<'_>, wish: &Wish) -> u64 {
    let (nth, of) = wish.part;
    let number = |played: u64| played * of + nth - 1;
    let campaign = Campaign {
        plans: (plans + of - nth) / of,
        plan: &|played| plan(number(played)),
        world: &World::new,
        jobs: wish.jobs,
        story: Story::Dropped,
        failures_max: TOLD_MAX,
    };
    let begin = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let tally = campaign.play(&AtomicBool::new(false), |tally| {
        if is_terminal && tally.plans.is_multiple_of(20) {
            eprint!("\r{name}: {} of {}\x1b[K", tally.plans, campaign.plans);
            let _ = std::io::stderr().flush();
        }
    });
    if is_terminal {
        eprint!("\r\x1b[K");
    }
    let secs = begin.elapsed().as_secs_f64();
    println!(
        "{name:<9}{:>6} plans, {} violated, {} transitions, {} kinds of faults, {} pairs; {:.0} thousand events/s, {:.0} times \
         as fast as time, {secs:.0} s, digest {:016x}",
        tally.plans,
        tally.violated,
        tally.coverage.moves.len(),
        tally.coverage.kinds.len(),
        tally.coverage.pairs.len(),
        tally.events as f64 / secs / 1e3,
        tally.micros as f64 / 1e6 / secs,
        tally.digest,
    );
    tally.violated - keep(name, &tally, number)
}

/// Keeps what went wrong; how many of these are known.
fn keep(name: &str, tally: &Tally, number: impl Fn(u64) -> u64) -> u64 {
    let mut known = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/worlds");
    for (played, failure) in &tally.failures {
        let (number, violation) = (number(*played), &failure.violation);
        let is_known = KNOWN.contains(&(name, number, violation.invariant));
        known += u64::from(is_known);
        let note = if is_known { " (known)" } else { "" };
        println!("  {name} {number}: {violation}{note}");
        let file = folder.join(format!("{}-{name}-{number}.json", violation.invariant));
        let written =
            std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, failure.plan.to_json()));
        match written {
            Ok(()) => println!("    cargo run --release -p ate -- sim replay {}", shown(&file)),
            Err(why) => println!("    {} cannot be written: {why}", shown(&file)),
        }
    }
    if tally.violated > tally.failures.len() as u64 {
        println!("  and {} more", tally.violated - tally.failures.len() as u64);
    }
    known
}

fn shown(path: &Path) -> String {
    path.canonicalize()
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}

/// What is told of each world that is compared: all that its machines hear and do is in it.
fn digests() -> Vec<String> {
    let worlds: [(&str, u64, Draw<'_>); 2] = [
        ("small", COMPARED.0, &|seed| Recipe::small(seed).plan()),
        ("standard", COMPARED.1, &|seed| Recipe::standard(seed).plan()),
    ];
    let mut lines = Vec::new();
    for (name, plans, plan) in worlds {
        // Each by itself, so that one that differs is named.
        for seed in 0..plans {
            let campaign = Campaign {
                plans: 1,
                plan: &|_| plan(seed),
                world: &World::new,
                jobs: NonZeroUsize::MIN,
                story: Story::Digested,
                failures_max: 0,
            };
            let tally = campaign.play(&AtomicBool::new(false), |_| {});
            lines.push(format!(
                "{name} {seed}: {} events, {:016x}",
                tally.events, tally.digest
            ));
        }
    }
    lines
}

/// Whether two processes tell the same of the same plans.
fn processes_agree() -> bool {
    let this = std::env::current_exe().expect("a program knows where it is");
    let told = || {
        let mut command = Command::new(&this);
        command.arg(DIGESTS).stdout(Stdio::piped());
        command.spawn().expect("it runs once more")
    };
    let (one, other) = (told(), told());
    let lines = |child: Child| {
        let output = child.wait_with_output().expect("it is waited for");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (one, other) = (lines(one), lines(other));
    let wanted = (COMPARED.0 + COMPARED.1) as usize;
    let differs: Vec<(&str, &str)> = one.lines().zip(other.lines()).filter(|(a, b)| a != b).collect();
    for (one, other) in differs.iter().take(TOLD_MAX) {
        println!("  one process says {one}, and another {other}");
    }
    let is_whole = one.lines().count() == wanted && other.lines().count() == wanted;
    println!(
        "compared {wanted} plans in two processes, all that machines hear and do: {} differ",
        differs.len()
    );
    if !is_whole {
        println!("  and one of the two ended early");
    }
    differs.is_empty() && is_whole
}
