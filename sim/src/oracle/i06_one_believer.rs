//! I6: no two believe in the lease of one actor.
//!
//! Formally: let a belief be the time from when a workflow was granted its lease until it took it for lost, or
//! first sent what gives it back, with its last write or alone, less the time in which its process was not scheduled, in true time. No two beliefs in leases of
//! one actor have more than a moment in common, where clocks drift apart by no more than is declared, the store
//! has not forgotten a lease of that actor, and neither lease was taken over because its replica's session
//! had ended.

use super::{Assumed, Oracle, moment};
use crate::fact::Fact;
use holdfast_core::id::{ActorKey, LeaseToken};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneBeliever {
    is_by_time: bool,
    beliefs: BTreeMap<ActorKey, Vec<Belief>>,
    /// Until when a replica's process is not scheduled.
    asleep_until: BTreeMap<usize, u64>,
    /// Leases that were taken over from those who may believe in them.
    taken: BTreeSet<LeaseToken>,
}

#[derive(Clone, Debug)]
struct Belief {
    replica: usize,
    token: LeaseToken,
    since: u64,
}

impl OneBeliever {
    /// For worlds in which this is so.
    pub fn new(assumed: Assumed) -> OneBeliever {
        OneBeliever {
            is_by_time: assumed.drift,
            ..OneBeliever::default()
        }
    }

    /// From when on somebody believes, awake.
    fn awake_since(&self, belief: &Belief) -> u64 {
        let awake = self.asleep_until.get(&belief.replica).copied();
        belief.since.max(awake.unwrap_or_default())
    }

    fn look(&self, now: u64, actor: &ActorKey) -> Result<(), String> {
        let excused = |belief: &&Belief| !self.taken.contains(&belief.token);
        let Some(beliefs) = self.beliefs.get(actor).filter(|all| all.len() > 1) else {
            return Ok(());
        };
        let beliefs: Vec<&Belief> = beliefs.iter().filter(excused).collect();
        for (number, one) in beliefs.iter().enumerate() {
            for other in &beliefs[..number] {
                let both = self.awake_since(one).max(self.awake_since(other));
                if now > both && self.is_by_time {
                    return Err(format!(
                        "replica {} believes in its lease {} of {actor} since {}, and replica {} in its lease {} since {}",
                        one.replica,
                        one.token,
                        moment(one.since),
                        other.replica,
                        other.token,
                        moment(other.since)
                    ));
                }
            }
        }
        Ok(())
    }

    fn look_at_all(&self, now: u64, replica: usize) -> Result<(), String> {
        let of_replica = |all: &[Belief]| all.iter().any(|belief| belief.replica == replica);
        let mut actors = self.beliefs.iter().filter(|(_, all)| of_replica(all));
        actors.try_for_each(|(actor, _)| self.look(now, actor))
    }
}

impl Oracle for OneBeliever {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Believes {
                actor,
                replica,
                token,
            } => {
                self.look(now, actor)?;
                self.beliefs.entry(actor.clone()).or_default().push(Belief {
                    replica: *replica,
                    token: *token,
                    since: now,
                });
            }
            Fact::Doubts { actor, replica } => {
                self.look(now, actor)?;
                if let Some(all) = self.beliefs.get_mut(actor) {
                    all.retain(|belief| belief.replica != *replica);
                }
            }
            Fact::Slept { replica, until } => {
                self.look_at_all(now, *replica)?;
                self.asleep_until.insert(*replica, *until);
            }
            Fact::ReplicaDied(replica) => {
                self.look_at_all(now, *replica)?;
                self.asleep_until.remove(replica);
                for all in self.beliefs.values_mut() {
                    all.retain(|belief| belief.replica != *replica);
                }
            }
            Fact::Taken(token) => {
                self.taken.insert(*token);
            }
            Fact::Forgot(forgotten) => {
                for actor in &forgotten.leases {
                    let all = self.beliefs.get(actor).into_iter().flatten();
                    self.taken.extend(all.map(|belief| belief.token));
                }
            }
            Fact::Calm(_) => {
                return self.beliefs.keys().try_for_each(|actor| self.look(now, actor));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::ReplicaId;

    fn actor() -> ActorKey {
        ActorKey::new("s", "a")
    }

    fn token(replica: usize) -> LeaseToken {
        LeaseToken {
            replica: ReplicaId(replica as u64),
            seq: 1,
        }
    }

    fn believes(replica: usize) -> Fact {
        Fact::Believes {
            actor: actor(),
            replica,
            token: token(replica),
        }
    }

    fn doubts(replica: usize) -> Fact {
        Fact::Doubts {
            actor: actor(),
            replica,
        }
    }

    fn after(facts: &[(u64, Fact)]) -> Result<(), String> {
        let mut oracle = OneBeliever::new(Assumed { drift: true });
        facts.iter().try_for_each(|(now, fact)| oracle.see(*now, fact))
    }

    #[test]
    fn two_that_believe_for_longer_than_a_moment_are_seen() {
        let what = after(&[(1, believes(0)), (5, believes(1)), (6, doubts(0))]).unwrap_err();
        assert!(what.contains("replica 1 believes in its lease"), "{what}");
        assert_eq!(
            after(&[(1, believes(0)), (5, believes(1)), (5, doubts(0)), (9, doubts(1))]),
            Ok(())
        );
    }

    #[test]
    fn who_is_asleep_believes_nothing_until_it_wakes() {
        let slept = Fact::Slept {
            replica: 0,
            until: 50,
        };
        let night = |end: u64| {
            [
                (1, believes(0)),
                (2, slept.clone()),
                (9, believes(1)),
                (end, doubts(0)),
            ]
        };
        assert_eq!(after(&night(50)), Ok(()));
        assert!(after(&night(51)).is_err());
    }

    #[test]
    fn a_lease_that_was_taken_over_is_nobodys_but_the_new_ones() {
        let taken = Fact::Taken(token(0));
        assert_eq!(
            after(&[(1, believes(0)), (2, taken), (3, believes(1)), (9, doubts(0))]),
            Ok(())
        );
    }
}
