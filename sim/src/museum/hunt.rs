//! The hunt: plans are played with a bug in them until an oracle objects.

use super::Exhibit;
use crate::oracle::Violation;
use crate::plan::Plan;
use crate::world::{Story, World};
use std::fmt;
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

/// Why there is nothing to be said of a hunt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfounded {
    /// The bug was not found.
    NotFound {
        /// From this seed on.
        start: u64,
    },
    /// What was found is not what the exhibit says that it breaks.
    NotItsHarm(Found),
}

impl fmt::Display for Unfounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfounded::NotFound { start } => write!(f, "not found from seed {start} on"),
            Unfounded::NotItsHarm(found) => {
                let (seed, violation) = (found.seed, &found.violation);
                write!(
                    f,
                    "found with seed {seed} by something that is not its harm: {violation}"
                )
            }
        }
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
/// It was not found from one of them, or by something that is not its harm.
pub fn measure(exhibit: &Exhibit, starts: u64, most: u64) -> Result<Measure, Unfounded> {
    let mut all = Vec::new();
    for start in (0..starts).map(|number| number * 1_000) {
        let found = hunt(exhibit, start..start + most).ok_or(Unfounded::NotFound { start })?;
        if !exhibit.breaks.contains(&found.violation.invariant) {
            return Err(Unfounded::NotItsHarm(found));
        }
        all.push(found);
    }
    let first = all.first().cloned().ok_or(Unfounded::NotFound { start: 0 })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::museum::Hunt;
    use crate::museum::flaw::Flaw;

    #[derive(Clone)]
    struct Flawless;

    impl Flaw for Flawless {}

    #[test]
    fn what_has_no_flaw_is_not_found_and_plays_as_if_the_museum_were_not_there() {
        let exhibit = Exhibit {
            name: "flawless",
            what: "Nothing is wrong.",
            had_by: "nobody",
            breaks: &["I1"],
            hunt: Hunt::Storms,
            flaw: || Box::new(Flawless),
        };
        assert_eq!(hunt(&exhibit, 300..310), None);
        assert_eq!(measure(&exhibit, 1, 3), Err(Unfounded::NotFound { start: 0 }));
        let plan = exhibit.plan(300);
        let flawed = exhibit.world(plan.clone(), Story::Digested).run();
        assert_eq!(flawed, World::new(plan, Story::Digested).run());
    }
}
