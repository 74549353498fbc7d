//! The hunt: plans are played with a bug in them until an oracle objects.

use super::Exhibit;
use crate::oracle::Violation;
use crate::plan::Plan;
use crate::world::{Story, World};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The name of what a machine's own assertions find.
const ASSERTION: &str = "assertion";

/// A bug that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The seed whose plan found it.
    pub seed: u64,
    /// How many plans were played for that, this one too.
    pub runs: u64,
    /// How.
    pub violation: Violation,
}

/// How many plans it takes to find a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// How many, from each starting point; in order of size.
    pub runs: Vec<u64>,
    /// What found it first.
    pub first: Found,
}

impl Measure {
    /// Half of the starting points needed no more than this.
    pub fn median(&self) -> u64 {
        self.runs[self.runs.len() / 2]
    }

    /// No starting point needed more than this.
    pub fn worst(&self) -> u64 {
        self.runs[self.runs.len() - 1]
    }
}

/// Plays the plans of these seeds with the bug in them until it is found. A plan that goes wrong without the bug
/// finds nothing.
pub fn hunt(exhibit: &Exhibit, seeds: impl IntoIterator<Item = u64>) -> Option<Found> {
    for (before, seed) in seeds.into_iter().enumerate() {
        let plan = exhibit.plan(seed);
        let Some(violation) = violation(|| exhibit.world(plan.clone(), Story::Dropped)) else {
            continue;
        };
        if is_sound(plan) {
            return Some(Found {
                seed,
                runs: before as u64 + 1,
                violation,
            });
        }
    }
    None
}

/// Hunts from so many starting points, a thousand seeds apart, with so many plans each.
///
/// # Errors
/// The starting point from which it was not found.
pub fn measure(exhibit: &Exhibit, starts: u64, most: u64) -> Result<Measure, u64> {
    let mut all = Vec::new();
    for start in (0..starts).map(|number| number * 1_000) {
        all.push(hunt(exhibit, start..start + most).ok_or(start)?);
    }
    let first = all.first().cloned().ok_or(0u64)?;
    let mut runs: Vec<u64> = all.iter().map(|found| found.runs).collect();
    runs.sort_unstable();
    Ok(Measure { runs, first })
}

/// Whether the plan holds without the bug.
fn is_sound(plan: Plan) -> bool {
    violation(|| World::new(plan, Story::Dropped)).is_none()
}

/// What goes wrong in a world; that a machine's own assertion fails goes wrong, too.
fn violation(world: impl FnOnce() -> World) -> Option<Violation> {
    match catch_unwind(AssertUnwindSafe(|| world().run())) {
        Ok(outcome) => outcome.violation,
        Err(panic) => Some(Violation {
            at: 0,
            invariant: ASSERTION,
            what: panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_default(),
        }),
    }
}
