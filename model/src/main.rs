//! Looks at every history of the worlds in [`scopes`], and says how many there are.

use clap::Parser;
use holdfast_model::model::{Liveness, Model};
use holdfast_model::scope::Scope;
use holdfast_model::search::{Limits, Outcome, Verdict, explore};
use holdfast_model::step::Step;
use holdfast_model::{scopes, story};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Look at every history of small worlds around the core's machines
#[derive(Parser)]
#[command(name = "cargo xtask model", bin_name = "cargo xtask model")]
struct Cli {
    /// Only the scopes whose lines contain one of these
    only: Vec<String>,
    /// Only the scopes that the crate's test looks at
    #[arg(long)]
    small: bool,
    /// Say which scopes there are, and look at none
    #[arg(long)]
    list: bool,
    /// The most seconds for one scope
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// The most states in one scope (a million take about a gigabyte of memory)
    #[arg(long, default_value_t = 3_000_000)]
    states: usize,
    /// How many scopes are looked at side by side
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Look only at what happens, not at what follows when nothing goes wrong any more
    #[arg(long)]
    safety_only: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let scopes = if cli.small { scopes::small() } else { scopes::all() };
    let is_wanted = |scope: &Scope| {
        let line = scope.to_string();
        cli.only.is_empty() || cli.only.iter().any(|only| line.contains(only.as_str()))
    };
    let scopes: Vec<Scope> = scopes.into_iter().filter(is_wanted).collect();
    if scopes.is_empty() {
        eprintln!(
            "error: no world has any of {:?} in its line; --list shows them all",
            cli.only
        );
        return ExitCode::from(2);
    }
    if cli.list {
        for scope in &scopes {
            println!("{scope}");
        }
        return ExitCode::SUCCESS;
    }
    let limits = Limits {
        states: cli.states,
        time: Duration::from_secs(cli.seconds),
    };
    let liveness = if cli.safety_only {
        Liveness::Off
    } else {
        Liveness::Everywhere
    };
    println!(
        "{:>10} {:>10} {:>6} {:>7} {:>8}  verdict    world; what may go wrong",
        "states", "steps", "depth", "ends", "time"
    );
    let begin = Instant::now();
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Total::default());
    std::thread::scope(|threads| {
        for _ in 0..cli.jobs.clamp(1, scopes.len().max(1)) {
            threads.spawn(|| {
                while let Some(scope) = scopes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (outcome, story) = look(scope, liveness, limits);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(&outcome);
                    print_row(&scope.to_string(), &outcome);
                    story.iter().for_each(|line| println!("    {line}"));
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} states in {:.1?}; {} violations; {} of {} scopes were cut before all of them had been seen",
        total.states,
        begin.elapsed(),
        total.violated,
        total.cut,
        scopes.len()
    );
    if total.violated == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What all scopes have come to.
#[derive(Default)]
struct Total {
    states: usize,
    cut: usize,
    violated: usize,
}

impl Total {
    fn add(&mut self, outcome: &Outcome<Step>) {
        self.states += outcome.states;
        match outcome.verdict {
            Verdict::Exhausted => {}
            Verdict::CutAt(_) => self.cut += 1,
            Verdict::Violated(..) => self.violated += 1,
        }
    }
}

/// Looks at one scope; a violation comes with its story.
fn look(scope: &Scope, liveness: Liveness, limits: Limits) -> (Outcome<Step>, Vec<String>) {
    let mut model = Model::new(scope.clone(), liveness);
    let outcome = explore(&mut model, limits);
    let mut story = Vec::new();
    if let Verdict::Violated(way, what) = &outcome.verdict {
        story = story::tell(&mut model, way);
        story.push(format!("VIOLATED {what}"));
    }
    (outcome, story)
}

fn print_row(line: &str, outcome: &Outcome<Step>) {
    let verdict = match outcome.verdict {
        Verdict::Exhausted => String::from("exhausted"),
        Verdict::CutAt(depth) => format!("cut at {depth}"),
        Verdict::Violated(..) => String::from("VIOLATED"),
    };
    println!(
        "{:>10} {:>10} {:>6} {:>7} {:>7.1}s  {verdict:<9}  {line}",
        outcome.states,
        outcome.steps,
        outcome.depth,
        outcome.ends,
        outcome.time.as_secs_f64()
    );
}
