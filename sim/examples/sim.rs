//! Plays plans, tells their stories, and shrinks them.

use holdfast_sim::oracle::Violation;
use holdfast_sim::plan::{Kind, Plan, Recipe};
use holdfast_sim::shrink::shrink;
use holdfast_sim::world::{Outcome, Story, World};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
sim run FROM..TO [--standard] [--faults KIND,..]   plays the plans of these seeds, and counts
sim plan SEED    [--standard] [--faults KIND,..]   prints the plan of a seed
sim replay PLAN  [--lines N]                       plays a plan and tells the end of its story
sim shrink PLAN  [--runs N] [--out FILE]           finds the smallest plan that fails in the same way
where PLAN is a file with a plan, or a seed with the options of run
KIND is none, all, or a kind of fault such as NodeDies";

/// How many lines of a story are told.
const LINES: usize = 80;
/// How many plans are played to shrink one.
const RUNS: u64 = 3_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match command(&words) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn command(words: &[String]) -> Result<ExitCode, String> {
    let options = Options::parse(words)?;
    match (options.verb.as_str(), options.subject.as_str()) {
        ("run", seeds) => {
            let range = seeds.split_once("..").and_then(|(from, to)| {
                let range = (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?);
                Some(range)
            });
            let Some((from, to)) = range else {
                return Err(format!("{seeds}: want seeds such as 0..1000"));
            };
            Ok(run(&options, from, to))
        }
        ("plan", _) => {
            print!("{}", options.plan()?.to_json());
            Ok(ExitCode::SUCCESS)
        }
        ("replay", _) => Ok(replay(options.plan()?, options.lines)),
        ("shrink", _) => shrunk(&options),
        _ => Err(USAGE.to_string()),
    }
}

struct Options {
    verb: String,
    subject: String,
    is_standard: bool,
    faults: Option<Vec<Kind>>,
    lines: usize,
    runs: u64,
    out: Option<String>,
}

impl Options {
    fn parse(words: &[String]) -> Result<Options, String> {
        let [verb, subject, rest @ ..] = words else {
            return Err(USAGE.to_string());
        };
        let mut options = Options {
            verb: verb.clone(),
            subject: subject.clone(),
            is_standard: false,
            faults: None,
            lines: LINES,
            runs: RUNS,
            out: None,
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            if word == "--standard" {
                options.is_standard = true;
                continue;
            }
            let value = rest.next().ok_or(USAGE)?;
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{value}: want a number"))
            };
            match word.as_str() {
                "--faults" => options.faults = Some(kinds(value)?),
                "--lines" => options.lines = usize::try_from(number()?).unwrap_or(usize::MAX),
                "--runs" => options.runs = number()?,
                "--out" => options.out = Some(value.clone()),
                _ => return Err(format!("{word}: no such option\n{USAGE}")),
            }
        }
        Ok(options)
    }

    fn recipe(&self, seed: u64) -> Recipe {
        let recipe = if self.is_standard {
            Recipe::standard(seed)
        } else {
            Recipe::small(seed)
        };
        Recipe {
            faults: self.faults.clone().unwrap_or_else(|| recipe.faults.clone()),
            ..recipe
        }
    }

    fn plan(&self) -> Result<Plan, String> {
        match self.subject.parse() {
            Ok(seed) => Ok(self.recipe(seed).plan()),
            Err(_) => Plan::from_file(Path::new(&self.subject)).map_err(|why| why.to_string()),
        }
    }
}

fn kinds(text: &str) -> Result<Vec<Kind>, String> {
    match text {
        "none" => return Ok(Vec::new()),
        "all" => return Ok(Kind::ALL.to_vec()),
        _ => {}
    }
    let kind = |name: &str| {
        let found = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name);
        found.ok_or_else(|| format!("{name}: want one of {:?}", Kind::ALL))
    };
    text.split(',').map(kind).collect()
}

/// Plays a plan; a panic of a machine is a violation, too.
fn play(plan: &Plan) -> Result<Outcome, Option<Violation>> {
    let played = std::panic::catch_unwind(|| World::new(plan.clone(), Story::Dropped).run());
    match played {
        Ok(outcome) => match &outcome.violation {
            None => Ok(outcome),
            Some(violation) => Err(Some(violation.clone())),
        },
        Err(_) => Err(None),
    }
}

fn run(options: &Options, from: u64, to: u64) -> ExitCode {
    let (mut events, mut micros, mut bad) = (0, 0, 0);
    let start = Instant::now();
    for seed in from..to {
        let plan = options.recipe(seed).plan();
        match play(&plan) {
            Ok(outcome) => {
                events += outcome.events;
                micros += outcome.micros;
            }
            Err(violation) => {
                bad += 1;
                match violation {
                    Some(violation) => println!("seed {seed}: {violation}"),
                    None => println!("seed {seed}: a machine panicked"),
                }
            }
        }
    }
    let secs = start.elapsed().as_secs_f64();
    println!(
        "{} plans, {bad} bad, {events} events; {:.0} thousand events per second, {:.0} times as fast as time",
        to - from,
        events as f64 / secs / 1e3,
        micros as f64 / 1e6 / secs
    );
    exit(bad == 0)
}

fn replay(plan: Plan, lines: usize) -> ExitCode {
    let outcome = World::new(plan, Story::Kept).run();
    let story = &outcome.timeline;
    for line in story.iter().skip(story.len().saturating_sub(lines)) {
        println!("{line}");
    }
    println!("{:?}", outcome.verdicts);
    match &outcome.violation {
        None => println!("it holds"),
        Some(violation) => println!("{violation}"),
    }
    exit(outcome.violation.is_none())
}

fn shrunk(options: &Options) -> Result<ExitCode, String> {
    let plan = options.plan()?;
    let judge = |plan: &Plan| {
        let violation = play(plan).err()?;
        Some(violation.map_or("a machine panics".to_string(), |violation| violation.gist()))
    };
    // What is said of each panic says nothing here.
    std::panic::set_hook(Box::new(|_| {}));
    let Some(found) = shrink(&plan, &judge, options.runs) else {
        println!("it holds: there is nothing to shrink");
        return Ok(ExitCode::SUCCESS);
    };
    let small = &found.plan;
    eprintln!(
        "{}: still so, with {} faults instead of {} and {} requests instead of {}, after {} runs",
        found.how,
        small.faults.len(),
        plan.faults.len(),
        small.requests.len(),
        plan.requests.len(),
        found.runs
    );
    let file = options.out.clone().unwrap_or_else(|| "shrunk.json".to_string());
    std::fs::write(&file, small.to_json()).map_err(|why| format!("{file} cannot be written: {why}"))?;
    println!("cargo run --release -p holdfast-sim --example sim -- replay {file}");
    Ok(ExitCode::FAILURE)
}

fn exit(is_well: bool) -> ExitCode {
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
