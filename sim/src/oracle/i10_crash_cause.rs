//! I10: a crash or a loss has a cause that really happened, and nothing is given up that is still there.
//!
//! Formally: when a record becomes CRASHED, a step for that actor has failed, or a snapshot of it was missing
//! or damaged, since it last began to run; when a loss mark is set, a sandbox of it came to harm since it
//! last came up as its record says, or the session of its node was over; when a session is declared over its node does not
//! believe in it; and when a workflow takes its lease for lost because the store has said so, the store has said so.
//!
//! An actor whose record a store has forgotten may be where its record does not say, which then looks like a
//! loss; one whose worker was promised to somebody else, because the store had forgotten the promise, cannot be saved
//! from there any more; and a node whose last report a store has forgotten may be given up too early. So may any node where
//! clocks drift apart further than is declared.

use super::{Assumed, Oracle};
use crate::fact::{Ending, Fact};
use holdfast_core::actor::{Actor, State};
use holdfast_core::id::{ActorKey, LeaseToken, NodeName};
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct CrashCause {
    /// Whether time alone keeps a node from being given up too early.
    is_by_time: bool,
    /// Actors whose sandbox was killed or frozen, or whose checkpoint came to nothing, since they came up.
    harmed: BTreeSet<ActorKey>,
    /// Actors for which a step has failed since they last began to run.
    failed: BTreeSet<ActorKey>,
    silent: BTreeSet<NodeName>,
    /// Actors that may be elsewhere than a store that has forgotten a write says.
    astray: BTreeSet<ActorKey>,
    /// Actors whose worker may be promised to somebody else, because the store has forgotten that it was theirs.
    unpromised: BTreeSet<ActorKey>,
    /// Nodes whose last report the store has forgotten.
    unheard: BTreeSet<NodeName>,
    /// Leases of which the store has said that they are not their holders'.
    disowned: BTreeSet<LeaseToken>,
}

impl CrashCause {
    /// For worlds in which this is so.
    pub fn new(assumed: Assumed) -> CrashCause {
        CrashCause {
            is_by_time: assumed.drift,
            ..CrashCause::default()
        }
    }
}

impl Oracle for CrashCause {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Down {
                actor,
                how: Ending::Killed,
                ..
            }
            | Fact::Frozen { actor, .. }
            | Fact::Harmed(actor) => {
                self.harmed.insert(actor.clone());
                Ok(())
            }
            Fact::Failed(actor) => {
                self.failed.insert(actor.clone());
                Ok(())
            }
            Fact::Forgot(forgotten) => {
                for (before, after) in &forgotten.actors {
                    self.astray
                        .extend(before.iter().chain(after).map(|a| a.key.clone()));
                }
                self.unpromised.extend(forgotten.promises().cloned());
                self.unheard.extend(forgotten.nodes.iter().cloned());
                Ok(())
            }
            Fact::Lapsed {
                node, is_believed, ..
            } if !is_believed || !self.is_by_time || self.unheard.remove(node) => {
                self.silent.insert(node.clone());
                Ok(())
            }
            Fact::Lapsed { node, .. } => Err(format!(
                "the session of {node} was declared over, and it believes in it"
            )),
            Fact::Disowned(token) => {
                self.disowned.insert(*token);
                Ok(())
            }
            Fact::GivenUp(token) if !self.disowned.remove(token) => Err(format!(
                "a workflow took its lease {token} for lost, and the store has not said so"
            )),
            // One that the record knows nothing of makes nothing good.
            Fact::Up {
                actor,
                is_recorded: true,
                ..
            } => {
                self.harmed.remove(actor);
                self.astray.remove(actor);
                Ok(())
            }
            Fact::WorkerRecorded { after: Some(row), .. } => {
                if let Some(hosted) = &row.hosts {
                    self.unpromised.remove(&hosted.actor);
                }
                Ok(())
            }
            Fact::Recorded {
                before: Some(before),
                after: Some(after),
            } => {
                let has_crashed = |actor: &Actor| matches!(actor.state, State::Crashed(_));
                if has_crashed(after)
                    && !has_crashed(before)
                    && !self.failed.contains(&after.key)
                    && !self.harmed.contains(&after.key)
                    && !self.astray.contains(&after.key)
                {
                    return Err(format!(
                        "{} is said to have crashed, {:?}; no step for it has failed since it last ran",
                        after.key, after.state
                    ));
                }
                if matches!(after.state, State::Running { .. })
                    && !matches!(before.state, State::Running { .. })
                {
                    self.failed.remove(&after.key);
                }
                let is_loss = after.loss.is_some() && before.loss != after.loss;
                let was_on = before.assignment().map(|on| &on.node);
                let was_silent = was_on.is_some_and(|node| self.silent.contains(node));
                let is_asleep = matches!(after.state, State::Suspended | State::Paused);
                if is_loss
                    && is_asleep
                    && !was_silent
                    && !self.harmed.contains(&after.key)
                    && !self.astray.contains(&after.key)
                    && !self.unpromised.contains(&after.key)
                {
                    return Err(format!(
                        "{} is said to have lost {:?}; nothing was harmed",
                        after.key, after.loss
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{actor, resuming};
    use holdfast_core::actor::{Crash, Loss, Transition};
    use holdfast_core::id::{ReplicaId, WorkerKey};

    #[test]
    fn a_node_that_is_given_up_while_it_believes_in_its_session_is_seen() {
        let lapsed = |is_believed| Fact::Lapsed {
            node: "n".into(),
            session: 1,
            is_believed,
        };
        assert_eq!(
            CrashCause::new(Assumed { drift: true }).see(0, &lapsed(false)),
            Ok(())
        );
        assert!(
            CrashCause::new(Assumed { drift: true })
                .see(0, &lapsed(true))
                .unwrap_err()
                .contains("believes in it")
        );
    }

    #[test]
    fn a_lease_that_is_given_up_though_the_store_has_not_disowned_it_is_seen() {
        let token = LeaseToken {
            replica: ReplicaId(1),
            seq: 1,
        };
        let mut oracle = CrashCause::new(Assumed { drift: true });
        let what = oracle.see(0, &Fact::GivenUp(token)).unwrap_err();
        assert!(what.contains("the store has not said so"), "{what}");
        oracle.see(1, &Fact::Disowned(token)).unwrap();
        assert_eq!(oracle.see(2, &Fact::GivenUp(token)), Ok(()));
    }

    #[test]
    fn a_crash_without_a_step_that_failed_is_seen() {
        let crash = Crash {
            during: Transition::Resume,
            reason: "?".into(),
            node: "n".into(),
        };
        let wrote = Fact::Recorded {
            before: Some(Box::new(actor(resuming()))),
            after: Some(Box::new(actor(State::Crashed(crash)))),
        };
        let mut oracle = CrashCause::new(Assumed { drift: true });
        let what = oracle.see(0, &wrote).unwrap_err();
        assert!(what.contains("no step for it has failed"), "{what}");
        oracle.see(1, &Fact::Failed(ActorKey::new("s", "a"))).unwrap();
        assert_eq!(oracle.see(2, &wrote), Ok(()));
    }

    #[test]
    fn a_loss_without_harm_is_seen() {
        let mut lost = actor(State::Suspended);
        let key = lost.key.clone();
        lost.loss = Some(Loss {
            worker: WorkerKey::new("n", "p", "w"),
            reason: "?".into(),
        });
        let before = Some(Box::new(actor(State::Suspended)));
        let wrote = Fact::Recorded {
            before,
            after: Some(Box::new(lost)),
        };
        let mut oracle = CrashCause::new(Assumed { drift: true });
        assert!(oracle.see(0, &wrote).unwrap_err().contains("nothing was harmed"));
        oracle
            .see(
                0,
                &Fact::Down {
                    worker: "w".into(),
                    actor: key,
                    how: Ending::Killed,
                },
            )
            .unwrap();
        assert_eq!(oracle.see(0, &wrote), Ok(()));
    }
}
