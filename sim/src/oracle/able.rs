//! Since when somebody has been able to look after others: what takes time counts from there.

use crate::clock::{self, Clock};
use crate::fact::Fact;
use holdfast_core::settings::Settings;
use std::collections::BTreeMap;

/// The replicas that could take over, and the store that they need for it.
///
/// Nothing else that goes wrong keeps a replica from noticing who is gone: it asks nobody but the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Able {
    /// From when on each replica serves, awake.
    serving: BTreeMap<usize, u64>,
    /// When something was last wrong with the store, or will be.
    store_until: u64,
    /// How long after that a replica whose list failed has read it again.
    lists_within: u64,
}

impl Able {
    /// In worlds with these settings and clocks.
    pub(super) fn new(settings: &Settings, clocks: &[Clock]) -> Able {
        // A list that could not be read is asked for again after a fifth of the longest pause, jittered.
        let pause = settings.workflow.retry_to.as_micros() as u64 / 5;
        Able {
            lists_within: clock::longest(pause * 5 / 4, clocks),
            ..Able::default()
        }
    }

    /// Takes note of a fact.
    pub(super) fn see(&mut self, now: u64, fact: &Fact) {
        match fact {
            Fact::ReplicaReady(replica) => {
                self.serving.insert(*replica, now);
            }
            Fact::ReplicaDied(replica) => {
                self.serving.remove(replica);
            }
            Fact::Slept { replica, until } => {
                if let Some(since) = self.serving.get_mut(replica) {
                    *since = *until;
                }
            }
            Fact::Wrong { until } => self.store_is_wrong(*until),
            Fact::Forgot(_) => self.store_is_wrong(now),
            _ => {}
        }
    }

    fn store_is_wrong(&mut self, until: u64) {
        self.store_until = self.store_until.max(until + self.lists_within);
    }

    /// When the store was last not as it should be, or will be.
    pub(super) fn store_until(&self) -> u64 {
        self.store_until
    }

    /// From when on there has been a replica without a break that serves, is awake, and has a store to ask. In the
    /// future, or never, if there is none now.
    pub(super) fn since(&self) -> u64 {
        let longest = self.serving.values().min().copied();
        longest.unwrap_or(u64::MAX).max(self.store_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able(facts: &[(u64, Fact)]) -> u64 {
        let mut able = Able::new(&Settings::DEFAULT, &[Clock::TRUE]);
        facts.iter().for_each(|(now, fact)| able.see(*now, fact));
        able.since()
    }

    #[test]
    fn it_counts_from_when_the_one_that_has_served_longest_began_or_woke() {
        let (one, other) = (Fact::ReplicaReady(0), Fact::ReplicaReady(1));
        assert_eq!(able(&[]), u64::MAX);
        assert_eq!(able(&[(3, one.clone()), (7, other.clone())]), 3);
        let died = Fact::ReplicaDied(0);
        assert_eq!(able(&[(3, one.clone()), (7, other.clone()), (9, died)]), 7);
        let slept = Fact::Slept {
            replica: 0,
            until: 50,
        };
        assert_eq!(able(&[(3, one.clone()), (9, slept.clone())]), 50);
        assert_eq!(able(&[(3, one), (7, other), (9, slept)]), 7);
    }

    #[test]
    fn it_counts_from_when_the_store_is_well_and_has_been_asked_for_its_list_again() {
        let wrong = Fact::Wrong { until: 100 };
        assert_eq!(able(&[(3, Fact::ReplicaReady(0)), (9, wrong)]), 1_250_100);
    }
}
