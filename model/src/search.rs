//! Breadth-first search over every state that can be reached: exact, and the first violation comes with
//! a shortest way to it.

use crate::part::Quick;
use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Something that can be explored.
pub trait System {
    /// Where it can be.
    type State: Clone;
    /// What names a state: two states of one name are the same state.
    type Name: Eq + Hash;
    /// What can happen.
    type Step;

    /// Where it begins.
    fn initial(&mut self) -> Self::State;
    /// The name of a state.
    fn name(&self, state: &Self::State) -> Self::Name;
    /// Everything that can happen next, always in the same order.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;
    /// Where a step leads.
    ///
    /// # Errors
    /// What must not be, and is now.
    fn after(&mut self, state: &Self::State, step: &Self::Step) -> Result<Self::State, String>;
    /// Whether all is well in a state that has been reached for the first time.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&mut self, state: &Self::State) -> Result<(), String>;
}

/// Where a search ends even if not everything has been seen.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many distinct states.
    pub states: usize,
    /// So much time.
    pub time: Duration,
}

/// What a search has seen.
#[derive(Clone, Debug)]
pub struct Outcome<Step> {
    /// Distinct states.
    pub states: usize,
    /// Steps that were taken: each leads to a state, new or known.
    pub steps: usize,
    /// How many steps the furthest state is from the beginning.
    pub depth: usize,
    /// States that are at the end of every way: nothing can happen in them.
    pub ends: usize,
    /// How long it took.
    pub time: Duration,
    /// How it ended.
    pub verdict: Verdict<Step>,
}

/// How a search ended.
#[derive(Clone, Debug)]
pub enum Verdict<Step> {
    /// Every state that can be reached has been seen, and all was well.
    Exhausted,
    /// All was well in every state up to this depth, and in some of the next; then a limit was reached.
    CutAt(usize),
    /// A shortest way to a state in which something is wrong, and what that is.
    Violated(Vec<Step>, String),
}

/// How a state was reached: the number of the state before it, and which of that one's steps it was.
type Origin = (u32, u16);

/// Explores `system` until everything has been seen, something is wrong, or a limit is reached.
pub fn explore<S: System>(system: &mut S, limits: Limits) -> Outcome<S::Step> {
    let begin = Instant::now();
    let mut seen = HashSet::<S::Name, Quick>::default();
    let mut origins: Vec<Origin> = vec![(0, 0)];
    let first = system.initial();
    seen.insert(system.name(&first));
    let mut outcome = Outcome {
        states: 1,
        steps: 0,
        depth: 0,
        ends: 0,
        time: Duration::ZERO,
        verdict: Verdict::Exhausted,
    };
    let mut layer = vec![(0, first)];
    if let Err(what) = system.check(&layer[0].1) {
        outcome.verdict = Verdict::Violated(Vec::new(), what);
        return outcome;
    }
    'search: while !layer.is_empty() {
        let mut next = Vec::new();
        for (number, state) in layer.drain(..) {
            let steps = system.steps(&state);
            outcome.ends += usize::from(steps.is_empty());
            for (index, step) in steps.iter().enumerate() {
                outcome.steps += 1;
                let index = u16::try_from(index).expect("fewer steps than a u16 can number");
                let reached = system.after(&state, step).and_then(|after| {
                    let is_new = seen.insert(system.name(&after));
                    if is_new {
                        system.check(&after)?;
                    }
                    Ok(is_new.then_some(after))
                });
                match reached {
                    Ok(None) => {}
                    Ok(Some(after)) => {
                        next.push((outcome.states as u32, after));
                        outcome.states += 1;
                        origins.push((number, index));
                    }
                    Err(what) => {
                        origins.push((number, index));
                        outcome.depth += 1;
                        let way = way_to(system, &origins, outcome.states);
                        outcome.verdict = Verdict::Violated(way, what);
                        break 'search;
                    }
                }
            }
            if outcome.states >= limits.states || begin.elapsed() >= limits.time {
                outcome.verdict = Verdict::CutAt(outcome.depth);
                break 'search;
            }
        }
        outcome.depth += usize::from(!next.is_empty());
        layer = next;
    }
    outcome.time = begin.elapsed();
    outcome
}

/// The steps from the beginning to a state, found again by walking them.
fn way_to<S: System>(system: &mut S, origins: &[Origin], mut number: usize) -> Vec<S::Step> {
    let mut indices = Vec::new();
    while number != 0 {
        let (before, index) = origins[number];
        indices.push(index);
        number = before as usize;
    }
    let mut state = system.initial();
    let mut way = Vec::new();
    for index in indices.into_iter().rev() {
        let step = system.steps(&state).swap_remove(usize::from(index));
        if let Ok(after) = system.after(&state, &step) {
            state = after;
        }
        way.push(step);
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Limits = Limits {
        states: usize::MAX,
        time: Duration::MAX,
    };

    /// Two jugs, of 3 and of 5 litres, and a tap; there must never be `forbidden` litres in the larger.
    struct Jugs {
        forbidden: u8,
    }

    impl System for Jugs {
        type State = (u8, u8);
        type Name = (u8, u8);
        type Step = &'static str;

        fn initial(&mut self) -> (u8, u8) {
            (0, 0)
        }

        fn name(&self, state: &(u8, u8)) -> (u8, u8) {
            *state
        }

        fn steps(&self, _: &(u8, u8)) -> Vec<&'static str> {
            vec!["fill 3", "fill 5", "empty 3", "empty 5", "3 to 5", "5 to 3"]
        }

        fn after(&mut self, &(three, five): &(u8, u8), step: &&'static str) -> Result<(u8, u8), String> {
            Ok(match *step {
                "fill 3" => (3, five),
                "fill 5" => (three, 5),
                "empty 3" => (0, five),
                "empty 5" => (three, 0),
                "3 to 5" => {
                    let poured = three.min(5 - five);
                    (three - poured, five + poured)
                }
                _ => {
                    let poured = five.min(3 - three);
                    (three + poured, five - poured)
                }
            })
        }

        fn check(&mut self, state: &(u8, u8)) -> Result<(), String> {
            if state.1 == self.forbidden {
                return Err(format!("{} litres", state.1));
            }
            Ok(())
        }
    }

    #[test]
    fn every_state_is_counted_once() {
        let outcome = explore(&mut Jugs { forbidden: 6 }, NEVER);
        assert!(matches!(outcome.verdict, Verdict::Exhausted));
        assert_eq!((outcome.states, outcome.steps), (16, 96));
    }

    #[test]
    fn the_way_to_a_violation_is_a_shortest_one() {
        let outcome = explore(&mut Jugs { forbidden: 4 }, NEVER);
        let Verdict::Violated(way, what) = outcome.verdict else {
            panic!("four litres can be measured");
        };
        assert_eq!(what, "4 litres");
        assert_eq!(way, ["fill 5", "5 to 3", "empty 3", "5 to 3", "fill 5", "5 to 3"]);
        assert_eq!(outcome.depth, 6);
    }

    #[test]
    fn a_limit_ends_the_search_and_is_told() {
        let limits = Limits { states: 5, ..NEVER };
        let outcome = explore(&mut Jugs { forbidden: 6 }, limits);
        assert!(matches!(outcome.verdict, Verdict::CutAt(_)));
    }
}
