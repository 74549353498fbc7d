//! `ate sim run`: many plans.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::Args;
use holdfast_sim::campaign::{Campaign, Failure as Wrong, Tally};
use holdfast_sim::plan::Plan;
use holdfast_sim::world::Story;

use super::options::{Players, World, from_files, stem};
use super::progress::Progress;
use super::report::{Found, Origin, Report};
use super::{Stop, ended, found};
use crate::failure::Failure;
use crate::output;

/// How many seeds are played where nobody says how many.
const SEEDS: u64 = 1000;

#[derive(Args, Debug)]
pub struct Run {
    /// How many seeds: of worlds [default: 1000], or of the noise of each plan of --plan [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "FROM", default_value_t = 0)]
    seed: u64,
    /// Play this plan instead of those that seeds make, or all plans of this directory; may be given more than once
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "seed", "small", "standard", "time", "replicas", "nodes", "workers", "actors", "callers", "faults",
        ],
    )]
    plan: Vec<PathBuf>,
    /// How many threads play [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Where plans that went wrong are kept; made when there is one
    #[arg(long, value_name = "DIR", default_value = "violations")]
    out: PathBuf,
    /// How many of them are kept at most; all are counted
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep: u16,
    /// Shrink those that are kept
    #[arg(long)]
    shrink: bool,
    /// How many plans may be played to shrink one
    #[arg(long, value_name = "N", default_value_t = super::shrink::RUNS, requires = "shrink")]
    runs: u64,
    /// Digest all that every machine hears and does, not only the order of events (slower)
    #[arg(long)]
    digest: bool,
    /// Say what it came to as one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    players: Players,
    #[command(flatten)]
    world: World,
}

/// Where plans come from.
enum Source {
    /// Worlds that seeds draw.
    Seeds {
        players: Players,
        world: World,
        first: u64,
        seeds: u64,
    },
    /// Plans, each with so many seeds of its noise.
    Files {
        plans: Vec<(PathBuf, Plan)>,
        noises: u64,
    },
}

impl Source {
    /// How many plans there are.
    fn plans(&self) -> u64 {
        match self {
            Source::Seeds { seeds, .. } => *seeds,
            Source::Files { plans, noises } => noises.saturating_mul(plans.len() as u64),
        }
    }

    fn plan(&self, number: u64) -> Plan {
        match self {
            Source::Seeds {
                players,
                world,
                first,
                ..
            } => players.plan(world, first.wrapping_add(number)),
            Source::Files { plans, noises } => {
                let mut plan = self.file(plans, number / noises).1.clone();
                plan.noise.seed = plan.noise.seed.wrapping_add(number % noises);
                plan
            }
        }
    }

    fn file<'a>(&self, plans: &'a [(PathBuf, Plan)], nth: u64) -> &'a (PathBuf, Plan) {
        let nth = usize::try_from(nth).unwrap_or(usize::MAX);
        plans.get(nth).expect("there are as many numbers as plans")
    }

    fn origin(&self, number: u64) -> Origin {
        match self {
            Source::Seeds { first, .. } => Origin::Seed(first.wrapping_add(number)),
            Source::Files { plans, noises } => {
                let (path, plan) = self.file(plans, number / noises);
                Origin::File {
                    path: path.display().to_string(),
                    noise: plan.noise.seed.wrapping_add(number % noises),
                }
            }
        }
    }

    /// What to call a file that is made of it.
    fn stem(&self, number: u64) -> String {
        match (self, self.origin(number)) {
            (Source::Seeds { world, .. }, Origin::Seed(seed)) => format!("{}-{seed}", world.name()),
            (Source::Files { plans, noises }, Origin::File { noise, .. }) => {
                let stem = stem(&self.file(plans, number / noises).0);
                match noises {
                    1 => stem,
                    _ => format!("{stem}-noise-{noise}"),
                }
            }
            (_, origin) => origin.to_string(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Seeds {
                world, first, seeds, ..
            } => {
                let last = first.wrapping_add(seeds - 1);
                write!(f, "{} worlds, seeds {first} to {last}", world.name())
            }
            Source::Files { plans, noises: 1 } => write!(f, "{} files", plans.len()),
            Source::Files { plans, noises } => {
                write!(f, "{} files, each with {noises} seeds of its noise", plans.len())
            }
        }
    }
}

impl Run {
    pub fn run(self, stop: &Stop) -> Result<ExitCode, Failure> {
        let source = self.source()?;
        let (tally, text) = self.play(&source, stop)?;
        output::show(&text)?;
        Ok(ended(tally.violated == 0))
    }

    fn source(&self) -> Result<Source, Failure> {
        if self.plan.is_empty() {
            return Ok(Source::Seeds {
                players: self.players.clone(),
                world: self.world.clone(),
                first: self.seed,
                seeds: self.seeds.unwrap_or(SEEDS),
            });
        }
        Ok(Source::Files {
            plans: from_files(&self.plan)?,
            noises: self.seeds.unwrap_or(1),
        })
    }

    /// Plays it, keeps what went wrong, and says what it came to.
    fn play(&self, source: &Source, stop: &Stop) -> Result<(Tally, String), Failure> {
        let jobs = match self.jobs.map(usize::from) {
            Some(jobs) => NonZeroUsize::new(jobs),
            None => available_parallelism().ok(),
        };
        let jobs = jobs.unwrap_or(NonZeroUsize::MIN);
        let plans = source.plans();
        let campaign = Campaign {
            plans,
            plan: &|number| source.plan(number),
            world: &|plan, story| self.players.world(plan, story),
            jobs,
            story: match self.digest {
                true => Story::Digested,
                false => Story::Dropped,
            },
            failures_max: usize::from(self.keep),
        };
        let begin = Instant::now();
        let mut progress = Progress::new(plans);
        let tally = campaign.play(stop, |tally| {
            progress.show(tally, |number| source.origin(number).to_string());
        });
        progress.end();
        let took = begin.elapsed();
        let violations = self.keep_all(&tally, source, stop)?;
        let report = Report {
            tally: &tally,
            of: source.to_string(),
            wanted: plans,
            jobs,
            took,
            violations,
            is_interrupted: stop.load(Ordering::Relaxed),
        };
        let text = match self.json {
            true => report.json(),
            false => report.text(),
        };
        Ok((tally, text))
    }

    fn keep_all(&self, tally: &Tally, source: &Source, stop: &Stop) -> Result<Vec<Found>, Failure> {
        let keep = |(number, wrong): (&u64, &Wrong)| {
            let mut plan = wrong.plan.clone();
            let mut violation = wrong.violation.clone();
            let mut shrunk = None;
            if self.shrink && !stop.load(Ordering::Relaxed) {
                let smaller = super::shrink::smallest(&self.players, &plan, self.runs, stop);
                if let Some((smaller, how)) = smaller {
                    shrunk = Some(super::shrink::Saved::new(&plan, &smaller));
                    (plan, violation) = (smaller.plan, how);
                }
            }
            let name = format!("{}-{}", violation.invariant, source.stem(*number));
            let path = found::keep(&self.out, &name, &plan, &violation).map_err(Failure::File)?;
            Ok(Found {
                origin: source.origin(*number),
                violation: wrong.violation.clone(),
                replay: self.players.replay(&path),
                path,
                shrunk,
            })
        };
        tally.failures.iter().map(keep).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sim::plan::{Fault, Recipe, SECOND, Strike};

    fn parse(line: &str) -> Run {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            run: Run,
        }
        Line::try_parse_from(line.split_whitespace()).unwrap().run
    }

    /// Goes wrong whatever the machines do: somebody is struck who is not there. No file could say so.
    fn broken(seed: u64) -> Plan {
        let recipe = Recipe {
            storm: 20 * SECOND,
            faults: Vec::new(),
            ..Recipe::small(seed)
        };
        let mut plan = recipe.plan();
        let fault = Fault::ReplicaLeaves { replica: 99 };
        plan.faults.push(Strike { at_us: SECOND, fault });
        plan
    }

    #[test]
    fn what_goes_wrong_is_counted_kept_and_told_with_the_command_that_plays_it_again() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("found");
        let run = Run {
            out: out.clone(),
            ..parse("run --keep 2 --jobs 2 --seeds 3")
        };
        let source = Source::Files {
            plans: vec![("a.json".into(), broken(1))],
            noises: 3,
        };
        let (tally, text) = run.play(&source, &Stop::new(false)).unwrap();
        assert_eq!((tally.plans, tally.violated), (3, 3));
        assert!(
            text.starts_with("3 plans of 1 files, each with 3 seeds of its noise: 0 held, 3 violated\n"),
            "{text}"
        );
        assert!(
            text.contains("a.json with noise 1: assertion at 1.000000s: panicked at"),
            "{text}"
        );
        for noise in [1, 2] {
            let path = out.join(format!("assertion-a-noise-{noise}.json"));
            assert!(
                text.contains(&format!("  ate sim replay {}\n", path.display())),
                "{text}"
            );
            let kept = std::fs::read_to_string(path).unwrap();
            assert!(kept.contains("\"about\": \"assertion at 1.000000s"), "{kept}");
        }
        assert!(
            text.ends_with("\nand 1 more, which --keep would keep\n"),
            "{text}"
        );
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);
    }

    #[test]
    fn what_is_shrunk_is_kept_small_and_told_as_it_was_found() {
        let directory = tempfile::tempdir().unwrap();
        let run = Run {
            out: directory.path().into(),
            json: true,
            ..parse("run --shrink --runs 40")
        };
        let source = Source::Files {
            plans: vec![("a.json".into(), broken(1))],
            noises: 1,
        };
        // An unfit plan is not made smaller: what is smaller has to fit together.
        let (_, text) = run.play(&source, &Stop::new(false)).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let found = &document["violations"][0];
        assert_eq!(found["origin"]["file"]["path"], "a.json");
        assert_eq!(
            (&found["invariant"], &found["at_us"]),
            (&"assertion".into(), &SECOND.into())
        );
        assert_eq!(found["shrunk"]["before"], found["shrunk"]["after"]);
        assert_eq!(document["plans"]["violated"], 1);
    }

    #[test]
    fn a_number_is_a_seed_or_a_file_with_a_seed_of_its_noise() {
        let seeds = Source::Seeds {
            players: Players::default(),
            world: World::default(),
            first: 7,
            seeds: 3,
        };
        assert_eq!(seeds.plan(2), Recipe::small(9).plan());
        assert_eq!((seeds.plans(), seeds.stem(2)), (3, "small-9".to_string()));
        let (one, two) = (broken(10), broken(20));
        let files = Source::Files {
            plans: vec![("x/one.json".into(), one), ("two.json".into(), two.clone())],
            noises: 5,
        };
        assert_eq!(files.plans(), 10);
        let mut expected = two;
        expected.noise.seed = 22;
        assert_eq!(files.plan(7), expected);
        assert_eq!(files.stem(7), "two-noise-22");
    }
}
