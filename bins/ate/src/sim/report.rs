//! What a campaign came to: for people, and as a document whose fields stay.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_core::bounds::Bound;
use holdfast_sim::campaign::{Coverage, Tally, transitions};
use holdfast_sim::oracle::{Nearness, Violation};
use holdfast_sim::plan::Kind;
use serde::Serialize;
use serde_json::json;

use super::search;
use super::shrink::Saved;

/// Which plan it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The one that this seed makes.
    Seed(u64),
    /// The one in this file, with this seed of its noise.
    File { path: String, noise: u64 },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Seed(seed) => write!(f, "seed {seed}"),
            Origin::File { path, noise } => write!(f, "{path} with noise {noise}"),
        }
    }
}

/// A plan that went wrong, and where it is now.
#[derive(Debug)]
pub struct Found {
    pub origin: Origin,
    pub violation: Violation,
    pub path: PathBuf,
    /// The command that plays it again.
    pub replay: String,
    pub shrunk: Option<Saved>,
}

/// How fast it was.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    plans: f64,
    events: f64,
    simulated: f64,
    seconds: f64,
}

impl Speed {
    pub fn of(tally: &Tally, took: Duration) -> Speed {
        Speed {
            plans: tally.plans as f64,
            events: tally.events as f64,
            simulated: tally.micros as f64 / 1e6,
            seconds: took.as_secs_f64().max(1e-6),
        }
    }

    fn times(&self) -> f64 {
        self.simulated / self.seconds
    }

    fn events(&self) -> f64 {
        self.events / self.seconds
    }

    fn plans(&self) -> f64 {
        self.plans / self.seconds
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} plans/s, {} events/s, {} simulated: {} times as fast as time",
            grouped(self.plans().round() as u64),
            grouped(self.events().round() as u64),
            days(self.simulated),
            grouped(self.times().round() as u64)
        )
    }
}

/// What was covered, in one line.
pub fn covered(coverage: &Coverage) -> String {
    format!(
        "{} of {} transitions, {} of {} faults, {} of {} pairs of them",
        coverage.moves.len(),
        transitions().len(),
        coverage.kinds.len(),
        Kind::ALL.len(),
        coverage.pairs.len(),
        Coverage::PAIRS
    )
}

/// How requests were answered.
pub fn verdicts(verdicts: &BTreeMap<String, u64>) -> String {
    let each = verdicts
        .iter()
        .map(|(code, count)| format!("{code} {}", grouped(*count)));
    each.collect::<Vec<_>>().join(", ")
}

/// What a campaign came to.
#[derive(Debug)]
pub struct Report<'a> {
    pub tally: &'a Tally,
    /// What was played.
    pub of: String,
    /// How many plans there were to play.
    pub wanted: u64,
    pub jobs: NonZeroUsize,
    pub took: Duration,
    pub violations: Vec<Found>,
    pub is_interrupted: bool,
}

/// How near it came to each bound, in thousandths.
fn nearness(tally: &Tally) -> impl Iterator<Item = (String, u64)> {
    let near = |(bound, nearness): (&Bound, &Nearness)| (search::name(*bound), nearness.thousandths());
    tally.nearness.iter().map(near)
}

impl Report<'_> {
    /// For programs. Fields are only ever added.
    pub fn json(&self) -> String {
        let Report { tally, .. } = self;
        let speed = Speed::of(tally, self.took);
        let coverage = &tally.coverage;
        let records = coverage.by_record();
        let record = |(record, (made, all)): (&&str, &(usize, usize))| {
            let counts = json!({ "made": made, "all": all });
            ((*record).to_string(), counts)
        };
        let kinds = Kind::ALL.map(|kind| (kind.name(), coverage.kinds.get(&kind).copied().unwrap_or(0)));
        let found = |found: &Found| {
            json!({
                "origin": found.origin,
                "invariant": found.violation.invariant,
                "at_us": found.violation.at,
                "what": found.violation.what,
                "plan": found.path,
                "replay": found.replay,
                "shrunk": found.shrunk,
            })
        };
        let document = json!({
            "of": self.of,
            "plans": {
                "wanted": self.wanted,
                "played": tally.plans,
                "held": tally.plans - tally.violated,
                "violated": tally.violated,
            },
            "interrupted": self.is_interrupted,
            "violations": self.violations.iter().map(found).collect::<Vec<_>>(),
            "events": tally.events,
            "simulated_us": tally.micros,
            "digest": format!("{:016x}", tally.digest),
            "verdicts": tally.verdicts,
            "nearness_permille": nearness(tally).collect::<BTreeMap<_, _>>(),
            "coverage": {
                "transitions": {
                    "made": coverage.moves.len(),
                    "all": transitions().len(),
                    "records": records.iter().map(record).collect::<BTreeMap<_, _>>(),
                },
                "faults": BTreeMap::from(kinds),
                "fault_pairs": { "made": coverage.pairs.len(), "all": Coverage::PAIRS },
            },
            "speed": {
                "jobs": self.jobs,
                "seconds": speed.seconds,
                "plans_per_second": speed.plans(),
                "events_per_second": speed.events(),
                "times_as_fast_as_time": speed.times(),
            },
        });
        serde_json::to_string_pretty(&document).expect("JSON has a form for each of our values") + "\n"
    }

    /// For people.
    pub fn text(&self) -> String {
        let Report { tally, .. } = self;
        let held = tally.plans - tally.violated;
        let mut text = format!(
            "{} plans of {}: {} held, {} violated\n",
            grouped(tally.plans),
            self.of,
            grouped(held),
            grouped(tally.violated)
        );
        if self.is_interrupted {
            let wanted = grouped(self.wanted);
            text += &format!("interrupted: {wanted} were to be played\n");
        }
        let speed = Speed::of(tally, self.took);
        let coverage = &tally.coverage;
        let records = coverage.by_record();
        let records = records.iter();
        let records: Vec<String> = records
            .map(|(record, (made, all))| format!("{record} {made}/{all}"))
            .collect();
        let missing = Kind::ALL.iter().filter(|kind| !coverage.kinds.contains_key(kind));
        let missing: Vec<String> = missing.map(|kind| kind.name()).collect();
        let jobs = match self.jobs.get() {
            1 => "1 thread".to_string(),
            jobs => format!("{jobs} threads"),
        };
        let mut lines = vec![
            ("speed", speed.to_string()),
            (
                "events",
                format!(
                    "{}, as {:016x}, in {:.1} s on {jobs}",
                    grouped(tally.events),
                    tally.digest,
                    speed.seconds
                ),
            ),
            ("verdicts", verdicts(&tally.verdicts)),
            ("of bounds", {
                let nearness =
                    nearness(tally).map(|(bound, near)| format!("{bound} {:.3}", near as f64 / 1e3));
                nearness.collect::<Vec<_>>().join(", ")
            }),
            ("covered", covered(coverage)),
            ("transitions", records.join(", ")),
        ];
        if !missing.is_empty() && missing.len() < Kind::ALL.len() {
            lines.push(("no fault", missing.join(", ")));
        }
        for (name, line) in lines {
            text += &format!("  {name:<12}{line}\n");
        }
        for found in &self.violations {
            text += &format!("\n{}: {}\n", found.origin, found.violation);
            if let Some(saved) = &found.shrunk {
                text += &format!("  shrunk to {saved}\n");
            }
            text += &format!("  {}\n", found.replay);
        }
        let shown = self.violations.len() as u64;
        if tally.violated > shown {
            text += &format!(
                "\nand {} more, which --keep would keep\n",
                grouped(tally.violated - shown)
            );
        }
        text
    }
}

/// A time in the two largest units that it has.
fn days(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (365.., _, _) => format!("{} years {} days", days / 365, days % 365),
        _ => format!("{days} days {} h", hours % 24),
    }
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_as_people_write_them() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345, "12,345"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        for (seconds, text) in [
            (59.6, "1 min 0 s"),
            (3_661.0, "1 h 1 min"),
            (90_000.0, "1 days 1 h"),
            (400.0 * 86_400.0, "1 years 35 days"),
        ] {
            assert_eq!(days(seconds), text);
        }
    }
}
