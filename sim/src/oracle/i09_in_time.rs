//! I9: no workflow runs past its deadline, and nothing that hangs is waited for longer than a stall.
//!
//! Formally: a request that is made at true time *t* is answered by *t* plus [`Bound::Verdict`] and a grace of ten
//! seconds, for the attempts at reading the record before a workflow begins, unless its caller or its
//! replica is gone; and an attempt at pulling an image ends by the stall timeout, and as much again, after its last
//! progress, with the same grace. Both are measured on the slowest clock, and the time
//! in which a process was not scheduled is not counted.

use super::{Oracle, moment};
use crate::clock::{self, Clock};
use crate::fact::{Fact, Pulling};
use holdfast_core::bounds::Bound;
use holdfast_core::id::{ActorKey, RequestId};
use holdfast_core::pull::Attempt;
use holdfast_core::settings::Settings;
use std::collections::BTreeMap;

/// See the module, in microseconds.
const GRACE: u64 = 10_000_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct InTime {
    verdict_bound: u64,
    stall_bound: u64,
    /// When a request for an actor was made, and how long processes had slept by then.
    open: BTreeMap<RequestId, (ActorKey, u64, u64)>,
    /// When an attempt of a node moved last.
    pulls: BTreeMap<(usize, Attempt), (u64, u64)>,
    /// How long processes have slept, all in all, as far as that is over.
    slept: u64,
    /// From when until when others sleep.
    asleep: Vec<(u64, u64)>,
}

impl InTime {
    /// For worlds with these settings and clocks.
    pub fn new(settings: &Settings, clocks: &[Clock]) -> InTime {
        let bound = |micros: u128| clock::longest(micros as u64, clocks) + GRACE;
        InTime {
            verdict_bound: bound(Bound::Verdict.of(settings).as_micros()),
            stall_bound: bound(2 * settings.pull.stall_after.as_micros()),
            ..InTime::default()
        }
    }

    /// How long processes had slept by now.
    fn slept_by(&self, now: u64) -> u64 {
        let asleep = self.asleep.iter().map(|(from, until)| now.min(*until) - from);
        self.slept + asleep.sum::<u64>()
    }

    fn sleeps(&mut self, now: u64, until: u64) {
        let is_over = |(_, until): &(u64, u64)| *until <= now;
        let over = self.asleep.iter().filter(|sleep| is_over(sleep));
        self.slept += over.map(|(from, until)| until - from).sum::<u64>();
        self.asleep.retain(|sleep| !is_over(sleep));
        if until > now {
            self.asleep.push((now, until));
        }
    }

    fn answered(&self, now: u64, id: RequestId) -> Result<(), String> {
        let Some((actor, at, slept)) = self.open.get(&id) else {
            return Ok(());
        };
        let took = now.saturating_sub(*at + (self.slept_by(now) - slept));
        if took <= self.verdict_bound {
            return Ok(());
        }
        Err(format!(
            "request {id} for {actor}, made at {}, had no answer for {}, which may be {}",
            moment(*at),
            moment(took),
            moment(self.verdict_bound)
        ))
    }

    fn moved(&self, now: u64, pull: &(usize, Attempt)) -> Result<(), String> {
        let Some((at, slept)) = self.pulls.get(pull) else {
            return Ok(());
        };
        let took = now.saturating_sub(*at + (self.slept_by(now) - slept));
        if took <= self.stall_bound {
            return Ok(());
        }
        Err(format!(
            "a pull on node {} that last moved at {} was waited for {}, which may be {}",
            pull.0,
            moment(*at),
            moment(took),
            moment(self.stall_bound)
        ))
    }
}

impl Oracle for InTime {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Asked(id, actor, _) => {
                self.open.insert(*id, (actor.clone(), now, self.slept_by(now)));
            }
            Fact::Told(id, _) => {
                self.answered(now, *id)?;
                self.open.remove(id);
            }
            Fact::Unheard(id) => {
                self.open.remove(id);
            }
            Fact::Slept { until, .. } | Fact::NodeSlept { until, .. } => self.sleeps(now, *until),
            Fact::NodeDied(node) => self.pulls.retain(|(on, _), _| on != node),
            Fact::Pulled {
                node,
                attempt,
                pulling,
            } => {
                let pull = (*node, *attempt);
                self.moved(now, &pull)?;
                match pulling {
                    Pulling::Moves => self.pulls.insert(pull, (now, self.slept_by(now))),
                    Pulling::Over => self.pulls.remove(&pull),
                };
            }
            Fact::Calm(_) => {
                self.open.keys().try_for_each(|id| self.answered(now, *id))?;
                return self.pulls.keys().try_for_each(|pull| self.moved(now, pull));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Asked;

    const SECOND: u64 = 1_000_000;

    fn oracle() -> InTime {
        InTime::new(&Settings::DEFAULT, &[Clock::TRUE])
    }

    #[test]
    fn a_verdict_that_comes_too_late_is_seen_and_sleep_does_not_count() {
        let asked = Fact::Asked(RequestId(1), ActorKey::new("s", "a"), Asked::Resume);
        let told = Fact::Told(RequestId(1), Ok(()));
        let mut awake = oracle();
        awake.see(5 * SECOND, &asked).unwrap();
        let mut asleep = awake.clone();
        assert_eq!(awake.clone().see(315 * SECOND, &told), Ok(()));
        let what = awake.see(316 * SECOND, &told).unwrap_err();
        assert!(what.contains("made at 5.000000s"), "{what}");
        let slept = Fact::Slept {
            replica: 0,
            until: 11 * SECOND,
        };
        asleep.see(10 * SECOND, &slept).unwrap();
        assert_eq!(asleep.see(316 * SECOND, &told), Ok(()));
    }

    #[test]
    fn a_pull_that_hangs_for_longer_than_a_stall_is_seen() {
        let pulled = |pulling| Fact::Pulled {
            node: 0,
            attempt: Attempt(1),
            pulling,
        };
        let mut oracle = oracle();
        oracle.see(0, &pulled(Pulling::Moves)).unwrap();
        oracle.see(60 * SECOND, &pulled(Pulling::Moves)).unwrap();
        assert!(
            oracle
                .clone()
                .see(131 * SECOND, &pulled(Pulling::Over))
                .unwrap_err()
                .contains("last moved at 60.000000s")
        );
        let calm = Fact::Calm(Box::default());
        assert!(oracle.see(500 * SECOND, &calm).is_err());
    }
}
