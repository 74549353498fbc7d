//! I5: what was acknowledged is not lost silently.
//!
//! Formally: let an actor be a counter of which each request is one more. The history of its requests, each with
//! the count that was answered or without an answer, is linearizable together with what was told of it: a
//! Suspend or Pause that was answered with success vouches for the count at that moment; a loss mark or a crash may
//! take back what nothing has vouched for; a Revert or a Delete may take back everything. That is looked at
//! when the run is over ([`history`], [`linear`]); before that, each time a sandbox comes up, with what is true:
//!
//! A sandbox comes up with everything that its actor had acknowledged, unless the record has said
//! that something was lost: a loss mark, a crash, a Revert. And once a Suspend or Pause has been
//! answered with success, what was acknowledged until then survives everything but a Revert.
//!
//! An actor whose record a store has forgotten may be back at an earlier one; others may not.

mod history;
mod linear;

use super::Oracle;
use crate::fact::{Asked, Fact};
use history::{Deed, History};
use holdfast_core::actor::{Actor, Snapshot, State};
use holdfast_core::id::{ActorKey, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct StateKept {
    actors: BTreeMap<ActorKey, Known>,
    asked: BTreeMap<RequestId, (ActorKey, Asked, u64)>,
    /// Actors whose records a store has forgotten once: orders that are older than that may still bring up a
    /// sandbox that no record knows of, which nobody reaches.
    astray: BTreeSet<ActorKey>,
    histories: BTreeMap<ActorKey, History>,
    /// Requests to actors that have no answer yet, and when they were sent.
    sent: BTreeMap<u64, (ActorKey, u64)>,
    /// When a sandbox of an actor came up last.
    came_up: BTreeMap<ActorKey, u64>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// The highest count that was acknowledged and has not been said to be lost.
    acknowledged: u64,
    /// What was acknowledged when the actor last went to sleep.
    slept: u64,
    /// The highest count that a successful Suspend or Pause vouches for.
    vouched: u64,
    /// The record has said that something was lost.
    is_lost: bool,
    /// The record has gone back to an older snapshot.
    is_reverted: bool,
    /// A store has forgotten a writing of the record, and the actor has not come up by it since.
    is_forgotten: bool,
}

impl StateKept {
    /// What callers see goes into the histories.
    fn write_down(&mut self, now: u64, fact: &Fact) {
        match fact {
            Fact::Sent(id, actor) => {
                self.sent.insert(*id, (actor.clone(), now));
            }
            Fact::Refused(id) => {
                self.sent.remove(id);
            }
            Fact::Answered(id, count) => {
                if let Some((actor, made)) = self.sent.remove(id) {
                    self.add(&actor, Deed::Count(Some(*count)), made, Some(now));
                }
            }
            Fact::Up { actor, .. } => {
                self.came_up.insert(actor.clone(), now);
            }
            Fact::Told(id, result) => {
                let Some((actor, what, made)) = self.asked.get(id).cloned() else {
                    return;
                };
                match (what, result) {
                    (Asked::Suspend | Asked::Pause, Ok(())) => self.add(&actor, Deed::Vouch, made, Some(now)),
                    (Asked::Revert | Asked::Delete, Ok(())) => {
                        self.add(&actor, Deed::Forget, made, Some(now))
                    }
                    // It may have happened all the same.
                    (Asked::Revert | Asked::Delete, Err(_)) => self.add(&actor, Deed::Forget, made, None),
                    _ => {}
                }
            }
            Fact::Unheard(id) => {
                if let Some((actor, Asked::Revert | Asked::Delete, made)) = self.asked.get(id).cloned() {
                    self.add(&actor, Deed::Forget, made, None);
                }
            }
            Fact::Recorded {
                before: Some(before),
                after: Some(after),
            } if is_told_lost(before, after) => {
                let since = self.came_up.get(&after.key).copied().unwrap_or_default();
                self.add(&after.key.clone(), Deed::Lose, since, Some(now));
            }
            _ => {}
        }
    }

    fn add(&mut self, actor: &ActorKey, deed: Deed, made: u64, answered: Option<u64>) {
        let history = self.histories.entry(actor.clone()).or_default();
        history.add(deed, made, answered);
    }

    fn recorded(&mut self, before: Option<&Actor>, after: Option<&Actor>) {
        let Some(key) = before.or(after).map(|a| a.key.clone()) else {
            return;
        };
        let (Some(before), Some(after)) = (before, after) else {
            let is_forgotten = self.actors.remove(&key).is_some_and(|known| known.is_forgotten);
            let known = Known {
                is_forgotten,
                ..Known::default()
            };
            self.actors.insert(key, known);
            return;
        };
        let known = self.actors.entry(key).or_default();
        let is_loss = after.loss.is_some() && before.loss != after.loss;
        let is_revert = before.latest != after.latest
            && matches!(before.state, State::Crashed(_) | State::Paused)
            && after.latest == before.last_good().cloned().map(Snapshot::External);
        known.is_lost |= is_told_lost(before, after) || is_revert;
        known.is_reverted |= is_revert;
        if matches!(after.state, State::Suspended | State::Paused) && before.state != after.state && !is_loss
        {
            known.slept = known.acknowledged;
        }
    }
}

/// Whether a record tells of a crash or a loss that it did not tell of before.
fn is_told_lost(before: &Actor, after: &Actor) -> bool {
    let has_crashed = |actor: &Actor| matches!(actor.state, State::Crashed(_));
    (has_crashed(after) && !has_crashed(before)) || (after.loss.is_some() && before.loss != after.loss)
}

impl Oracle for StateKept {
    fn end(&mut self) -> Result<(), String> {
        for (actor, made) in std::mem::take(&mut self.sent).into_values() {
            self.add(&actor, Deed::Count(None), made, None);
        }
        // Of an actor that the store has forgotten something of nothing is promised.
        let mut histories = self.histories.iter();
        histories.try_for_each(|(actor, history)| match history.check() {
            Err(what) if !self.astray.contains(actor) => Err(format!("{actor} counted wrong: {what}")),
            _ => Ok(()),
        })
    }

    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        self.write_down(now, fact);
        match fact {
            Fact::Counted(actor, count) => {
                let known = self.actors.entry(actor.clone()).or_default();
                known.acknowledged = known.acknowledged.max(*count);
                Ok(())
            }
            Fact::Recorded { before, after } => {
                self.recorded(before.as_deref(), after.as_deref());
                Ok(())
            }
            Fact::Forgot(forgotten) => {
                for (before, after) in &forgotten.actors {
                    let Some(key) = before.as_ref().or(after.as_ref()).map(|a| a.key.clone()) else {
                        continue;
                    };
                    let known = self.actors.entry(key.clone()).or_default();
                    known.is_forgotten = true;
                    self.astray.insert(key);
                }
                Ok(())
            }
            Fact::Asked(id, actor, what) => {
                self.asked.insert(*id, (actor.clone(), *what, now));
                Ok(())
            }
            Fact::Told(id, Ok(())) => {
                if let Some((actor, Asked::Suspend | Asked::Pause, _)) = self.asked.get(id) {
                    let known = self.actors.entry(actor.clone()).or_default();
                    // A caller may learn late that it slept, when it has gone back since.
                    if !known.is_lost && !known.is_reverted {
                        known.vouched = known.slept;
                    }
                }
                Ok(())
            }
            Fact::Up {
                actor,
                count,
                worker,
                is_recorded,
            } => {
                let known = self.actors.entry(actor.clone()).or_default();
                if self.astray.contains(actor) && !is_recorded {
                    return Ok(());
                }
                if std::mem::take(&mut known.is_forgotten) {
                    (known.is_lost, known.is_reverted) = (true, true);
                }
                if *count < known.vouched && !known.is_reverted {
                    return Err(format!(
                        "{actor} came up on {worker} with {count}; a sleep vouched for {}",
                        known.vouched
                    ));
                }
                if *count < known.acknowledged && !known.is_lost {
                    return Err(format!(
                        "{actor} came up on {worker} with {count} after {} was acknowledged, and nothing says why",
                        known.acknowledged
                    ));
                }
                *known = Known {
                    acknowledged: *count,
                    slept: known.slept.min(*count),
                    vouched: known.vouched.min(*count),
                    ..Known::default()
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::actor;
    use holdfast_core::actor::Loss;
    use holdfast_core::id::WorkerKey;

    fn up(count: u64) -> Fact {
        Fact::Up {
            worker: "w".into(),
            actor: ActorKey::new("s", "a"),
            count,
            is_recorded: true,
        }
    }

    #[test]
    fn a_lower_count_is_seen_unless_the_record_says_why() {
        let counted = Fact::Counted(ActorKey::new("s", "a"), 3);
        let mut oracle = StateKept::default();
        assert_eq!(oracle.see(0, &counted), Ok(()));
        assert!(oracle.see(0, &up(2)).unwrap_err().contains("nothing says why"));

        let mut oracle = StateKept::default();
        let mut lost = actor(State::Suspended);
        lost.loss = Some(Loss {
            worker: WorkerKey::new("n", "p", "w"),
            reason: "its sandbox died".into(),
        });
        let before = Some(Box::new(actor(State::Suspended)));
        assert_eq!(oracle.see(0, &counted), Ok(()));
        assert_eq!(
            oracle.see(
                0,
                &Fact::Recorded {
                    before,
                    after: Some(Box::new(lost))
                }
            ),
            Ok(())
        );
        assert_eq!(oracle.see(0, &up(2)), Ok(()));
        assert_eq!(oracle.see(0, &up(2)), Ok(()), "what is lost is lost once");
    }

    #[test]
    fn what_a_sleep_has_vouched_for_survives_a_loss_mark() {
        let key = ActorKey::new("s", "a");
        let mut oracle = StateKept::default();
        oracle.see(0, &Fact::Counted(key.clone(), 3)).unwrap();
        oracle
            .see(0, &Fact::Asked(RequestId(1), key, Asked::Suspend))
            .unwrap();
        let slept = Fact::Recorded {
            before: Some(Box::new(actor(State::Paused))),
            after: Some(Box::new(actor(State::Suspended))),
        };
        oracle.see(0, &slept).unwrap();
        oracle.see(0, &Fact::Told(RequestId(1), Ok(()))).unwrap();
        let mut lost = actor(State::Suspended);
        lost.loss = Some(Loss {
            worker: WorkerKey::new("n", "p", "w"),
            reason: "its sandbox died".into(),
        });
        let before = Some(Box::new(actor(State::Suspended)));
        oracle
            .see(
                0,
                &Fact::Recorded {
                    before,
                    after: Some(Box::new(lost)),
                },
            )
            .unwrap();
        assert!(oracle.see(0, &up(2)).unwrap_err().contains("vouched for 3"));
    }
}
