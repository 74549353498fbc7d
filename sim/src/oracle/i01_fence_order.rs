//! I1: effects accepted at any resource come from owners in fence order.
//!
//! A node that has heeded an order of some fence begins no new operation below it, neither for the
//! actor nor on the worker; a record's claim never falls.

use super::Oracle;
use crate::fact::Fact;
use holdfast_core::id::{ActorKey, Fence, Incarnation, NodeName, OpId, PodUid};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct FenceOrder {
    actors: BTreeMap<(NodeName, ActorKey, Incarnation), Fence>,
    workers: BTreeMap<PodUid, Fence>,
    begun: BTreeSet<(PodUid, OpId)>,
}

impl FenceOrder {
    fn raise(
        &mut self,
        at: (&NodeName, &ActorKey, Incarnation),
        worker: &PodUid,
        fence: Fence,
        worker_fence: Fence,
    ) -> Result<(), String> {
        let known = self.actors.entry((at.0.clone(), at.1.clone(), at.2)).or_default();
        if fence < *known {
            return Err(format!(
                "{} acted for {} under fence {fence} after {known}",
                at.0, at.1
            ));
        }
        *known = fence;
        if worker_fence > Fence(0) {
            let known = self.workers.entry(worker.clone()).or_default();
            if worker_fence < *known {
                return Err(format!(
                    "{worker} was used for {} under fence {worker_fence} after {known}",
                    at.1
                ));
            }
            *known = worker_fence;
        }
        Ok(())
    }
}

impl Oracle for FenceOrder {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Begun {
                node,
                worker,
                actor,
                incarnation,
                op,
                fence,
                worker_fence,
            } => {
                if !self.begun.insert((worker.clone(), *op)) {
                    return Ok(());
                }
                self.raise((node, actor, *incarnation), worker, *fence, *worker_fence)
            }
            Fact::Heeded {
                node,
                worker,
                actor,
                incarnation,
                fence,
                worker_fence,
            } => {
                // An answer may be late; it is what is begun after it that must not be older.
                let known = self.actors.get(&(node.clone(), actor.clone(), *incarnation));
                let is_news = known.is_none_or(|known| known <= fence)
                    && self.workers.get(worker).is_none_or(|known| known <= worker_fence);
                if is_news {
                    self.raise((node, actor, *incarnation), worker, *fence, *worker_fence)
                } else {
                    Ok(())
                }
            }
            Fact::Recorded {
                before: Some(before),
                after: Some(after),
            } if before.incarnation == after.incarnation => match (before.claim, after.claim) {
                (Some(old), Some(new)) if new.fence < old.fence => Err(format!(
                    "the claim on {} fell from {} to {}",
                    after.key, old.fence, new.fence
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::ReplicaId;

    fn begun(op: u64, fence: u64, worker_fence: u64) -> Fact {
        Fact::Begun {
            node: "n".into(),
            worker: "w".into(),
            actor: ActorKey::new("s", "a"),
            incarnation: Incarnation(1),
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
        let mut oracle = FenceOrder::default();
        assert_eq!(oracle.see(0, &begun(1, 5, 2)), Ok(()));
        assert_eq!(oracle.see(0, &begun(1, 5, 2)), Ok(()));
        assert!(
            oracle
                .see(0, &begun(2, 4, 2))
                .unwrap_err()
                .contains("fence 4 after 5")
        );
        assert!(
            oracle
                .see(0, &begun(3, 6, 1))
                .unwrap_err()
                .contains("fence 1 after 2")
        );
    }
}
