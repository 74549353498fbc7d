//! I5: what was acknowledged is not lost silently.
//!
//! A sandbox comes up with everything that its actor had acknowledged, unless the record has said
//! that something was lost: a loss mark, a crash, a Revert. And once a Suspend or Pause has been
//! answered with success, what was acknowledged until then survives everything but a Revert.

use super::Oracle;
use crate::fact::{Asked, Fact};
use holdfast_core::actor::{Actor, Snapshot, State};
use holdfast_core::id::{ActorKey, RequestId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct StateKept {
    actors: BTreeMap<ActorKey, Known>,
    asked: BTreeMap<RequestId, (ActorKey, Asked)>,
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
}

impl StateKept {
    fn recorded(&mut self, before: Option<&Actor>, after: Option<&Actor>) {
        let Some(key) = before.or(after).map(|a| a.key.clone()) else {
            return;
        };
        let (Some(before), Some(after)) = (before, after) else {
            self.actors.remove(&key);
            return;
        };
        let known = self.actors.entry(key).or_default();
        let is_crash = matches!(after.state, State::Crashed(_)) && !matches!(before.state, State::Crashed(_));
        let is_loss = after.loss.is_some() && before.loss != after.loss;
        let is_revert = before.latest != after.latest
            && matches!(before.state, State::Crashed(_) | State::Paused)
            && after.latest == before.last_good().cloned().map(Snapshot::External);
        known.is_lost |= is_crash || is_loss || is_revert;
        known.is_reverted |= is_revert;
        if matches!(after.state, State::Suspended | State::Paused) && before.state != after.state && !is_loss
        {
            known.slept = known.acknowledged;
        }
    }
}

impl Oracle for StateKept {
    fn see(&mut self, fact: &Fact) -> Result<(), String> {
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
            Fact::Asked(id, actor, what) => {
                self.asked.insert(*id, (actor.clone(), *what));
                Ok(())
            }
            Fact::Told(id, Ok(())) => {
                if let Some((actor, Asked::Suspend | Asked::Pause)) = self.asked.get(id) {
                    let known = self.actors.entry(actor.clone()).or_default();
                    // A caller may learn late that it slept, when it has gone back since.
                    if !known.is_lost && !known.is_reverted {
                        known.vouched = known.slept;
                    }
                }
                Ok(())
            }
            Fact::Up { actor, count, worker } => {
                let known = self.actors.entry(actor.clone()).or_default();
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
pub(crate) mod tests {
    use super::*;
    use holdfast_core::actor::Loss;
    use holdfast_core::catalog::{LabelSelector, Scope, Selector, Template, Workload};
    use holdfast_core::id::{Incarnation, WorkerKey};
    use std::sync::Arc;

    /// An actor in a state.
    pub(crate) fn actor(state: State) -> Actor {
        let template = Template {
            namespace: "n".into(),
            name: "t".into(),
            workload: Workload {
                pause_image: "p".into(),
                containers: Vec::new(),
                durable_volumes: Vec::new(),
            },
            snapshot_location: "mem://".into(),
            on_pause: Scope::Full,
            on_commit: Scope::Full,
            sandbox_class: "c".into(),
            worker_selector: LabelSelector::default(),
            golden_snapshot: None,
        };
        let key = ActorKey::new("s", "a");
        Actor {
            state,
            ..Actor::create(key, Incarnation(1), Arc::new(template), Selector::default())
        }
    }

    fn up(count: u64) -> Fact {
        Fact::Up {
            worker: "w".into(),
            actor: ActorKey::new("s", "a"),
            count,
        }
    }

    #[test]
    fn a_lower_count_is_seen_unless_the_record_says_why() {
        let counted = Fact::Counted(ActorKey::new("s", "a"), 3);
        let mut oracle = StateKept::default();
        assert_eq!(oracle.see(&counted), Ok(()));
        assert!(oracle.see(&up(2)).unwrap_err().contains("nothing says why"));

        let mut oracle = StateKept::default();
        let mut lost = actor(State::Suspended);
        lost.loss = Some(Loss {
            worker: WorkerKey::new("n", "p", "w"),
            reason: "its sandbox died".into(),
        });
        let before = Some(Box::new(actor(State::Suspended)));
        assert_eq!(oracle.see(&counted), Ok(()));
        assert_eq!(
            oracle.see(&Fact::Recorded {
                before,
                after: Some(Box::new(lost))
            }),
            Ok(())
        );
        assert_eq!(oracle.see(&up(2)), Ok(()));
        assert_eq!(oracle.see(&up(2)), Ok(()), "what is lost is lost once");
    }

    #[test]
    fn what_a_sleep_has_vouched_for_survives_a_loss_mark() {
        let key = ActorKey::new("s", "a");
        let mut oracle = StateKept::default();
        oracle.see(&Fact::Counted(key.clone(), 3)).unwrap();
        oracle
            .see(&Fact::Asked(RequestId(1), key, Asked::Suspend))
            .unwrap();
        let slept = Fact::Recorded {
            before: Some(Box::new(actor(State::Paused))),
            after: Some(Box::new(actor(State::Suspended))),
        };
        oracle.see(&slept).unwrap();
        oracle.see(&Fact::Told(RequestId(1), Ok(()))).unwrap();
        let mut lost = actor(State::Suspended);
        lost.loss = Some(Loss {
            worker: WorkerKey::new("n", "p", "w"),
            reason: "its sandbox died".into(),
        });
        let before = Some(Box::new(actor(State::Suspended)));
        oracle
            .see(&Fact::Recorded {
                before,
                after: Some(Box::new(lost)),
            })
            .unwrap();
        assert!(oracle.see(&up(2)).unwrap_err().contains("vouched for 3"));
    }
}
