//! I7: who dies is replaced in time.
//!
//! Formally: let a replica die at true time *t* while it believes in the lease of an actor. Let *s* be the last
//! moment from *t* on at which the store was not as it should be, or a replica that had been given the lease
//! meanwhile died or fell asleep; and not before some replica that still lives began to serve, awake. Then
//!
//! * a request for the actor that is made later than *s* plus [`Bound::FailoverAsked`] is not turned away because
//!   of that lease, unless a living workflow is about to have it: then it has it three round trips later;
//! * if the actor's record stands in a transition, another workflow holds the lease, or the record stands still,
//!   by *s* plus [`Bound::FailoverUnasked`].
//!
//! Both on the slowest clock, and with what messages take at most ([`crate::latency`]), where they are on the way:
//!
//! * the last renewal of the dead replica's session may be on its way when it dies: one way to the store;
//! * a living replica may have asked for that session just before it ended: one way back, for the first bound, since
//!   whoever it turns away meanwhile is turned away for that reason;
//! * for the second, the sweep that finds the session over comes at most one jittered pause after one that did not,
//!   and takes four round trips to the lease: it reads the actor, asks for the lease, asks for the session, asks
//!   again. It has so many turns as the promised workers have by sixteen.
//!
//! Nothing else is on the way: a sweep and a request that finds the lease held ask the store and nobody else. So
//! nothing that is wrong with nodes, calls, disks, registries or object stores excuses anything here.
//!
//! What becomes of a node that is gone is in [`of_nodes`].

mod of_nodes;

use super::able::Able;
use super::{Nearness, Oracle, moment};
use crate::clock::{self, Clock};
use crate::fact::{Asked, Fact};
use crate::latency::STORE;
use holdfast_core::actor::Actor;
use holdfast_core::bounds::Bound;
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, RequestId};
use holdfast_core::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};

pub use of_nodes::FailoverOfNodes;

/// How many workers a sweep looks at together, so that none of them waits for its turn.
const SWEPT_AT_ONCE: usize = 16;
/// From asking for a lease that is held by a dead replica to having it.
const TAKING: u64 = 3 * STORE.round_trip();

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    asked_bound: u64,
    unasked_bound: u64,
    able: Able,
    /// Which replicas believe in the lease of an actor.
    holders: BTreeMap<ActorKey, BTreeSet<usize>>,
    /// The replica that an actor's lease was given to last.
    lessees: BTreeMap<ActorKey, usize>,
    /// Actors whose records stand in a transition.
    under_way: BTreeSet<ActorKey>,
    /// Who has lost its holder, and since when the time counts at the earliest.
    orphans: BTreeMap<ActorKey, u64>,
    asked: BTreeMap<RequestId, (ActorKey, u64)>,
    /// Who was turned away although the lease could be had, by when somebody must have it, and what is wrong if
    /// nobody has.
    turned_away: Vec<(ActorKey, u64, String)>,
    worst_asked: u64,
    worst_unasked: u64,
}

impl Failover {
    /// For worlds with these settings and clocks, and so many workers.
    pub fn new(settings: &Settings, clocks: &[Clock], workers: usize) -> Failover {
        let bound = |bound: Bound| clock::longest(bound.of(settings).as_micros() as u64, clocks);
        let turns = workers.div_ceil(SWEPT_AT_ONCE) as u64;
        Failover {
            asked_bound: bound(Bound::FailoverAsked) + 2 * STORE.most,
            unasked_bound: bound(Bound::FailoverUnasked) + STORE.most + turns * (STORE.round_trip() + TAKING),
            able: Able::new(settings, clocks),
            ..Failover::default()
        }
    }

    /// For how long somebody could have cared.
    fn waited(&self, now: u64, since: u64) -> u64 {
        now.saturating_sub(since.max(self.able.since()))
    }

    /// Somebody cares for the actor again, or nobody has to.
    fn adopted(&mut self, now: u64, actor: &ActorKey) -> Result<(), String> {
        self.turned_away.retain(|(turned_away, ..)| turned_away != actor);
        let Some(since) = self.orphans.remove(actor) else {
            return Ok(());
        };
        let waited = self.waited(now, since);
        if !self.under_way.contains(actor) {
            return Ok(());
        }
        self.worst_unasked = self.worst_unasked.max(waited);
        self.in_time(actor, since, waited)
    }

    /// A record is written, or the store has gone back to it.
    fn stands(&mut self, before: Option<&Actor>, after: Option<&Actor>) {
        let Some(actor) = before.or(after).map(|actor| &actor.key) else {
            return;
        };
        if after.is_some_and(|after| after.operation().is_some()) {
            self.under_way.insert(actor.clone());
        } else {
            self.under_way.remove(actor);
            self.orphans.remove(actor);
            self.turned_away.retain(|(turned_away, ..)| turned_away != actor);
        }
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

    /// Whoever had the lease of one of these cannot be expected to go on with it any more.
    fn lessee_is_gone(&mut self, now: u64, replica: usize) {
        for (actor, since) in &mut self.orphans {
            if self.lessees.get(actor) == Some(&replica) {
                *since = now;
            }
        }
        self.turned_away.clear();
    }

    fn turned_away(&mut self, now: u64, id: RequestId, actor: ActorKey, at: u64) {
        let Some(since) = self.orphans.get(&actor).copied() else {
            return;
        };
        let waited = self.waited(at, since);
        if waited <= self.asked_bound {
            self.worst_asked = self.worst_asked.max(waited);
            return;
        }
        let what = format!(
            "request {id} for {actor} was turned away for the lease of a replica that died at {}: {} after all was well, which may be {}",
            moment(since),
            moment(waited),
            moment(self.asked_bound)
        );
        self.turned_away.push((actor, now + TAKING, what));
    }
}

impl Oracle for Failover {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        let is_due = |(_, due, _): &&(ActorKey, u64, String)| *due < now;
        if let Some((_, _, what)) = self.turned_away.iter().find(is_due) {
            return Err(what.clone());
        }
        self.able.see(now, fact);
        match fact {
            Fact::Wrong { .. } => self.turned_away.clear(),
            Fact::Slept { replica, .. } => self.lessee_is_gone(now, *replica),
            Fact::ReplicaDied(replica) => {
                self.lessee_is_gone(now, *replica);
                for (actor, holders) in &mut self.holders {
                    if holders.remove(replica) && holders.is_empty() {
                        self.orphans.insert(actor.clone(), now);
                    }
                }
            }
            Fact::Granted {
                actor,
                replica,
                is_orphan,
                ..
            } => {
                self.lessees.insert(actor.clone(), *replica);
                if let (true, Some(since)) = (is_orphan, self.orphans.get_mut(actor)) {
                    *since = now;
                }
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
            Fact::Recorded { before, after } => self.stands(before.as_deref(), after.as_deref()),
            Fact::Forgot(forgotten) => {
                for (before, after) in &forgotten.actors {
                    self.stands(before.as_ref(), after.as_ref());
                }
            }
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
                if is_held {
                    self.turned_away(now, *id, actor, at);
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

    fn nearness(&self) -> Vec<(Bound, Nearness)> {
        Nearness::of_tested([
            (Bound::FailoverAsked, self.worst_asked, self.asked_bound),
            (Bound::FailoverUnasked, self.worst_unasked, self.unasked_bound),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{actor, resuming};
    use crate::store::Forgotten;
    use holdfast_core::failure::Failure;
    use holdfast_core::id::{LeaseToken, ReplicaId};

    const SECOND: u64 = 1_000_000;
    /// One way of the last renewal, and four round trips.
    const MESSAGES: u64 = 27_000;

    fn token() -> LeaseToken {
        LeaseToken {
            replica: ReplicaId(1),
            seq: 1,
        }
    }

    fn believes(replica: usize) -> Fact {
        Fact::Believes {
            actor: key(),
            replica,
            token: token(),
        }
    }

    fn key() -> ActorKey {
        ActorKey::new("s", "a")
    }

    /// A replica has died in the middle of a Resume, and another is there.
    fn orphaned() -> Failover {
        let mut oracle = Failover::new(&Settings::DEFAULT, &[Clock::TRUE], 16);
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
        let nearness = oracle.nearness();
        assert_eq!(nearness.len(), 1, "{nearness:?}");
        assert_eq!(nearness[0].0, Bound::FailoverUnasked);
        assert_eq!(nearness[0].1.thousandths(), 1000);
        let what = orphaned().see(SECOND + bound + 1, &believes(1)).unwrap_err();
        assert!(what.contains("since its replica died at 1.000000s"), "{what}");
        let calm = Fact::Calm(Box::default());
        assert!(orphaned().see(100 * SECOND, &calm).is_err());
        let mut forgotten = orphaned();
        let lost = Forgotten {
            actors: vec![(Some(actor(resuming())), None)],
            ..Forgotten::default()
        };
        forgotten.see(SECOND, &Fact::Forgot(Box::new(lost))).unwrap();
        assert_eq!(forgotten.see(100 * SECOND, &calm), Ok(()));
    }

    #[test]
    fn what_excuses_a_delay_is_the_store_and_the_replica_that_had_the_lease_meanwhile() {
        let granted = |is_orphan| Fact::Granted {
            actor: key(),
            replica: 2,
            token: token(),
            from: None,
            is_named: false,
            is_orphan,
        };
        let slept = |replica| Fact::Slept {
            replica,
            until: 90 * SECOND,
        };
        let cases: [(&[Fact], bool); 7] = [
            (&[Fact::Wrong { until: 90 * SECOND }], true),
            (&[granted(false)], false),
            (&[granted(true)], true),
            (&[granted(false), Fact::ReplicaDied(2)], true),
            (&[Fact::ReplicaDied(2)], false),
            (&[slept(1)], true),
            (&[Fact::ReplicaReady(0), slept(1)], false),
        ];
        for (meanwhile, is_excused) in cases {
            let mut oracle = orphaned();
            for fact in meanwhile {
                let now = if matches!(fact, Fact::ReplicaReady(_)) {
                    2
                } else {
                    90
                };
                oracle.see(now * SECOND, fact).unwrap();
            }
            let seen = oracle.see(100 * SECOND, &believes(1));
            assert_eq!(seen.is_ok(), is_excused, "{meanwhile:?}: {seen:?}");
        }
    }

    #[test]
    fn a_request_that_is_turned_away_for_a_dead_lease_is_seen_unless_somebody_is_about_to_have_it() {
        let turned_away = |at: u64, next: u64| {
            let mut oracle = orphaned();
            let asked = Fact::Asked(RequestId(1), key(), Asked::Resume);
            oracle.see(at, &asked).unwrap();
            let failure = Failure::new(Code::Aborted, "another operation is in progress for this actor");
            oracle
                .see(at + 1, &Fact::Told(RequestId(1), Err(failure)))
                .unwrap();
            oracle.see(at + 1 + next, &believes(1))?;
            Ok::<u64, String>(oracle.nearness()[0].1.thousandths())
        };
        let bound = 6_000_000 + 2 * STORE.most;
        assert_eq!(turned_away(SECOND + bound, TAKING + 1), Ok(1000));
        assert!(turned_away(SECOND + bound + 1, TAKING).is_ok());
        let what = turned_away(SECOND + bound + 1, TAKING + 1).unwrap_err();
        assert!(what.contains("turned away"), "{what}");
    }
}
