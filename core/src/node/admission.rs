//! Which orders a node lets in.

use crate::effect::{Fenced, NodeFailure, NodeFailureKind, Verb};
use crate::failure::Code;
use crate::id::{Fence, PodUid};
use crate::node::Node;
use crate::node::journal::Sandbox;
use crate::node::order::Order;
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

impl Node {
    /// Refuses what is stale, misdirected or in the way of something else.
    pub(super) fn admit(&self, now: Instant, order: &Order) -> Result<(), NodeFailure> {
        let known = self.fences.highest(&order.life());
        if order.fence > Fence(0) && order.fence < known {
            return Err(stale(Fenced::Actor, known, &order.actor));
        }
        let Some(slot) = self.slots.get(&order.worker) else {
            return match order.verb {
                // The order that it is to stop may come after it, and the worker too: that is remembered.
                Verb::Stop => Ok(()),
                Verb::Upload { .. } => self.admit_beside(order),
                _ => Err(no_worker(&order.worker)),
            };
        };
        let is_repetition = order.op.is_some()
            && (slot.entry.last.as_ref().map(|d| d.op) == order.op
                || slot.running.as_ref().map(|r| r.op) == order.op);
        if is_repetition {
            return Ok(());
        }
        if order.worker_fence > Fence(0) && order.worker_fence < slot.entry.highest {
            return Err(stale(Fenced::Worker, slot.entry.highest, &order.worker));
        }
        self.admit_beside(order)?;
        if matches!(order.verb, Verb::Run { .. } | Verb::Restore { .. } | Verb::Thaw) {
            self.licensed(now, order)?;
        }
        match &order.verb {
            Verb::Run { .. } | Verb::Restore { .. } => {
                if slot.is_awaited {
                    // It may be there, with the very sandbox that is asked for.
                    let message = format!("worker {} has not been heard of yet", order.worker);
                    return Err(failure(Code::Unavailable, message, NodeFailureKind::Busy));
                }
                if slot.described.is_none() {
                    return Err(no_worker(&order.worker));
                }
                // Whoever compares this worker's report with its row takes the promise to be over.
                let is_used_up = order.worker_fence == slot.entry.highest && slot.entry.hosted.is_none();
                // What is there by this very order has happened, whatever came later.
                let is_here = slot.entry.hosted.as_ref().is_some_and(|h| Some(h.op) == order.op);
                let is_void = order.worker_fence <= slot.entry.voided && !is_here;
                if order.worker_fence > Fence(0) && (is_used_up || is_void) {
                    return Err(stale(Fenced::Worker, slot.entry.past(), &order.worker));
                }
                if slot.is_silent {
                    let message = format!("worker {} does not answer", order.worker);
                    return Err(failure(Code::Unavailable, message, NodeFailureKind::Occupied));
                }
                match &slot.entry.hosted {
                    Some(hosted) if !hosted.is_of(order) && hosted.sandbox != Sandbox::Stopped => {
                        let message = format!("worker {} hosts actor {}", order.worker, hosted.actor);
                        Err(failure(
                            Code::FailedPrecondition,
                            message,
                            NodeFailureKind::Occupied,
                        ))
                    }
                    _ => Ok(()),
                }
            }
            Verb::Checkpoint { .. } | Verb::Thaw => {
                // An actor that has been captured is there until its files are stored.
                let is_here = slot
                    .entry
                    .hosted
                    .as_ref()
                    .is_some_and(|h| h.is_of(order) && h.sandbox != Sandbox::Stopped);
                if !is_here {
                    let message = format!("worker {} has no sandbox of actor {}", order.worker, order.actor);
                    return Err(failure(Code::DataLoss, message, NodeFailureKind::SandboxGone));
                }
                // A checkpoint is refused if the disk cannot note it, and that it was refused cannot be noted either.
                let is_noted = slot.entry.current.as_ref().map(|pending| pending.op) == order.op;
                let is_for_another_run = !order.run.is_empty() && order.run != self.row.incarnation;
                if order.verb != Verb::Thaw && is_for_another_run && !is_noted {
                    let message = format!(
                        "the order is for run {} of atelet, and this is run {}",
                        order.run, self.row.incarnation
                    );
                    return Err(failure(Code::Aborted, message, NodeFailureKind::Busy));
                }
                Ok(())
            }
            Verb::Upload { .. } | Verb::Stop => Ok(()),
        }
    }

    /// Refuses what is about an actor that something else is being done about, in another place.
    fn admit_beside(&self, order: &Order) -> Result<(), NodeFailure> {
        let is_elsewhere = self.slots.iter().any(|(uid, other)| {
            let running = other.running.as_ref();
            *uid != order.worker && running.is_some_and(|r| r.order.actor == order.actor)
        });
        if !is_elsewhere {
            return Ok(());
        }
        let message = format!(
            "another operation on actor {} is under way on this node",
            order.actor
        );
        Err(failure(Code::Aborted, message, NodeFailureKind::Busy))
    }
}

pub(super) fn failure(code: Code, message: impl Into<String>, kind: NodeFailureKind) -> NodeFailure {
    NodeFailure {
        code,
        message: message.into(),
        kind,
    }
}

fn no_worker(uid: &PodUid) -> NodeFailure {
    failure(
        Code::NotFound,
        format!("no worker {uid} on this node"),
        NodeFailureKind::SandboxGone,
    )
}

fn stale(of: Fenced, highest: Fence, what: &dyn core::fmt::Display) -> NodeFailure {
    let message = format!("a newer order for {what} is known: fence {highest}");
    failure(
        Code::FailedPrecondition,
        message,
        NodeFailureKind::StaleFence { of, highest },
    )
}
