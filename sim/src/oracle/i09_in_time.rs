//! I9: no workflow runs past its deadline, and nothing that hangs is waited for longer than a stall.
//!
//! Formally: a request that is made at true time *t* is answered by *t*, the way to its replica, [`Bound::Verdict`]
//! and an ending later, unless its caller or its replica is gone; and an attempt at pulling an image ends by
//! `pull.stall_after` after its last progress. Both on the slowest clock.
//!
//! * The deadline is a timer of its own, set when the request arrives: whatever the workflow waits for is let go.
//! * The ending is two answers of the store: a lease that has been asked for is waited for, so that it can be given
//!   back, and then it is. They take a round trip each, or, where the store is not as it should be, as long as it
//!   takes to be told that nobody answers.
//! * The progress of a pull is a timer, too, and nothing has to be asked for to cancel it.
//! * A process that is not scheduled when a timer is due, or when a request or progress arrives, takes note of it when
//!   it wakes. Sleep that is over by then, or another process's, excuses nothing: clocks go on.

use super::{Nearness, Oracle, moment};
use crate::clock::{self, Clock};
use crate::fact::{Fact, Pulling};
use crate::latency::{REQUEST, STORE, STORE_PATIENCE};
use holdfast_core::bounds::Bound;
use holdfast_core::id::{ActorKey, RequestId};
use holdfast_core::pull::Attempt;
use holdfast_core::settings::Settings;
use std::collections::BTreeMap;

/// The last two answers that a workflow waits for.
const ENDING: u64 = 2 * STORE.round_trip();
/// The same where nobody answers.
const ENDING_IN_SILENCE: u64 = 2 * STORE_PATIENCE;
/// A clock is read in whole microseconds, when a timer is set and when it is due.
const CLOCK_STEPS: u64 = 2;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct InTime {
    deadline: u64,
    stall: u64,
    open: BTreeMap<RequestId, Open>,
    /// When an attempt of a node has stalled.
    pulls: BTreeMap<(usize, Attempt), Due>,
    /// Until when a replica is not scheduled.
    replicas: BTreeMap<usize, u64>,
    /// Until when an atelet is not scheduled.
    nodes: BTreeMap<usize, u64>,
    /// When something was last wrong with the store, or will be.
    store_until: u64,
    worst: u64,
}

/// A request that has not been answered.
#[derive(Clone, Debug)]
struct Open {
    actor: ActorKey,
    at: u64,
    replica: Option<usize>,
    /// When its replica has taken note of it.
    arrives: u64,
    due: Due,
    /// Whether sleep has changed any of that.
    has_slept: bool,
}

/// When a timer is due, and has been taken note of.
#[derive(Clone, Copy, Debug)]
struct Due(u64);

impl Due {
    /// The process is not scheduled from now until then; what may still follow the timer takes so long.
    fn sleeps(&mut self, now: u64, until: u64, ending: u64) -> bool {
        let is_late = now <= self.0 + ending && self.0 < until;
        if is_late {
            self.0 = until;
        }
        is_late
    }
}

impl InTime {
    /// For worlds with these settings and clocks.
    pub fn new(settings: &Settings, clocks: &[Clock]) -> InTime {
        let longest = |micros: u128| clock::longest(micros as u64, clocks) + CLOCK_STEPS;
        InTime {
            deadline: longest(Bound::Verdict.of(settings).as_micros()),
            stall: longest(settings.pull.stall_after.as_micros()),
            ..InTime::default()
        }
    }

    /// How long what follows the deadline may take.
    fn ending(&self, due: Due) -> u64 {
        if due.0 <= self.store_until {
            ENDING_IN_SILENCE
        } else {
            ENDING
        }
    }

    fn answered(&self, now: u64, id: RequestId, open: &Open) -> Result<(), String> {
        let Due(due) = open.due;
        if now <= due + self.ending(open.due) {
            return Ok(());
        }
        Err(format!(
            "request {id} for {}, made at {}, had no answer until {}; its deadline was at {}, and what follows may take {}",
            open.actor,
            moment(open.at),
            moment(now),
            moment(due),
            moment(self.ending(open.due))
        ))
    }

    fn moved(&self, now: u64, pull: &(usize, Attempt)) -> Result<(), String> {
        match self.pulls.get(pull) {
            Some(Due(due)) if now > *due => Err(format!(
                "a pull on node {} that stalled at {} was waited for until {}",
                pull.0,
                moment(*due),
                moment(now)
            )),
            _ => Ok(()),
        }
    }

    fn addressed(&mut self, now: u64, id: RequestId, replica: usize) {
        let awake = self.replicas.get(&replica).copied().unwrap_or_default();
        if let Some(open) = self.open.get_mut(&id) {
            open.replica = Some(replica);
            open.has_slept = awake > now;
            open.arrives = (now + REQUEST.most).max(awake);
            open.due = Due(open.arrives + self.deadline);
        }
    }

    fn replica_sleeps(&mut self, now: u64, replica: usize, until: u64) {
        self.replicas.insert(replica, until);
        for open in self
            .open
            .values_mut()
            .filter(|open| open.replica == Some(replica))
        {
            if now <= open.arrives {
                open.arrives = open.arrives.max(until);
                open.due = Due(open.arrives + self.deadline);
                open.has_slept = true;
            } else {
                open.has_slept |= open.due.sleeps(now, until, ENDING_IN_SILENCE);
            }
        }
    }

    fn node_sleeps(&mut self, now: u64, node: usize, until: u64) {
        self.nodes.insert(node, until);
        for (_, due) in self.pulls.iter_mut().filter(|((on, _), _)| *on == node) {
            due.sleeps(now, until, 0);
        }
    }
}

impl Oracle for InTime {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Asked(id, actor, _) => {
                let arrives = now + REQUEST.most;
                let open = Open {
                    actor: actor.clone(),
                    at: now,
                    replica: None,
                    arrives,
                    due: Due(arrives + self.deadline),
                    has_slept: false,
                };
                self.open.insert(*id, open);
            }
            Fact::Addressed(id, replica) => self.addressed(now, *id, *replica),
            Fact::Told(id, _) => {
                let Some(open) = self.open.remove(id) else {
                    return Ok(());
                };
                self.answered(now, *id, &open)?;
                if !open.has_slept && open.due.0 > self.store_until {
                    self.worst = self.worst.max(now - open.at);
                }
            }
            Fact::Unheard(id) => {
                self.open.remove(id);
            }
            Fact::Wrong { until } => self.store_until = self.store_until.max(*until),
            Fact::Slept { replica, until } => self.replica_sleeps(now, *replica, *until),
            Fact::NodeSlept { node, until } => self.node_sleeps(now, *node, *until),
            Fact::NodeDied(node) => self.pulls.retain(|(on, _), _| on != node),
            Fact::Pulled {
                node,
                attempt,
                pulling,
            } => {
                let pull = (*node, *attempt);
                self.moved(now, &pull)?;
                let awake = self.nodes.get(node).copied().unwrap_or_default();
                match pulling {
                    Pulling::Moves => self.pulls.insert(pull, Due(now.max(awake) + self.stall)),
                    Pulling::Over => self.pulls.remove(&pull),
                };
            }
            Fact::Calm(_) => {
                let mut open = self.open.iter();
                open.try_for_each(|(id, open)| self.answered(now, *id, open))?;
                return self.pulls.keys().try_for_each(|pull| self.moved(now, pull));
            }
            _ => {}
        }
        Ok(())
    }

    fn nearness(&self) -> Vec<(Bound, Nearness)> {
        let nearness = Nearness {
            worst_us: self.worst,
            bound_us: REQUEST.most + self.deadline + ENDING,
        };
        vec![(Bound::Verdict, nearness)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Asked;

    const SECOND: u64 = 1_000_000;
    /// When a request that is made at five seconds is due.
    const DUE: u64 = 305 * SECOND + REQUEST.most + CLOCK_STEPS;

    fn oracle() -> InTime {
        InTime::new(&Settings::DEFAULT, &[Clock::TRUE])
    }

    fn slept(replica: usize, until: u64) -> Fact {
        Fact::Slept { replica, until }
    }

    /// A request is made at five seconds, something happens then, and it is answered.
    fn answered(meanwhile: &[(u64, Fact)], at: u64) -> Result<(), String> {
        let mut oracle = oracle();
        let id = RequestId(1);
        oracle.see(
            5 * SECOND,
            &Fact::Asked(id, ActorKey::new("s", "a"), Asked::Resume),
        )?;
        oracle.see(5 * SECOND, &Fact::Addressed(id, 0))?;
        meanwhile
            .iter()
            .try_for_each(|(now, fact)| oracle.see(*now, fact))?;
        oracle.see(at, &Fact::Told(id, Ok(())))
    }

    #[test]
    fn a_verdict_that_comes_too_late_is_seen() {
        assert_eq!(answered(&[], DUE + ENDING), Ok(()));
        let what = answered(&[], DUE + ENDING + 1).unwrap_err();
        assert!(what.contains("made at 5.000000s"), "{what}");
        let wrong = Fact::Wrong { until: DUE };
        let meanwhile = [(9 * SECOND, wrong)];
        assert_eq!(answered(&meanwhile, DUE + ENDING_IN_SILENCE), Ok(()));
        assert!(answered(&meanwhile, DUE + ENDING_IN_SILENCE + 1).is_err());
    }

    #[test]
    fn only_sleep_of_the_replica_that_was_asked_counts_and_only_where_it_is_in_the_way() {
        let cases = [
            // Over before the deadline, and somebody else's.
            ((10 * SECOND, slept(0, 60 * SECOND)), 0),
            ((DUE - 1, slept(1, DUE + 9 * SECOND)), 0),
            // When the request arrives, when it is due, and when its lease is given back.
            (
                (5 * SECOND + 1, slept(0, 60 * SECOND)),
                55 * SECOND - REQUEST.most,
            ),
            ((DUE - 1, slept(0, DUE + 9 * SECOND)), 9 * SECOND),
            ((DUE + ENDING - 1, slept(0, DUE + 9 * SECOND)), 9 * SECOND),
        ];
        for (sleep, later) in cases {
            let last = DUE + later + ENDING;
            assert_eq!(answered(std::slice::from_ref(&sleep), last), Ok(()), "{sleep:?}");
            assert!(
                answered(std::slice::from_ref(&sleep), last + 1).is_err(),
                "{sleep:?}"
            );
        }
    }

    #[test]
    fn a_pull_that_hangs_for_longer_than_a_stall_is_seen() {
        let pulled = |pulling| Fact::Pulled {
            node: 0,
            attempt: Attempt(1),
            pulling,
        };
        let stalled = 90 * SECOND + CLOCK_STEPS;
        let mut oracle = oracle();
        oracle.see(30 * SECOND, &pulled(Pulling::Moves)).unwrap();
        oracle.see(60 * SECOND, &pulled(Pulling::Moves)).unwrap();
        assert_eq!(oracle.clone().see(stalled, &pulled(Pulling::Over)), Ok(()));
        for late in [pulled(Pulling::Over), Fact::Calm(Box::default())] {
            let what = oracle.clone().see(stalled + 1, &late).unwrap_err();
            assert!(what.contains("stalled at 90.000002s"), "{what}");
        }
        let sleeps = Fact::NodeSlept {
            node: 0,
            until: 99 * SECOND,
        };
        oracle.see(80 * SECOND, &sleeps).unwrap();
        assert_eq!(oracle.see(99 * SECOND, &pulled(Pulling::Over)), Ok(()));
    }
}
