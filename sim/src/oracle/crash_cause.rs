//! I10: an actor is said to have lost something only when a sandbox of it, or a snapshot, really came
//! to harm, or its node's session was over; and no session is declared over in which its node believes.
//!
//! An actor whose record a store has forgotten may be where its record does not say, which then looks like a
//! loss; and a node whose last report a store has forgotten may be given up too early. So may any node where
//! clocks drift apart further than is declared.

use super::{Assumed, Oracle};
use crate::fact::{Ending, Fact};
use holdfast_core::actor::State;
use holdfast_core::id::{ActorKey, NodeName};
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct CrashCause {
    /// Whether time alone keeps a node from being given up too early.
    is_by_time: bool,
    harmed: BTreeSet<ActorKey>,
    silent: BTreeSet<NodeName>,
    /// Actors that may be elsewhere than a store that has forgotten a write says.
    astray: BTreeSet<ActorKey>,
    /// Nodes whose last report the store has forgotten.
    unheard: BTreeSet<NodeName>,
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
            Fact::Forgot(forgotten) => {
                for (before, after) in &forgotten.actors {
                    self.astray
                        .extend(before.iter().chain(after).map(|a| a.key.clone()));
                }
                self.unheard.extend(forgotten.nodes.iter().cloned());
                Ok(())
            }
            Fact::Lapsed { node, is_believed }
                if !is_believed || !self.is_by_time || self.unheard.remove(node) =>
            {
                self.silent.insert(node.clone());
                Ok(())
            }
            Fact::Lapsed { node, .. } => Err(format!(
                "the session of {node} was declared over, and it believes in it"
            )),
            Fact::Up {
                actor, is_recorded, ..
            } => {
                self.harmed.remove(actor);
                if *is_recorded {
                    self.astray.remove(actor);
                }
                Ok(())
            }
            Fact::Recorded {
                before: Some(before),
                after: Some(after),
            } => {
                let is_loss = after.loss.is_some() && before.loss != after.loss;
                let was_on = before.assignment().map(|on| &on.node);
                let was_silent = was_on.is_some_and(|node| self.silent.contains(node));
                let is_asleep = matches!(after.state, State::Suspended | State::Paused);
                if is_loss
                    && is_asleep
                    && !was_silent
                    && !self.harmed.contains(&after.key)
                    && !self.astray.contains(&after.key)
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
    use crate::made_up::actor;
    use holdfast_core::actor::Loss;
    use holdfast_core::id::WorkerKey;

    #[test]
    fn a_node_that_is_given_up_while_it_believes_in_its_session_is_seen() {
        let lapsed = |is_believed| Fact::Lapsed {
            node: "n".into(),
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
