//! I7: who dies is replaced in time.
//!
//! Formally: let a replica die at true time *t* while it believes in the lease of an actor, and let *s* be the
//! last moment from *t* on at which something went wrong, or a replica came up, which begins to look after
//! others then. Then
//!
//! * a request for the actor that is made later than *s* plus [`Bound::FailoverAsked`] is not turned away because
//!   of that lease;
//! * if the actor's record stands in a transition, another replica holds the lease, or the record stands
//!   still, by *s* plus [`Bound::FailoverUnasked`];
//!
//! both measured on the slowest clock, with two seconds for messages. How near it came is [`Failover::tightness`].
//! The death of a node is not looked at yet.

use super::{Oracle, moment};
use crate::clock::{self, Clock};
use crate::fact::{Asked, Fact};
use holdfast_core::bounds::Bound;
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, RequestId};
use holdfast_core::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};

/// For messages on their way, in microseconds.
const MESSAGES: u64 = 2_000_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    asked_bound: u64,
    unasked_bound: u64,
    /// Which replicas believe in the lease of an actor.
    holders: BTreeMap<ActorKey, BTreeSet<usize>>,
    /// Actors whose records stand in a transition.
    under_way: BTreeSet<ActorKey>,
    /// Who has lost its holder, and when.
    orphans: BTreeMap<ActorKey, u64>,
    asked: BTreeMap<RequestId, (ActorKey, u64)>,
    ready: BTreeSet<usize>,
    /// When something was last wrong, or will be; or when there was nobody who could take over.
    wrong_until: u64,
    worst: u64,
}

impl Failover {
    /// For worlds with these settings and clocks.
    pub fn new(settings: &Settings, clocks: &[Clock]) -> Failover {
        let bound = |bound: Bound| clock::longest(bound.of(settings).as_micros() as u64, clocks) + MESSAGES;
        Failover {
            asked_bound: bound(Bound::FailoverAsked),
            unasked_bound: bound(Bound::FailoverUnasked),
            ..Failover::default()
        }
    }

    /// The longest that a workflow was without an owner, of what it may be at most: in thousandths.
    pub fn tightness(&self) -> u64 {
        self.worst * 1000 / self.unasked_bound.max(1)
    }

    fn waited(&self, now: u64, since: u64) -> u64 {
        now.saturating_sub(since.max(self.wrong_until))
    }

    /// Somebody cares for the actor again, or nobody has to.
    fn adopted(&mut self, now: u64, actor: &ActorKey) -> Result<(), String> {
        let Some(since) = self.orphans.remove(actor) else {
            return Ok(());
        };
        let waited = self.waited(now, since);
        if !self.under_way.contains(actor) {
            return Ok(());
        }
        self.worst = self.worst.max(waited);
        self.in_time(actor, since, waited)
    }

    fn in_time(&self, actor: &ActorKey, since: u64, waited: u64) -> Result<(), String> {
        if waited <= self.unasked_bound {
            return Ok(());
        }
        Err(format!(
            "the workflow of {actor} has stood still since its replica died at {}: for {} since all was well, which may be {}",
            moment(since),
            moment(waited),
            moment(self.unasked_bound)
        ))
    }

    fn nobody_is_ready(&mut self, now: u64) {
        if self.ready.is_empty() {
            self.wrong_until = self.wrong_until.max(now);
        }
    }
}

impl Oracle for Failover {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Wrong { until } => self.wrong_until = self.wrong_until.max(*until),
            Fact::Slept { until, .. } => self.wrong_until = self.wrong_until.max(*until),
            Fact::ReplicaReady(replica) => {
                self.wrong_until = self.wrong_until.max(now);
                self.ready.insert(*replica);
            }
            Fact::ReplicaDied(replica) => {
                self.ready.remove(replica);
                for (actor, holders) in &mut self.holders {
                    if holders.remove(replica) && holders.is_empty() {
                        self.orphans.insert(actor.clone(), now);
                    }
                }
                self.nobody_is_ready(now);
            }
            Fact::Believes { actor, replica, .. } => {
                self.adopted(now, actor)?;
                self.holders.entry(actor.clone()).or_default().insert(*replica);
            }
            Fact::Doubts { actor, replica } => {
                if let Some(holders) = self.holders.get_mut(actor) {
                    holders.remove(replica);
                }
            }
            Fact::Recorded { before, after } => {
                let Some(actor) = before.as_ref().or(after.as_ref()).map(|a| &a.key) else {
                    return Ok(());
                };
                if after.as_ref().is_some_and(|after| after.operation().is_some()) {
                    self.under_way.insert(actor.clone());
                } else {
                    self.under_way.remove(actor);
                    self.orphans.remove(actor);
                }
            }
            Fact::Forgot(_) => self.wrong_until = self.wrong_until.max(now),
            Fact::Asked(id, actor, what) if *what != Asked::Create => {
                self.asked.insert(*id, (actor.clone(), now));
            }
            Fact::Told(id, result) => {
                let Some((actor, at)) = self.asked.remove(id) else {
                    return Ok(());
                };
                let is_held = result
                    .as_ref()
                    .is_err_and(|f| f.code == Code::Aborted && f.message.contains("another operation"));
                let Some(since) = self.orphans.get(&actor).filter(|_| is_held) else {
                    return Ok(());
                };
                let waited = self.waited(at, *since);
                if waited > self.asked_bound {
                    return Err(format!(
                        "request {id} for {actor} was turned away for the lease of a replica that died at {}: {} after all was well, which may be {}",
                        moment(*since),
                        moment(waited),
                        moment(self.asked_bound)
                    ));
                }
            }
            Fact::Calm(_) => {
                let open = self.orphans.iter();
                let mut open = open.filter(|(actor, _)| self.under_way.contains(*actor));
                return open
                    .try_for_each(|(actor, since)| self.in_time(actor, *since, self.waited(now, *since)));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{actor, resuming};
    use holdfast_core::failure::Failure;
    use holdfast_core::id::{LeaseToken, ReplicaId};

    const SECOND: u64 = 1_000_000;

    fn believes(replica: usize) -> Fact {
        Fact::Believes {
            actor: key(),
            replica,
            token: LeaseToken {
                replica: ReplicaId(1),
                seq: 1,
            },
        }
    }

    fn key() -> ActorKey {
        ActorKey::new("s", "a")
    }

    /// A replica has died in the middle of a Resume, and another is there.
    fn orphaned() -> Failover {
        let mut oracle = Failover::new(&Settings::DEFAULT, &[Clock::TRUE]);
        let begun = Fact::Recorded {
            before: None,
            after: Some(Box::new(actor(resuming()))),
        };
        let facts = [
            Fact::ReplicaReady(0),
            Fact::ReplicaReady(1),
            believes(0),
            begun,
            Fact::ReplicaDied(0),
        ];
        for fact in facts {
            oracle.see(SECOND, &fact).unwrap();
        }
        oracle
    }

    #[test]
    fn a_workflow_that_nobody_takes_up_in_time_is_seen() {
        let bound = 18_500_000 + MESSAGES;
        let mut oracle = orphaned();
        assert_eq!(oracle.see(SECOND + bound, &believes(1)), Ok(()));
        assert_eq!(oracle.tightness(), 1000);
        let what = orphaned().see(SECOND + bound + 1, &believes(1)).unwrap_err();
        assert!(what.contains("since its replica died at 1.000000s"), "{what}");
        let calm = Fact::Calm(Box::default());
        assert!(orphaned().see(100 * SECOND, &calm).is_err());
    }

    #[test]
    fn as_long_as_something_is_wrong_the_time_does_not_count() {
        let mut oracle = orphaned();
        let wrong = Fact::Wrong { until: 90 * SECOND };
        oracle.see(2 * SECOND, &wrong).unwrap();
        assert_eq!(oracle.see(100 * SECOND, &believes(1)), Ok(()));
    }

    #[test]
    fn a_request_that_is_turned_away_for_a_dead_lease_is_seen() {
        let turned_away = |at: u64| {
            let mut oracle = orphaned();
            let asked = Fact::Asked(RequestId(1), key(), Asked::Resume);
            oracle.see(at, &asked).unwrap();
            let failure = Failure::new(Code::Aborted, "another operation is in progress for this actor");
            oracle.see(at + 1, &Fact::Told(RequestId(1), Err(failure)))
        };
        assert_eq!(turned_away(7 * SECOND), Ok(()));
        assert!(turned_away(10 * SECOND).unwrap_err().contains("turned away"));
    }
}
