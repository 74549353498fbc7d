//! The museum of known bugs: small defects, each as the original or a well-known kind of system had it,
//! and whole protocols that went wrong. The simulator must catch every one; if it does not, it is blind to
//! something that has hurt people.
//!
//! A defect never touches the core: it is a [`flaw`] between one of the core's machines and its world. What it is
//! found by, follows from what harm it does, not from where it is; an exhibit that is found by anything else
//! is not understood, and a test fails.
//!
//! `cargo run --release -p holdfast-sim --example museum` lists and hunts them, and writes `docs/museum.md`.

pub(crate) mod flaw;
mod hall;
mod hunt;
mod leases;
mod nodes;
mod protocols;
mod records;
mod snapshots;
pub mod table;
mod verdicts;
mod watchers;

use crate::plan::{Kind, Plan, Recipe};
use crate::world::{Story, World};
use flaw::Flaw;
use std::fmt;

pub use hall::ALL;
pub use hunt::{Found, Measure, Unfounded, hunt, measure};

/// One known bug.
pub struct Exhibit {
    /// What it is called, in kebab-case.
    pub name: &'static str,
    /// What is wrong, as one sentence.
    pub what: &'static str,
    /// Who had it.
    pub had_by: &'static str,
    /// The invariants that it breaks, one of which it is found by.
    pub breaks: &'static [&'static str],
    /// What it is hunted with.
    pub hunt: Hunt,
    flaw: fn() -> Box<dyn Flaw>,
}

/// What an exhibit is hunted with.
#[derive(Clone, Copy)]
pub enum Hunt {
    /// The ordinary small storms.
    Storms,
    /// Small storms of these kinds of faults only.
    Faults(&'static [Kind]),
    /// Small storms with something changed, in words.
    Tuned(&'static str, fn(&mut Recipe)),
}

impl Exhibit {
    /// The exhibit of that name.
    pub fn named(name: &str) -> Option<&'static Exhibit> {
        ALL.iter().find(|exhibit| exhibit.name == name)
    }

    /// The plan that it is hunted with at this seed.
    pub fn plan(&self, seed: u64) -> Plan {
        let mut recipe = Recipe::small(seed);
        match self.hunt {
            Hunt::Storms => {}
            Hunt::Faults(kinds) => recipe.faults = kinds.to_vec(),
            Hunt::Tuned(_, tune) => tune(&mut recipe),
        }
        recipe.plan()
    }

    /// The world of a plan with this bug in it.
    pub fn world(&self, plan: Plan, story: Story) -> World {
        World::flawed(plan, story, (self.flaw)())
    }
}

impl fmt::Debug for Exhibit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exhibit").field("name", &self.name).finish()
    }
}

impl fmt::Display for Hunt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hunt::Storms => f.write_str("small storms"),
            Hunt::Faults(kinds) => {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
                f.write_str(&kinds.join(", "))
            }
            Hunt::Tuned(words, _) => f.write_str(words),
        }
    }
}
