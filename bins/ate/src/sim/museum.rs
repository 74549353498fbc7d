//! `ate sim museum`: every known bug, and how many plans it takes to find it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

use clap::Args;
use holdfast_sim::museum::{ALL, Exhibit, Measure, Unfounded, measure};
use serde_json::json;

use super::options::exhibit;
use super::{Stop, ended};
use crate::failure::Failure;
use crate::output;
use crate::table::{self, Cell};

#[derive(Args, Debug)]
pub struct Museum {
    /// Only these
    #[arg(value_name = "NAME", value_parser = exhibit)]
    only: Vec<&'static Exhibit>,
    /// Only say what each of them is, and who had it
    #[arg(long)]
    list: bool,
    /// From how many starting points each is hunted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    starts: u64,
    /// How many plans are played from each until it is given up
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1000))]
    most: u64,
    /// How many threads hunt [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Say it as one JSON document
    #[arg(long)]
    json: bool,
}

/// What has become of one of them; none if it was not hunted any more.
type Hunted = Option<Result<Measure, Unfounded>>;

impl Museum {
    pub fn run(self, stop: &Stop) -> Result<ExitCode, Failure> {
        let all: Vec<&Exhibit> = match &self.only[..] {
            [] => ALL.iter().collect(),
            only => only.to_vec(),
        };
        if self.list {
            output::show(&listed(&all))?;
            return Ok(ended(true));
        }
        let hunted = self.hunt(&all, stop);
        output::show(&match self.json {
            true => document(&all, &hunted),
            false => table(&all, &hunted),
        })?;
        Ok(ended(hunted.iter().all(|found| matches!(found, Some(Ok(_))))))
    }

    fn hunt(&self, all: &[&Exhibit], stop: &Stop) -> Vec<Hunted> {
        let jobs = match self.jobs {
            Some(jobs) => usize::from(jobs),
            None => available_parallelism().map_or(1, usize::from),
        };
        let next = AtomicUsize::new(0);
        let hunted: Vec<Mutex<Hunted>> = all.iter().map(|_| Mutex::new(None)).collect();
        scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(exhibit), Some(place)) = (all.get(nth), hunted.get(nth)) else {
                            break;
                        };
                        let found = measure(exhibit, self.starts, self.most);
                        *place.lock().expect("nobody panics with it") = Some(found);
                    }
                });
            }
        });
        let hunted = hunted.into_iter();
        hunted
            .map(|found| found.into_inner().expect("nobody has panicked with it"))
            .collect()
    }
}

fn listed(all: &[&Exhibit]) -> String {
    let row = |exhibit: &&Exhibit| -> [Cell; 4] {
        [
            exhibit.name.into(),
            exhibit.breaks.join(", ").into(),
            exhibit.had_by.into(),
            exhibit.what.into(),
        ]
    };
    table::render(
        ["NAME", "BREAKS", "HAD BY", "WHAT IS WRONG"],
        all.iter().map(row).collect(),
    )
}

fn table(all: &[&Exhibit], hunted: &[Hunted]) -> String {
    let row = |(exhibit, hunted): (&&Exhibit, &Hunted)| -> [Cell; 5] {
        let [by, median, worst] = match hunted {
            Some(Ok(measure)) => [
                measure.first.violation.invariant.to_owned(),
                measure.median().to_string(),
                measure.worst().to_string(),
            ],
            Some(Err(why)) => [why.to_string(), String::new(), String::new()],
            None => ["not hunted".to_owned(), String::new(), String::new()],
        };
        [
            exhibit.name.into(),
            exhibit.hunt.to_string().into(),
            by.into(),
            median.into(),
            worst.into(),
        ]
    };
    let rows = all.iter().zip(hunted).map(row).collect();
    let found = hunted.iter().filter(|found| matches!(found, Some(Ok(_)))).count();
    let table = table::render(["NAME", "HUNTED WITH", "FOUND BY", "MEDIAN PLANS", "WORST"], rows);
    format!("{table}{found} of {} found\n", all.len())
}

fn document(all: &[&Exhibit], hunted: &[Hunted]) -> String {
    let one = |(exhibit, hunted): (&&Exhibit, &Hunted)| {
        let found = match hunted {
            Some(Ok(measure)) => json!({
                "invariant": measure.first.violation.invariant,
                "what": measure.first.violation.what,
                "seed": measure.first.seed,
                "median_plans": measure.median(),
                "worst_plans": measure.worst(),
            }),
            _ => json!(null),
        };
        json!({
            "name": exhibit.name,
            "what": exhibit.what,
            "had_by": exhibit.had_by,
            "breaks": exhibit.breaks,
            "hunted": hunted.is_some(),
            "found": found,
        })
    };
    let all: Vec<_> = all.iter().zip(hunted).map(one).collect();
    serde_json::to_string_pretty(&json!({ "exhibits": all })).expect("JSON has a form for each of our values")
        + "\n"
}
