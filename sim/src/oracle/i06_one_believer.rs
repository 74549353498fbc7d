//! I6: no two believe in the lease of one actor.
//!
//! Formally: let a belief be the time from when a workflow was granted its lease until it took it for lost, or
//! first sent what gives it back, with its last write or alone, less the time in which its process was not
//! scheduled, in true time. Where clocks drift apart by no more than is declared, and the store has not
//! forgotten a lease of that actor,
//!
//! * no two beliefs in leases of one actor overlap, unless the store has said since the older lease was granted
//!   that its replica's session is over, and has then given it to another replica that named it;
//! * if a lease runs out in the store, the belief in it has ended `lease.margin` earlier at least, less the step in
//!   which the store counts, on the fastest clock.
//!
//! The second holds because the holder counts from when it sent, and the store from when it performed, which is
//! later: of `ttl` on the store's clock, at least `ttl x (1 - drift)` passes on the holder's (T1), and it believes
//! for the margin less than that. How near it came is the margin by the shortest time that was seen.

use super::{Assumed, Nearness, Oracle, moment};
use crate::clock::{self, Clock};
use crate::fact::Fact;
use crate::latency::STORE_STEP;
use holdfast_core::bounds::Bound;
use holdfast_core::id::{ActorKey, LeaseToken, ReplicaId};
use holdfast_core::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneBeliever {
    is_by_time: bool,
    margin: u64,
    beliefs: BTreeMap<ActorKey, Vec<Belief>>,
    /// Until when a replica's process is not scheduled.
    asleep_until: BTreeMap<usize, u64>,
    /// Leases that were taken over from those who may believe in them.
    taken: BTreeSet<LeaseToken>,
    /// The acquisition that has the lease of an actor, and since when it has been one that had it not before.
    granted: BTreeMap<ActorKey, (LeaseToken, u64)>,
    /// When the session of a replica was last found to be over.
    over: BTreeMap<ReplicaId, u64>,
    /// The last belief that ended by the holder's own clock while it was awake, and when.
    expired: BTreeMap<ActorKey, (LeaseToken, u64)>,
    /// The shortest time from the end of a belief to the end of its lease.
    closest: Option<u64>,
}

#[derive(Clone, Debug)]
struct Belief {
    replica: usize,
    token: LeaseToken,
    since: u64,
}

impl OneBeliever {
    /// For worlds in which this is so.
    pub fn new(assumed: Assumed, settings: &Settings, clocks: &[Clock]) -> OneBeliever {
        OneBeliever {
            is_by_time: assumed.drift,
            margin: clock::shortest(
                (settings.lease.margin.as_micros() as u64).saturating_sub(STORE_STEP),
                clocks,
            ),
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

    /// The store gives a lease that nobody has. It may have been believed in until it ran out.
    fn ran_out(&mut self, now: u64, actor: &ActorKey, token: LeaseToken) -> Result<(), String> {
        let Some((before, ended)) = self.expired.remove(actor).filter(|(before, _)| *before != token) else {
            return Ok(());
        };
        let gap = now - ended;
        self.closest = Some(self.closest.map_or(gap, |closest| closest.min(gap)));
        if gap >= self.margin || !self.is_by_time {
            return Ok(());
        }
        Err(format!(
            "lease {before} of {actor} was believed in until {}, and given to {token} {} later, which may be {} at least",
            moment(ended),
            moment(gap),
            moment(self.margin)
        ))
    }

    /// Whether a lease that was granted then may be taken from the one and given to the other.
    fn may_be_taken(&self, granted: Option<u64>, from: LeaseToken, by: LeaseToken) -> bool {
        let over = self.over.get(&from.replica);
        from.replica != by.replica && over.is_some_and(|over| granted.is_none_or(|granted| granted <= *over))
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
            Fact::Expired { actor, replica } => {
                let of_replica = |belief: &&Belief| belief.replica == *replica;
                let belief = self
                    .beliefs
                    .get(actor)
                    .and_then(|all| all.iter().find(of_replica));
                let is_awake = self.asleep_until.get(replica).is_none_or(|until| *until < now);
                if let Some(belief) = belief.filter(|belief| is_awake && !self.taken.contains(&belief.token))
                {
                    self.expired.insert(actor.clone(), (belief.token, now));
                }
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
            Fact::Granted {
                actor,
                token,
                from,
                is_named,
                ..
            } => {
                let before = self.granted.insert(actor.clone(), (*token, now));
                let Some(from) = from else {
                    return self.ran_out(now, actor, *token);
                };
                let granted = before.filter(|(had, _)| had == from).map(|(_, since)| since);
                // It has not run out, and who is over it need not wait for that.
                self.expired.remove(actor);
                if *is_named && self.may_be_taken(granted, *from, *token) {
                    self.taken.insert(*from);
                }
            }
            Fact::SessionOver(replica) => {
                self.over.insert(*replica, now);
            }
            Fact::Forgot(forgotten) => {
                for actor in &forgotten.leases {
                    let all = self.beliefs.get(actor).into_iter().flatten();
                    self.taken.extend(all.map(|belief| belief.token));
                    // Whoever has it may not have heard so yet.
                    self.taken
                        .extend(self.granted.get(actor).map(|(token, _)| *token));
                    self.expired.remove(actor);
                }
            }
            Fact::Calm(_) => {
                return self.beliefs.keys().try_for_each(|actor| self.look(now, actor));
            }
            _ => {}
        }
        Ok(())
    }

    fn nearness(&self) -> Vec<(Bound, Nearness)> {
        let margin = self.margin;
        let closest = self.closest.filter(|_| self.is_by_time);
        closest
            .map(|closest| {
                let nearness = Nearness {
                    worst_us: margin,
                    bound_us: closest.max(1),
                };
                (Bound::LeaseBelieved, nearness)
            })
            .into_iter()
            .collect()
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

    fn granted(replica: usize, from: Option<usize>) -> Fact {
        Fact::Granted {
            actor: actor(),
            replica,
            token: token(replica),
            from: from.map(token),
            is_named: true,
            is_orphan: false,
        }
    }

    fn oracle() -> OneBeliever {
        OneBeliever::new(Assumed { drift: true }, &Settings::DEFAULT, &[Clock::TRUE])
    }

    fn after(facts: &[(u64, Fact)]) -> Result<(), String> {
        let mut oracle = oracle();
        facts.iter().try_for_each(|(now, fact)| oracle.see(*now, fact))
    }

    #[test]
    fn two_that_believe_at_once_are_seen() {
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
    fn a_lease_is_taken_over_only_if_the_session_of_its_replica_was_found_over_since() {
        let over = Fact::SessionOver(ReplicaId(0));
        let taken = |before: Option<Fact>, since: Option<Fact>| {
            let facts = [
                before,
                Some(granted(0, None)),
                Some(believes(0)),
                since,
                Some(granted(1, Some(0))),
                Some(believes(1)),
                Some(doubts(0)),
            ];
            let facts: Vec<(u64, Fact)> = (1..).zip(facts.into_iter().flatten()).collect();
            after(&facts)
        };
        assert_eq!(taken(None, Some(over.clone())), Ok(()));
        assert!(taken(Some(over), None).is_err());
        assert!(taken(None, Some(Fact::SessionOver(ReplicaId(1)))).is_err());
    }

    #[test]
    fn a_belief_that_ends_later_than_a_margin_before_its_lease_is_seen() {
        let expired = Fact::Expired {
            actor: actor(),
            replica: 0,
        };
        let given = |at: u64| {
            let mut oracle = oracle();
            let facts = [
                (1, granted(0, None)),
                (2, believes(0)),
                (5, expired.clone()),
                (5, doubts(0)),
                (at, granted(1, None)),
            ];
            let seen = facts.iter().try_for_each(|(now, fact)| oracle.see(*now, fact));
            seen.map(|()| oracle.nearness()[0].1.thousandths())
        };
        assert_eq!(given(999_005), Ok(1000));
        assert_eq!(given(1_998_005), Ok(500));
        let what = given(999_004).unwrap_err();
        assert!(what.contains("which may be 0.999000s at least"), "{what}");
    }
}
