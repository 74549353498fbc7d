//! Mutation testing of the core: is there a test for everything that it decides?
//!
//! A mutant is the core with one small change: another operator, a call left out, a function that answers something
//! else at once. A test suite that is worth something fails for nearly every one. Compiling the core anew for each
//! takes a minute or more, running its tests a second or two; so all mutants are compiled into one copy, each
//! behind a switch (mutant schemata: Untch, Offutt and Harrold, 1993), and the tests are run once per mutant with an
//! environment variable that says which is on. With all switches off the tests say which mutants they come to at all:
//! those that none comes to are missed, and the others are judged by those that do, and by no other.

mod accepted;
mod build;
mod constant;
mod copy;
mod find;
mod judge;
mod mutant;
mod report;
mod rewrite;
mod sample;
#[cfg(test)]
mod tests;
mod trial;
mod values;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::say;
use crate::step::root;
use accepted::Accepted;
use copy::{MEMBERS, SUBJECT, Sources};
use judge::{Fate, Judge};
use report::Report;
use trial::Trial;

/// Programs whose tests take minutes, count what happens, or look at planted defects rather than at the core.
const LEFT_OUT: [(&str, &str); 4] = [
    ("sim", "cuts"),
    ("sim", "ledger"),
    ("sim", "museum"),
    ("model", "defects"),
];

/// What to try, and how.
#[derive(clap::Args)]
pub struct Args {
    /// How many mutants to draw
    #[arg(long, default_value_t = 400, value_name = "M")]
    sample: usize,
    /// By which seed they are drawn
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Try all of them
    #[arg(long, conflicts_with_all = ["only", "missed"])]
    all: bool,
    /// Try those whose names contain this; may be given several times
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Try those that the last run missed
    #[arg(long)]
    missed: bool,
    /// Ask model checker and simulator, too, about what the core's own tests miss
    #[arg(long)]
    wide: bool,
    /// How many are tried at a time
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
    /// Name the mutants and try none; whether they compile is not known then
    #[arg(long)]
    list: bool,
}

impl Args {
    fn takes(&self, mutant: &mutant::Mutant, missed: &BTreeSet<String>) -> bool {
        let name = mutant.to_string();
        let is_named =
            |pattern: &String| name.contains(pattern.as_str()) || mutant.key().contains(pattern.as_str());
        (self.only.is_empty() || self.only.iter().any(is_named))
            && (!self.missed || missed.contains(&mutant.key()))
    }

    fn is_drawn(&self) -> bool {
        !self.all && !self.missed && self.only.is_empty()
    }

    fn chosen(&self) -> String {
        match (self.is_drawn(), self.missed) {
            (true, _) => format!("{} drawn by seed {}", self.sample, self.seed),
            (_, true) => String::from("those that the last run missed"),
            _ if !self.only.is_empty() => format!("those with {}", self.only.join(" or ")),
            _ => String::from("all of them"),
        }
    }
}

/// Tries mutants, and fails if too many of them are missed, or one that is not accepted.
pub fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let sources = Sources::read(&root())?;
    let accepted = fs::read_to_string(root().join(accepted::FILE)).context(accepted::FILE)?;
    let accepted = Accepted::parse(&accepted)?;
    let strangers = accepted.strangers(&sources.mutants);
    ensure!(
        strangers.is_empty(),
        "{} names what is no mutant:\n{}",
        accepted::FILE,
        strangers.join("\n")
    );
    let directory = copy::own_directory(&root())?;
    let results = directory.join("results.json");
    let missed = match args.missed {
        true => report::missed_last_time(&results)?.into_iter().collect(),
        false => BTreeSet::new(),
    };
    let takes = |number: &usize| args.takes(&sources.mutants[number - 1], &missed);
    if args.list {
        let named = (1..=sources.mutants.len()).filter(takes);
        named.for_each(|number| anstream::println!("{}", sources.mutants[number - 1]));
        return Ok(());
    }

    let lock = File::create(directory.join("lock"))?;
    if lock.try_lock().is_err() {
        bail!("{} is in use by another run", directory.display());
    }
    say::heading(&format!("{} mutants in one copy", sources.mutants.len()));
    let copy = directory.join("copy");
    let unviable = settle(&sources, &copy, &directory.join("unviable.json"))?;
    let members = if args.wide { &MEMBERS[..] } else { &[SUBJECT] };
    let trials = trials(&copy, members, &directory.join("seen.txt"))?;
    say::ok(&format!(
        "{} tests, none of which fails ({})",
        trials.len(),
        say::time(start.elapsed())
    ));

    let viable = (1..=sources.mutants.len()).filter(|number| !unviable.contains(number));
    let viable: Vec<usize> = viable.collect();
    let numbers = match args.is_drawn() {
        true => {
            let named = viable
                .iter()
                .map(|number| (*number, &sources.mutants[number - 1]));
            sample::draw(named, args.seed, args.sample)
        }
        false => viable.iter().copied().filter(takes).collect(),
    };
    if numbers.is_empty() {
        bail!("no mutant is like that");
    }
    let fates = judge(&sources, &trials, &numbers, args.jobs)?;
    let report = Report {
        sources: &sources,
        viable: viable.len(),
        chosen: args.chosen(),
        fates: numbers
            .iter()
            .map(|number| &sources.mutants[number - 1])
            .zip(fates)
            .collect(),
        accepted: &accepted,
    };
    report.write(&results)?;
    let is_well = report.tell();
    say::ok(&format!("{} ({})", results.display(), say::time(start.elapsed())));
    ensure!(is_well, "mutants survive that are not accepted, or too many");
    Ok(())
}

/// Compiles all mutants that can be, and says which cannot. What was found out about the same sources is kept.
fn settle(sources: &Sources, copy: &Path, kept: &Path) -> Result<BTreeSet<usize>> {
    let mut hasher = DefaultHasher::new();
    sources
        .mutants
        .iter()
        .for_each(|mutant| mutant.to_string().hash(&mut hasher));
    let hash = hasher.finish();
    let known: Option<(u64, BTreeSet<usize>)> = fs::read(kept)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known = match known {
        Some((of, unviable)) if of == hash => unviable,
        _ => BTreeSet::new(),
    };
    let unviable = build::settle(copy, known, |unviable| {
        anstream::eprintln!("  compiling without {}", unviable.len());
        sources.write(copy, |number| !unviable.contains(&number))
    })?;
    fs::write(kept, serde_json::to_vec(&(hash, &unviable))?)?;
    Ok(unviable)
}

/// Compiles the tests, and runs each of them once.
fn trials(copy: &Path, members: &[&str], notes: &Path) -> Result<Vec<Trial>> {
    anstream::eprintln!("  compiling the tests");
    let mut trials = Vec::new();
    for program in build::programs(copy, members)? {
        if !LEFT_OUT.contains(&(program.member, program.name.as_str())) {
            trials.extend(trial::list(&program, copy)?);
        }
    }
    anstream::eprintln!("  running the tests with no mutant on");
    for trial in &mut trials {
        trial.measure(notes)?;
    }
    Ok(trials)
}

fn judge(sources: &Sources, trials: &[Trial], numbers: &[usize], jobs: usize) -> Result<Vec<Fate>> {
    let is_watched = std::io::stderr().is_terminal();
    let bar = match is_watched {
        true => ProgressBar::new(numbers.len() as u64),
        false => ProgressBar::hidden(),
    };
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos} of {len}, {eta} to go",
    )?);
    let done = AtomicUsize::new(0);
    let judge = Judge::new(&sources.mutants, trials);
    let fates = judge.try_all(numbers, jobs, |number, fate| {
        bar.inc(1);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if !fate.is_caught() {
            bar.suspend(|| say::warn(&format!("missed: {}", sources.mutants[number - 1])));
        }
        if !is_watched && done.is_multiple_of(50) {
            anstream::eprintln!("  {done} of {}", numbers.len());
        }
    })?;
    bar.finish_and_clear();
    Ok(fates)
}
