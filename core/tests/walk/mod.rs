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
pub mod licence;
pub mod operation;
pub mod pull;
pub mod session;
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
        let never: Vec<String> = allowed.difference(&self.made).map(Moved::to_string).collect();
        assert!(never.is_empty(), "in the table, and never made: {never:#?}");
        let extra: Vec<String> = self.made.difference(&allowed).map(Moved::to_string).collect();
        assert!(extra.is_empty(), "made, and not in the table: {extra:#?}");
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
                // What has only grown older leads nowhere that it did not lead before.
                if let Some(after) = walk.step(&machine, deed)
                    && known.insert(after.clone())
                {
                    next.push(after);
                }
            }
        }
        edge = next;
    }
    walk
}

/// Walks along a path, and from each place on it astray by up to two deeds.
pub fn stray<M: Walked>(walk: &mut Walk, start: &M, path: &[M::Deed]) {
    let mut place = start.clone();
    for deed in path.iter().map(Some).chain([None]) {
        for first in M::deeds() {
            let mut astray = place.clone();
            walk.take(&mut astray, first);
            for second in M::deeds() {
                walk.take(&mut astray.clone(), second);
            }
        }
        if let Some(deed) = deed {
            walk.take(&mut place, *deed);
        }
    }
}

impl Walk {
    /// Does something to a copy; none if nothing moved.
    fn step<M: Walked>(&mut self, machine: &M, deed: M::Deed) -> Option<M> {
        let mut after = machine.clone();
        self.take(&mut after, deed).then_some(after)
    }

    /// Does something, and says whether anything moved.
    fn take<M: Walked>(&mut self, machine: &mut M, deed: M::Deed) -> bool {
        let before = machine.clone();
        let events = machine.suffer(deed);
        let moves = machine.moves();
        let mut phase = before.phase();
        for moved in &moves {
            assert_eq!(moved.from, phase, "{moved} after {deed:?} of {before:?}");
            phase = moved.to;
        }
        assert_eq!(
            machine.phase(),
            phase,
            "a change that was not told: {deed:?} of {before:?}"
        );
        if moves.is_empty() {
            assert!(machine.is_same(&before), "{deed:?} changed {before:?} in secret");
            let events = events.iter().map(|event| (before.phase(), event.name()));
            self.refused.extend(events);
        }
        self.made.extend(&moves);
        !moves.is_empty()
    }
}
