//! I1: effects that a resource accepts come from owners in the order of their fences.
//!
//! A node that has begun an operation under some fence begins no other below it, neither for the actor nor
//! on the worker; a record's claim never falls.

use crate::fact::Fact;
use crate::history::History;

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    match fact {
        Fact::Begun {
            node,
            worker,
            actor,
            op,
            fence,
            worker_fence,
        } => {
            if history.begun.contains(&(worker.clone(), *op)) {
                return Ok(());
            }
            let known = history.actor_fences.get(&(node.clone(), actor.clone()));
            if let Some(known) = known.filter(|known| fence < known) {
                return Err(format!(
                    "{node} acted for {actor} under fence {fence} after {known}"
                ));
            }
            let known = history.worker_fences.get(worker);
            if let Some(known) = known.filter(|known| worker_fence < known) {
                return Err(format!(
                    "{worker} was used for {actor} under its fence {worker_fence} after {known}"
                ));
            }
            Ok(())
        }
        Fact::Recorded { before, after } => match (before.claim, after.claim) {
            (Some(old), Some(new)) if new.fence < old.fence => Err(format!(
                "the claim on {} fell from {} to {}",
                after.key, old.fence, new.fence
            )),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::tests::{actor, after, key, recorded};
    use holdfast_core::actor::{Claim, State};
    use holdfast_core::id::{Fence, LeaseToken, OpId, ReplicaId};

    fn begun(op: u64, fence: u64, worker_fence: u64) -> Fact {
        Fact::Begun {
            node: "n".into(),
            worker: "w".into(),
            actor: key(),
            op: OpId {
                replica: ReplicaId(1),
                seq: op,
            },
            fence: Fence(fence),
            worker_fence: Fence(worker_fence),
        }
    }

    #[test]
    fn an_operation_below_a_known_fence_is_seen() {
        let history = after([begun(1, 5, 2)]);
        assert_eq!(
            check(&history, &begun(1, 4, 1)),
            Ok(()),
            "a repetition is no news"
        );
        assert_eq!(check(&history, &begun(2, 5, 2)), Ok(()));
        assert!(check(&history, &begun(2, 4, 2)).is_err());
        assert!(check(&history, &begun(2, 5, 1)).is_err());
    }

    #[test]
    fn a_claim_that_falls_is_seen() {
        let claimed = |fence| {
            let token = LeaseToken {
                replica: ReplicaId(1),
                seq: 1,
            };
            let mut actor = actor(State::Suspended);
            actor.claim = Some(Claim {
                token,
                fence: Fence(fence),
            });
            actor
        };
        let history = History::default();
        assert_eq!(check(&history, &recorded(claimed(3), claimed(4))), Ok(()));
        assert!(check(&history, &recorded(claimed(3), claimed(2))).is_err());
    }
}
