//! I7, for nodes: who cannot be heard is replaced in time.
//!
//! Formally: let the store have noted the last report of a node with a session at true time *t*, and let *s* be the
//! later of *t* and the moment from which on there has been a replica that serves, awake, with a store to ask. Then
//!
//! * the store has noted another report, or that the session is over, by *s* plus [`Bound::Elsewhere`], on the
//!   slowest clock;
//! * a Resume that is made after it is over is not answered with an actor under that session;
//! * a record that stands in a transition under that session then, or is put there later, has left it by *s* plus
//!   [`Bound::ElsewhereUnasked`], which is the jittered pause between two sweeps later; if a replica dies or falls
//!   asleep meanwhile, that long after its own session is over. A node that is heard again can be asked again, and
//!   is waited for.
//!
//! With what messages take at most: whoever declares the session over counts from when he heard of the report, which
//! is by the watch of the store, or by its list if the watch has a gap, and then writes. A workflow that waits for the
//! node is nudged by the same news. If it had given up before, the next sweep looks at the actor: three round trips to
//! the lease, and two writes.

use super::super::able::Able;
use super::{Nearness, Oracle, SWEPT_AT_ONCE, TAKING, moment};
use crate::clock::{self, Clock};
use crate::fact::{Asked, Fact};
use crate::latency::{STORE, WATCH};
use holdfast_core::actor::Actor;
use holdfast_core::bounds::Bound;
use holdfast_core::id::{ActorKey, NodeName, RequestId};
use holdfast_core::settings::Settings;
use std::collections::BTreeMap;

/// Until every replica knows what the store has noted, if nothing is wrong.
const HEARD_WITHIN: u64 = WATCH.most + STORE.round_trip();

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct FailoverOfNodes {
    lapse_bound: u64,
    leave_bound: u64,
    session_bound: u64,
    able: Able,
    /// When each node with a session was last heard.
    heard: BTreeMap<NodeName, u64>,
    /// The last session of a node that was declared over, and when.
    over: BTreeMap<NodeName, (u64, u64)>,
    /// Where the record of an actor stands, if it is on a worker.
    places: BTreeMap<ActorKey, Place>,
    /// Transitions under a session that is over.
    stuck: BTreeMap<ActorKey, Stuck>,
    resumes: BTreeMap<RequestId, (ActorKey, u64)>,
    worst_lapse: u64,
    worst_leave: u64,
}

/// Since when a transition has stood under a session that is over.
#[derive(Clone, Copy, Debug)]
struct Stuck {
    since: u64,
    /// From when on the silence of its node counted, if nothing else has happened to it.
    silent_since: Option<u64>,
}

#[derive(Clone, Debug)]
struct Place {
    node: NodeName,
    session: u64,
    is_under_way: bool,
}

impl FailoverOfNodes {
    /// For worlds with these settings and clocks, and so many workers.
    pub fn new(settings: &Settings, clocks: &[Clock], workers: usize) -> FailoverOfNodes {
        let bound = |bound: Bound| clock::longest(bound.of(settings).as_micros() as u64, clocks);
        let turns = workers.div_ceil(SWEPT_AT_ONCE) as u64;
        FailoverOfNodes {
            lapse_bound: bound(Bound::Elsewhere) + HEARD_WITHIN + STORE.most,
            leave_bound: bound(Bound::ElsewhereUnasked) - bound(Bound::Elsewhere)
                + HEARD_WITHIN
                + turns * (STORE.round_trip() + TAKING)
                + 2 * STORE.round_trip(),
            session_bound: bound(Bound::FailoverAsked) + STORE.most,
            able: Able::new(settings, clocks),
            ..FailoverOfNodes::default()
        }
    }

    /// The node was silent until now; the answer is since when that counts.
    fn silent(&self, now: u64, node: &NodeName) -> Result<u64, String> {
        let Some(heard) = self.heard.get(node) else {
            return Ok(now);
        };
        let since = (*heard).max(self.able.since());
        let waited = now.saturating_sub(since);
        if waited <= self.lapse_bound {
            return Ok(since);
        }
        Err(format!(
            "{node} was last heard of at {}, and its session has not been declared over: for {} since all was well, which may be {}",
            moment(*heard),
            moment(waited),
            moment(self.lapse_bound)
        ))
    }

    fn is_over(&self, place: &Place) -> Option<u64> {
        let (session, at) = self.over.get(&place.node)?;
        (place.session > 0 && place.session <= *session).then_some(*at)
    }

    fn is_stuck(&self, place: &Place) -> bool {
        place.is_under_way && self.is_over(place).is_some() && !self.heard.contains_key(&place.node)
    }

    fn recorded(&mut self, now: u64, actor: &ActorKey, after: Option<&Actor>) -> Result<(), String> {
        let place = after.and_then(|after| {
            after.assignment().map(|on| Place {
                node: on.node.clone(),
                session: on.session,
                is_under_way: after.operation().is_some(),
            })
        });
        let is_stuck = place.as_ref().is_some_and(|place| self.is_stuck(place));
        match place {
            Some(place) => self.places.insert(actor.clone(), place),
            None => self.places.remove(actor),
        };
        if is_stuck {
            self.stuck.entry(actor.clone()).or_insert(Stuck {
                since: now,
                silent_since: None,
            });
            return Ok(());
        }
        let Some(stuck) = self.stuck.remove(actor) else {
            return Ok(());
        };
        self.left(now, actor, stuck)?;
        if let Some(silent_since) = stuck.silent_since {
            let since = silent_since.max(self.able.since());
            self.worst_leave = self.worst_leave.max(now.saturating_sub(since));
        }
        Ok(())
    }

    /// A transition under a session that is over has stood until now.
    fn left(&self, now: u64, actor: &ActorKey, Stuck { since, .. }: Stuck) -> Result<(), String> {
        let waited = now.saturating_sub(since.max(self.able.since()));
        if waited <= self.leave_bound {
            return Ok(());
        }
        Err(format!(
            "{actor} stands in a transition on a node whose session was over at {}: for {} since all was well, which may be {}",
            moment(since),
            moment(waited),
            moment(self.leave_bound)
        ))
    }
}

impl Oracle for FailoverOfNodes {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        self.able.see(now, fact);
        match fact {
            Fact::Heard(node) => {
                self.silent(now, node)?;
                self.heard.insert(node.clone(), now);
                let places = &self.places;
                let is_there = |actor: &ActorKey| places.get(actor).is_some_and(|place| place.node == *node);
                self.stuck.retain(|actor, _| !is_there(actor));
            }
            Fact::Lapsed { node, session, .. } => {
                let silent_since = self.silent(now, node)?;
                self.worst_lapse = self.worst_lapse.max(now.saturating_sub(silent_since));
                // Another replica may say so as well.
                if self.heard.remove(node).is_none() {
                    return Ok(());
                }
                self.over.insert(node.clone(), (*session, now));
                let stuck = self.places.iter().filter(|(_, place)| self.is_stuck(place));
                let stuck: Vec<ActorKey> = stuck.map(|(actor, _)| actor.clone()).collect();
                for actor in stuck {
                    self.stuck.entry(actor).or_insert(Stuck {
                        since: now,
                        silent_since: Some(silent_since),
                    });
                }
            }
            Fact::Recorded { before, after } => {
                let Some(actor) = before.as_ref().or(after.as_ref()).map(|a| &a.key) else {
                    return Ok(());
                };
                return self.recorded(now, actor, after.as_deref());
            }
            // Whoever had taken it up has left it where it was.
            Fact::ReplicaDied(_) | Fact::Slept { .. } => {
                for stuck in self.stuck.values_mut() {
                    *stuck = Stuck {
                        since: now + self.session_bound,
                        silent_since: None,
                    };
                }
            }
            Fact::Forgot(_) => {
                self.heard.clear();
                self.over.clear();
                self.stuck.clear();
                self.places.clear();
            }
            Fact::Asked(id, actor, Asked::Resume) => {
                self.resumes.insert(*id, (actor.clone(), now));
            }
            Fact::Told(id, result) => {
                let Some((actor, at)) = self.resumes.remove(id) else {
                    return Ok(());
                };
                let Some(place) = self.places.get(&actor).filter(|_| result.is_ok()) else {
                    return Ok(());
                };
                let over = self.is_over(place).filter(|over| {
                    at > over + HEARD_WITHIN && at > self.able.store_until() && !place.is_under_way
                });
                if let Some(over) = over {
                    return Err(format!(
                        "request {id}, made at {}, was told that {actor} runs on {}, whose session was over at {}",
                        moment(at),
                        place.node,
                        moment(over)
                    ));
                }
            }
            Fact::Calm(_) => {
                let mut stuck = self.stuck.iter();
                return stuck.try_for_each(|(actor, stuck)| self.left(now, actor, *stuck));
            }
            _ => {}
        }
        Ok(())
    }

    fn nearness(&self) -> Vec<(Bound, Nearness)> {
        let elsewhere = self.lapse_bound + self.leave_bound;
        Nearness::of_tested([
            (Bound::Elsewhere, self.worst_lapse, self.lapse_bound),
            (Bound::ElsewhereUnasked, self.worst_leave, elsewhere),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{actor, resuming};
    use holdfast_core::actor::State;
    use holdfast_core::failure::{Code, Failure};

    const SECOND: u64 = 1_000_000;
    /// The watch or a list, and one write.
    const LAPSE_BOUND: u64 = 91_900_000 + 30_000 + 6_000 + 3_000;
    /// The same, four round trips to the lease, and two writes.
    const LEAVE_BOUND: u64 = 12_500_000 + 30_000 + 6_000 + 24_000 + 12_000;

    fn node() -> NodeName {
        "node".into()
    }

    fn lapsed() -> Fact {
        Fact::Lapsed {
            node: node(),
            session: 1,
            is_believed: false,
        }
    }

    fn recorded(state: State) -> Fact {
        Fact::Recorded {
            before: None,
            after: Some(Box::new(actor(state))),
        }
    }

    /// An actor is resuming on a node that was last heard of at one second, and a replica serves.
    fn silent() -> FailoverOfNodes {
        let mut oracle = FailoverOfNodes::new(&Settings::DEFAULT, &[Clock::TRUE], 16);
        for fact in [Fact::ReplicaReady(0), Fact::Heard(node()), recorded(resuming())] {
            oracle.see(SECOND, &fact).unwrap();
        }
        oracle
    }

    #[test]
    fn a_silent_node_whose_session_is_not_declared_over_in_time_is_seen() {
        let mut oracle = silent();
        assert_eq!(oracle.see(SECOND + LAPSE_BOUND, &lapsed()), Ok(()));
        assert_eq!(oracle.nearness()[0].0, Bound::Elsewhere);
        assert_eq!(oracle.nearness()[0].1.thousandths(), 1000);
        for late in [lapsed(), Fact::Heard(node())] {
            let what = silent().see(SECOND + LAPSE_BOUND + 1, &late).unwrap_err();
            assert!(what.contains("was last heard of at 1.000000s"), "{what}");
        }
        let mut excused = silent();
        let wrong = Fact::Wrong { until: 50 * SECOND };
        excused.see(2 * SECOND, &wrong).unwrap();
        assert_eq!(excused.see(SECOND + LAPSE_BOUND + 1, &lapsed()), Ok(()));
    }

    #[test]
    fn a_transition_that_stays_where_the_session_is_over_is_seen() {
        let left = |died: Option<u64>, after: u64| {
            let mut oracle = silent();
            oracle.see(80 * SECOND, &lapsed())?;
            if let Some(at) = died {
                oracle.see(at, &Fact::ReplicaDied(7))?;
            }
            oracle.see(80 * SECOND + after, &recorded(State::Suspended))
        };
        assert_eq!(left(None, LEAVE_BOUND), Ok(()));
        let what = left(None, LEAVE_BOUND + 1).unwrap_err();
        assert!(what.contains("whose session was over at 80.000000s"), "{what}");
        assert_eq!(left(Some(85 * SECOND), LEAVE_BOUND + 1), Ok(()));
        let mut heard = silent();
        for fact in [lapsed(), Fact::Heard(node())] {
            heard.see(80 * SECOND, &fact).unwrap();
        }
        assert_eq!(heard.see(99 * SECOND, &recorded(State::Suspended)), Ok(()));
        let mut oracle = silent();
        oracle.see(80 * SECOND, &lapsed()).unwrap();
        assert!(oracle.see(500 * SECOND, &Fact::Calm(Box::default())).is_err());
    }

    #[test]
    fn a_caller_who_is_told_that_its_actor_runs_where_nobody_answers_is_seen() {
        let told = |asked: u64, result: Result<(), Failure>| {
            let mut oracle = silent();
            let State::Resuming { on, .. } = resuming() else {
                unreachable!("it is resuming")
            };
            oracle.see(2 * SECOND, &recorded(State::Running { on })).unwrap();
            oracle.see(80 * SECOND, &lapsed()).unwrap();
            let asked_for = Fact::Asked(RequestId(1), ActorKey::new("s", "a"), Asked::Resume);
            oracle.see(asked, &asked_for).unwrap();
            oracle.see(asked + 1, &Fact::Told(RequestId(1), result))
        };
        assert_eq!(told(80 * SECOND + HEARD_WITHIN, Ok(())), Ok(()));
        assert!(told(80 * SECOND + HEARD_WITHIN + 1, Ok(())).is_err());
        let refused = Err(Failure::new(Code::Unavailable, "?"));
        assert_eq!(told(90 * SECOND, refused), Ok(()));
    }
}
