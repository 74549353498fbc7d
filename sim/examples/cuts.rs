//! Plays every scene with every fault at every effect, and counts.
//!
//! `cargo xtask cuts` runs all of it. `cargo run --release -p holdfast-sim --example cuts -- single`
//! leaves out the pairs; `-- tell "pause" 7:Dies:NotSent 31:Dies:NotSent` tells the story of one run.

use holdfast_sim::cuts::{Cut, Depth, Mishap, SCENES, Scene, Slice, Strike, Tally, explore, tell};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Into how many parts a scene is divided, so that no core waits for the last one.
const SLICES: u64 = 8;
/// How many failures are shown.
const SHOWN_MAX: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["pairs"] => count(Depth::Pairs, ""),
        ["pairs", only] => count(Depth::Pairs, only),
        ["single"] => count(Depth::Single, ""),
        ["single", only] => count(Depth::Single, only),
        ["tell", name, ref path @ ..] => story(name, path),
        _ => usage("want nothing, `single`, `pairs`, or `tell SCENE STRIKE..`"),
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

fn count(depth: Depth, only: &str) -> ExitCode {
    let start = Instant::now();
    let scenes: Vec<&Scene> = SCENES.iter().filter(|scene| scene.name.contains(only)).collect();
    let jobs: Vec<(usize, u64)> = (0..scenes.len())
        .flat_map(|scene| (0..SLICES).map(move |nth| (scene, nth)))
        .collect();
    let next = AtomicUsize::new(0);
    let tallies: Mutex<Vec<Tally>> = Mutex::new(vec![Tally::default(); scenes.len()]);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((scene, nth)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let slice = Slice {
                        nth: *nth,
                        of: SLICES,
                    };
                    let tally = explore(scenes[*scene], depth, slice);
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
            let path: Vec<String> = path.iter().map(Strike::to_string).collect();
            println!(
                "    tell \"{}\" {}: {} {}",
                scene.name,
                path.join(" "),
                violation.invariant,
                violation.what
            );
        }
    }
    println!("\n{:<34} {:>8} {:>9}", "first fault", "singles", "pairs");
    for ((mishap, cut), (singles, pairs)) in kinds {
        println!("{:<34} {singles:>8} {pairs:>9}", format!("{mishap:?}, {cut:?}"));
    }
    println!();
}
