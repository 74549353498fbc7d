//! Looks at every history of the worlds in [`scopes`], and says how many there are.

use clap::Parser;
use holdfast_model::model::{Liveness, Model};
use holdfast_model::scope::Scope;
use holdfast_model::search::{Limits, Outcome, Verdict, explore};
use holdfast_model::step::Step;
use holdfast_model::{scopes, story};
use std::process::ExitCode;
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
    let (mut states, mut cut, mut violated) = (0, 0, 0);
    for scope in scopes {
        let line = scope.to_string();
        let mut model = Model::new(scope, liveness);
        let outcome = explore(&mut model, limits);
        states += outcome.states;
        print_row(&line, &outcome);
        match outcome.verdict {
            Verdict::Exhausted => {}
            Verdict::CutAt(_) => cut += 1,
            Verdict::Violated(way, what) => {
                violated += 1;
                for line in story::tell(&mut model, &way) {
                    println!("    {line}");
                }
                println!("    VIOLATED {what}");
            }
        }
    }
    println!(
        "{states} states in {:.1?}; {violated} violations; {cut} scopes were cut",
        begin.elapsed()
    );
    if violated == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
