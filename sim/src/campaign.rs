//! A campaign: many plans over all cores, and what they have come to.
//!
//! Each plan is played by one thread from its beginning to its end, and what it came to is added up in an order
//! that does not matter. So a campaign that was played to its end comes to the same, whatever the number of
//! threads.

mod coverage;

use crate::oracle::{Nearness, Violation};
use crate::plan::{Kind, Plan};
use crate::rng::Rng;
use crate::world::{Outcome, Story, World};
use holdfast_core::bounds::Bound;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

pub use coverage::{Coverage, transitions};

/// Many plans.
pub struct Campaign<'a> {
    /// How many.
    pub plans: u64,
    /// The one of that number, counted from 0: always the same.
    pub plan: &'a (dyn Fn(u64) -> Plan + Sync),
    /// The world that plays it: [`World::new`], or one with a bug of the museum in it.
    pub world: &'a (dyn Fn(Plan, Story) -> World + Sync),
    /// How many threads play them.
    pub jobs: NonZeroUsize,
    /// Whether all that machines hear and do becomes part of the digest, which is slower.
    pub story: Story,
    /// Of how many plans that go wrong it is kept how; all are counted.
    pub failures_max: usize,
}

/// What a campaign has come to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many plans were played.
    pub plans: u64,
    /// How many of them went wrong.
    pub violated: u64,
    /// How many events there were.
    pub events: u64,
    /// How much time has passed in them, in microseconds.
    pub micros: u64,
    /// A digest of all events of all plans.
    pub digest: u64,
    /// How many requests of callers were answered, by what they were told.
    pub verdicts: BTreeMap<String, u64>,
    /// How near any of them came to each bound.
    pub nearness: BTreeMap<Bound, Nearness>,
    /// What has been made to happen.
    pub coverage: Coverage,
    /// How plans went wrong, by their numbers: the first ones.
    pub failures: BTreeMap<u64, Failure>,
}

/// A plan that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// It.
    pub plan: Plan,
    /// How it went wrong.
    pub violation: Violation,
}

/// One plan that was played.
struct Played {
    number: u64,
    outcome: Outcome,
    kinds: BTreeSet<Kind>,
    failure: Option<Failure>,
}

impl Campaign<'_> {
    /// Plays it, and shows what it has come to after every plan. Once `stop` is set no further plan is begun,
    /// and those that are being played are played to their end.
    pub fn play(&self, stop: &AtomicBool, mut watch: impl FnMut(&Tally)) -> Tally {
        let mut tally = Tally::default();
        let next = AtomicU64::new(0);
        // Nobody plays ahead of who adds up: a stop that is asked for there comes to bear on the next plan.
        let (sender, played) = mpsc::sync_channel(0);
        thread::scope(|scope| {
            for _ in 0..self.jobs.get() {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.plans || sender.send(self.play_one(number)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            for played in played {
                tally.add(played, self.failures_max);
                watch(&tally);
            }
        });
        tally
    }

    fn play_one(&self, number: u64) -> Played {
        let plan = (self.plan)(number);
        let kinds = plan.kinds();
        let outcome = (self.world)(plan.clone(), self.story).run();
        let failure = |violation| Failure { plan, violation };
        Played {
            number,
            kinds,
            failure: outcome.violation.clone().map(failure),
            outcome,
        }
    }
}

impl Tally {
    fn add(&mut self, played: Played, failures_max: usize) {
        let Played {
            number,
            outcome,
            kinds,
            failure,
        } = played;
        self.plans += 1;
        self.events += outcome.events;
        self.micros += outcome.micros;
        // A sum does not ask for an order, and what is mixed with its number has its place all the same.
        let digest = outcome.digest ^ outcome.told.rotate_left(32);
        let one = Rng::new(Rng::new(number).any() ^ digest).any();
        self.digest = self.digest.wrapping_add(one);
        for (verdict, count) in outcome.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
        for (bound, nearness) in outcome.nearness {
            let nearest = self.nearness.entry(bound).or_default();
            if nearness.thousandths() > nearest.thousandths() {
                *nearest = nearness;
            }
        }
        self.coverage.add(outcome.moves, &kinds);
        if let Some(failure) = failure {
            self.violated += 1;
            self.failures.insert(number, failure);
            if self.failures.len() > failures_max {
                self.failures.pop_last();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, Recipe, SECOND, Strike};

    fn campaign(plan: &(dyn Fn(u64) -> Plan + Sync), jobs: usize) -> Campaign<'_> {
        Campaign {
            plans: 12,
            plan,
            world: &World::new,
            jobs: NonZeroUsize::new(jobs).unwrap(),
            story: Story::Digested,
            failures_max: 2,
        }
    }

    /// Small, and short; every third strikes somebody who is not there, which no checked plan does.
    fn brief(number: u64) -> Plan {
        let recipe = Recipe {
            storm: 20 * SECOND,
            fault_every: 5 * SECOND,
            ..Recipe::small(number)
        };
        let mut plan = recipe.plan();
        if number % 3 == 2 {
            plan.faults.push(Strike {
                at_us: 10 * SECOND,
                fault: Fault::ReplicaLeaves { replica: 99 },
            });
        }
        plan
    }

    #[test]
    fn a_campaign_comes_to_the_same_whatever_the_number_of_threads() {
        let go_on = AtomicBool::new(false);
        let one = campaign(&brief, 1).play(&go_on, |_| {});
        assert_eq!(campaign(&brief, 3).play(&go_on, |_| {}), one);
        assert_eq!(one.plans, 12);
        let other = campaign(&|number| brief(number + 1), 1).play(&go_on, |_| {});
        assert_ne!(other.digest, one.digest);
        let untold = Campaign {
            story: Story::Dropped,
            ..campaign(&brief, 1)
        };
        assert_ne!(
            untold.play(&go_on, |_| {}).digest,
            one.digest,
            "what machines do is no part of the digest"
        );
    }

    #[test]
    fn what_panics_is_a_violation_and_the_first_ones_are_kept() {
        let tally = campaign(&brief, 2).play(&AtomicBool::new(false), |_| {});
        assert_eq!(tally.violated, 4);
        assert_eq!(tally.failures.keys().copied().collect::<Vec<_>>(), [2, 5]);
        for (number, failure) in &tally.failures {
            assert_eq!(failure.plan, brief(*number));
            assert_eq!(failure.violation.invariant, "assertion");
            assert_eq!(failure.violation.at, 10 * SECOND);
            assert!(failure.violation.what.contains("panicked at"), "{failure:?}");
        }
    }

    #[test]
    fn once_it_is_to_stop_it_begins_no_further_plan_and_keeps_what_it_has() {
        let stop = AtomicBool::new(false);
        let tally = campaign(&brief, 1).play(&stop, |tally| {
            if tally.plans == 3 {
                stop.store(true, Ordering::Relaxed);
            }
        });
        // One more may have been begun before that.
        assert!((3..=4).contains(&tally.plans), "{}", tally.plans);
        assert_eq!(tally.failures.keys().copied().next(), Some(2));
    }
}
