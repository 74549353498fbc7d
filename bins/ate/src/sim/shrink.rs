//! `ate sim shrink`: the smallest plan that goes wrong in the same way.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Args;
use holdfast_core::bounds::Bound;
use holdfast_sim::oracle::Violation;
use holdfast_sim::plan::Plan;
use holdfast_sim::shrink::{Shrunk, shrink};
use holdfast_sim::world::Story;
use serde::Serialize;

use super::options::{OnePlan, Players};
use super::{Stop, ended, found, search};
use crate::failure::Failure;
use crate::output;

/// How many plans are played to shrink one.
pub const RUNS: u64 = 3_000;

#[derive(Args, Debug)]
pub struct Shrink {
    #[command(flatten)]
    one: OnePlan,
    /// How many plans may be played
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    runs: u64,
    /// The smallest that comes as near to this bound, within a hundredth, instead of the smallest that goes wrong
    #[arg(long, value_name = "BOUND", value_parser = search::bound)]
    near: Option<Bound>,
    /// The file to write the smallest plan to [default: INVARIANT-NAME.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What has become of the size of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saved {
    /// Faults and requests before.
    before: Size,
    /// And after.
    after: Size,
    /// How many plans were played.
    runs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Size {
    faults: usize,
    requests: usize,
}

impl Size {
    fn of(plan: &Plan) -> Size {
        Size {
            faults: plan.faults.len(),
            requests: plan.requests.len(),
        }
    }
}

impl Saved {
    pub fn new(before: &Plan, shrunk: &Shrunk) -> Saved {
        Saved {
            before: Size::of(before),
            after: Size::of(&shrunk.plan),
            runs: shrunk.runs,
        }
    }
}

impl std::fmt::Display for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} faults instead of {}, {} requests instead of {}, after {} runs",
            self.after.faults, self.before.faults, self.after.requests, self.before.requests, self.runs
        )
    }
}

/// The smallest plan that could be found before it was to stop, and how it goes wrong; none if it does not.
pub fn smallest(players: &Players, plan: &Plan, runs: u64, stop: &Stop) -> Option<(Shrunk, Violation)> {
    let play = |plan: &Plan| {
        let outcome = players.world(plan.clone(), Story::Dropped).run();
        outcome.violation.or(outcome.known)
    };
    // What is not played does not go wrong: then nothing becomes smaller any more.
    let judge = |plan: &Plan| match stop.load(Ordering::Relaxed) {
        true => None,
        false => play(plan).map(|violation| violation.gist()),
    };
    let shrunk = shrink(plan, &judge, runs)?;
    let violation = play(&shrunk.plan)?;
    Some((shrunk, violation))
}

impl Shrink {
    pub fn run(self, stop: &Stop) -> Result<ExitCode, Failure> {
        let plan = self.one.plan()?;
        if let Some(bound) = self.near {
            return self.as_near(&plan, bound, stop);
        }
        let Some((shrunk, violation)) = smallest(&self.one.players, &plan, self.runs, stop) else {
            output::show("it holds: there is nothing to shrink\n")?;
            return Ok(ended(true));
        };
        let saved = Saved::new(&plan, &shrunk);
        let path = match self.out {
            Some(path) => {
                found::write(&path, &found::with_about(&shrunk.plan, &violation).to_json())
                    .map_err(Failure::File)?;
                path
            }
            None => {
                let name = format!("{}-{}", violation.invariant, self.one.stem());
                found::keep(".".as_ref(), &name, &shrunk.plan, &violation).map_err(Failure::File)?
            }
        };
        output::show(&format!(
            "{violation}\n{saved}\n{}\n",
            self.one.players.replay(&path)
        ))?;
        Ok(ended(false))
    }

    /// The smallest plan that comes as near to a bound.
    fn as_near(&self, plan: &Plan, bound: Bound, stop: &Stop) -> Result<ExitCode, Failure> {
        let near = |plan: &Plan| {
            let outcome = self.one.players.world(plan.clone(), Story::Dropped).run();
            let nearness = outcome
                .nearness
                .get(&bound)
                .map(|nearness| nearness.thousandths());
            nearness.filter(|_| outcome.violation.is_none())
        };
        let name = search::name(bound);
        let Some(wanted) = near(plan) else {
            output::show(&format!(
                "it does not put {name} to the test: there is nothing to shrink\n"
            ))?;
            return Ok(ended(true));
        };
        let judge = |plan: &Plan| {
            let is_so = !stop.load(Ordering::Relaxed) && near(plan) >= Some(wanted - wanted / 100);
            is_so.then(|| name.clone())
        };
        let Some(shrunk) = shrink(plan, &judge, self.runs) else {
            return Ok(ended(true));
        };
        let path = self.out.clone().unwrap_or_else(|| format!("{name}.json").into());
        found::write(&path, &shrunk.plan.to_json()).map_err(Failure::File)?;
        let reached = near(&shrunk.plan).unwrap_or_default() as f64 / 1e3;
        let (saved, replay) = (Saved::new(plan, &shrunk), self.one.players.replay(&path));
        output::show(&format!(
            "{name}: {reached:.3} of it is seen\n{saved}\n{replay}\n"
        ))?;
        Ok(ended(true))
    }
}
