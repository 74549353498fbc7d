//! Every pair of state and event of the records whose changes are pure functions, tried.
//!
//! A walk makes what can be made and notes what it tried in vain. Whoever walks compares both with the
//! record's table: what the table allows is made, and what it does not have changes nothing.

#![allow(dead_code, reason = "each test walks what it needs")]

use holdfast_core::table::{Kind, Moved, Table};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

pub mod actor;
pub mod lease;
pub mod pull;
pub mod worker;

/// What a walk has seen.
#[derive(Debug, Default)]
pub struct Walk {
    /// The transitions that were made.
    pub made: BTreeSet<Moved>,
    /// State and event, of what was tried and changed nothing.
    pub refused: BTreeSet<(&'static str, &'static str)>,
}

impl Walk {
    /// Panics unless the walk has made exactly what the table has, and was refused everything else that
    /// it tried.
    pub fn agrees_with<S: Kind, E: Kind>(&self, table: &Table<S, E>) {
        let allowed: BTreeSet<Moved> = table.transitions().into_iter().collect();
        for moved in &allowed {
            assert!(self.made.contains(moved), "in the table, and never made: {moved}");
        }
        for moved in &self.made {
            assert!(allowed.contains(moved), "made, and not in the table: {moved}");
        }
        for (state, event) in &self.refused {
            let is_allowed = allowed.iter().any(|m| m.from == *state && m.event == *event);
            assert!(!is_allowed, "in the table, and refused: {event} from {state}");
        }
    }
}

/// A machine that is walked by doing, in each of its states, everything that can be done to it.
pub trait Walked: Clone + Eq + Hash + Debug {
    /// Something that can be done.
    type Deed: Copy + Debug;
    /// A kind of event.
    type Event: Kind;

    /// Everything that can be done.
    fn deeds() -> Vec<Self::Deed>;
    /// Where it stands.
    fn phase(&self) -> &'static str;
    /// Does it, and says which events that was, as far as the machine could know; none if it cannot be
    /// done now.
    fn suffer(&mut self, deed: Self::Deed) -> Vec<Self::Event>;
    /// Takes note of what it asks for, and says what moved.
    fn moves(&mut self) -> Vec<Moved>;
    /// Whether what it is apart from its clock is the same.
    fn is_same(&self, other: &Self) -> bool;
}

/// Walks everything that can be reached by `depth` deeds.
#[allow(clippy::disallowed_types, reason = "only asked what it contains")]
pub fn walk<M: Walked>(start: M, depth: usize) -> Walk {
    let mut walk = Walk::default();
    let mut known = std::collections::HashSet::from([start.clone()]);
    let mut edge = vec![start];
    for _ in 0..depth {
        let mut next = Vec::new();
        for machine in edge {
            for deed in M::deeds() {
                let mut after = machine.clone();
                let events = after.suffer(deed);
                let moves = after.moves();
                let mut phase = machine.phase();
                for moved in &moves {
                    assert_eq!(moved.from, phase, "{moved} after {deed:?} of {machine:?}");
                    phase = moved.to;
                }
                assert_eq!(
                    after.phase(),
                    phase,
                    "a change that was not told: {deed:?} of {machine:?}"
                );
                if moves.is_empty() {
                    assert!(after.is_same(&machine), "{deed:?} changed {machine:?} in secret");
                    walk.refused
                        .extend(events.iter().map(|event| (machine.phase(), event.name())));
                }
                // What has only grown older leads nowhere that it did not lead before.
                if !moves.is_empty() && known.insert(after.clone()) {
                    next.push(after);
                }
                walk.made.extend(moves);
            }
        }
        edge = next;
    }
    walk
}
