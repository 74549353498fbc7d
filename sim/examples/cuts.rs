//! Plays every scene with every fault at every effect, and counts.
//!
//! `cargo xtask cuts` runs all of it. `cargo run --release -p holdfast-sim --example cuts -- single`
//! leaves out the pairs; `-- pairs "resume" --part 2/8 --jobs 1` plays one part of eight of the scenes of that
//! name, on one core; `-- tell "pause" 7:Dies:NotSent 31:Dies:NotSent` tells the story of one run.
//!
//! How far it is, and each run that does not converge, is told on stderr as it goes.

use holdfast_sim::cuts::{Cut, Depth, Mishap, SCENES, Scene, Slice, Strike, Tally, explore_before, tell};
use holdfast_sim::oracle::Violation;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Into how many slices a part of a scene is divided, so that no core waits for the last one.
const SLICES: u64 = 8;
/// How many failures of a scene are shown at the end.
const SHOWN_MAX: usize = 10;
/// After how many runs it is told how far it is.
const TOLD_EVERY: u64 = 1000;

const USAGE: &str = "cuts [single|pairs] [SCENE] [--part N/M] [--jobs N], or cuts tell SCENE STRIKE..";

/// What is played.
struct Wish {
    depth: Depth,
    /// The scenes whose names contain this.
    only: String,
    /// Which part of how many, counted from 1.
    part: (u64, u64),
    /// How many threads.
    jobs: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["tell", name, path @ ..] => story(name, path),
        words => match wish(words) {
            Some(wish) => count(&wish),
            None => usage(USAGE),
        },
    }
}

fn wish(mut words: &[&str]) -> Option<Wish> {
    let mut wish = Wish {
        depth: Depth::Pairs,
        only: String::new(),
        part: (1, 1),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
    };
    if let [depth @ ("single" | "pairs"), rest @ ..] = words {
        wish.depth = if *depth == "single" {
            Depth::Single
        } else {
            Depth::Pairs
        };
        words = rest;
    }
    loop {
        words = match words {
            [] => return Some(wish),
            ["--part", part, rest @ ..] => {
                let (nth, of) = part.split_once('/')?;
                wish.part = (nth.parse().ok()?, of.parse().ok()?);
                if wish.part.0 < 1 || wish.part.0 > wish.part.1 {
                    return None;
                }
                rest
            }
            ["--jobs", jobs, rest @ ..] => {
                wish.jobs = jobs.parse().ok().filter(|jobs| *jobs > 0)?;
                rest
            }
            [name, rest @ ..] if !name.starts_with('-') && wish.only.is_empty() => {
                wish.only = (*name).to_owned();
                rest
            }
            _ => return None,
        };
    }
}

fn usage(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}

fn story(name: &str, path: &[&str]) -> ExitCode {
    let Some(scene) = SCENES.iter().find(|scene| scene.name == name) else {
        return usage(&format!("{name}: no such scene"));
    };
    let path: Result<Vec<Strike>, String> = path.iter().map(|text| text.parse()).collect();
    let path = match path {
        Ok(path) => path,
        Err(why) => return usage(&why),
    };
    let (story, violation) = tell(scene, &path);
    for line in story {
        println!("{line}");
    }
    println!("{violation:#?}");
    if violation.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn count(wish: &Wish) -> ExitCode {
    let start = Instant::now();
    let scenes: Vec<&Scene> = SCENES
        .iter()
        .filter(|scene| scene.name.contains(&wish.only))
        .collect();
    if scenes.is_empty() {
        let names: Vec<&str> = SCENES.iter().map(|scene| scene.name).collect();
        return usage(&format!(
            "{}: no such workflow; there are {}",
            wish.only,
            names.join(", ")
        ));
    }
    let (part, parts) = wish.part;
    let jobs: Vec<(usize, Slice)> = (0..scenes.len())
        .flat_map(|scene| (0..SLICES).map(move |nth| (scene, nth)))
        .map(|(scene, nth)| {
            let (nth, of) = (nth * parts + part - 1, SLICES * parts);
            (scene, Slice { nth, of })
        })
        .collect();
    let next = AtomicUsize::new(0);
    let ended = AtomicU64::new(0);
    let tallies: Mutex<Vec<Tally>> = Mutex::new(vec![Tally::default(); scenes.len()]);
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs {
            scope.spawn(|| {
                while let Some((scene, slice)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = scenes[*scene].name;
                    let tell = |path: &[Strike], violation: Option<&Violation>| {
                        if let Some(violation) = violation {
                            eprintln!("{}", failure(name, path, violation));
                        }
                        let runs = ended.fetch_add(u64::from(!path.is_empty()), Ordering::Relaxed) + 1;
                        if runs.is_multiple_of(TOLD_EVERY) && !path.is_empty() {
                            let seconds = start.elapsed().as_secs();
                            eprintln!(
                                "{runs} runs in {seconds} s, {name}, {}/{}",
                                slice.nth + 1,
                                slice.of
                            );
                        }
                    };
                    let tally = explore_before(scenes[*scene], wish.depth, *slice, &tell);
                    tallies.lock().expect("no worker panics")[*scene].add(tally);
                }
            });
        }
    });
    let tallies = tallies.into_inner().expect("no worker panics");
    report(&scenes, &tallies);
    let runs: u64 = tallies.iter().map(Tally::runs).sum();
    let bad: usize = tallies.iter().map(|tally| tally.failures.len()).sum();
    let good = runs.saturating_sub(bad as u64);
    println!(
        "{runs} runs in {:.0} s: {good} converged, {bad} did not ({:.3} %)",
        start.elapsed().as_secs_f64(),
        good as f64 / runs.max(1) as f64 * 100.0
    );
    if bad == 0 && runs > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(scenes: &[&Scene], tallies: &[Tally]) {
    println!(
        "{:<34} {:>7} {:>8} {:>9} {:>6}",
        "workflow", "effects", "singles", "pairs", "bad"
    );
    let mut kinds: BTreeMap<(Mishap, Cut), (u64, u64)> = BTreeMap::new();
    for (scene, tally) in scenes.iter().zip(tallies) {
        let singles: u64 = tally.singles.values().sum();
        let pairs: u64 = tally.pairs.values().sum();
        println!(
            "{:<34} {:>7} {:>8} {:>9} {:>6}",
            scene.name,
            tally.effects,
            singles,
            pairs,
            tally.failures.len()
        );
        for (kind, count) in &tally.singles {
            kinds.entry(*kind).or_default().0 += count;
        }
        for (kind, count) in &tally.pairs {
            kinds.entry(*kind).or_default().1 += count;
        }
        for (path, violation) in tally.failures.iter().take(SHOWN_MAX) {
            println!("    {}", failure(scene.name, path, violation));
        }
    }
    println!("\n{:<34} {:>8} {:>9}", "first fault", "singles", "pairs");
    for ((mishap, cut), (singles, pairs)) in kinds {
        println!("{:<34} {singles:>8} {pairs:>9}", format!("{mishap:?}, {cut:?}"));
    }
    println!();
}

/// What did not converge, and how to have it told.
fn failure(name: &str, path: &[Strike], violation: &Violation) -> String {
    let path: Vec<String> = path.iter().map(Strike::to_string).collect();
    format!(
        "tell \"{name}\" {}: {} {}",
        path.join(" "),
        violation.invariant,
        violation.what
    )
}
