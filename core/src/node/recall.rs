//! Answers from memory: what an order asks for has happened already, or need not happen.
//!
//! If the order shows a fence that the disk does not have yet, that is kept before the answer is given. Otherwise
//! an atelet that died right after it would let in whom the one that was answered has overtaken (I1).

use super::admission::failure;
use super::{Node, Order};
use crate::effect::{NodeFailureKind, NodeReply};
use crate::failure::Code;
use crate::id::{EffectId, Fence, PodUid, RequestId};
use alloc::format;
use alloc::string::String;

/// An answer that waits for the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owed {
    worker: PodUid,
    caller: RequestId,
    reply: NodeReply,
}

impl Node {
    /// Takes note of the fences of an order that is let in.
    pub(super) fn raise_fences(&mut self, order: &Order) {
        if order.fence > Fence(0) {
            let life = (order.actor.clone(), order.incarnation);
            if self.fences.insert(life.clone(), order.fence) != Some(order.fence) {
                self.unkept.insert(life);
            }
        }
        let slot = self.slots.entry(order.worker.clone()).or_default();
        if slot.entry.highest < order.worker_fence {
            slot.entry.highest = order.worker_fence;
            slot.is_unkept = true;
        }
    }

    /// Answers without having done anything for it.
    pub(super) fn recall(&mut self, caller: Option<RequestId>, order: &Order, reply: NodeReply) {
        let Some(caller) = caller else { return };
        let worker = order.worker.clone();
        let life = (order.actor.clone(), order.incarnation);
        let is_unkept = self.unkept.contains(&life) || self.slots.get(&worker).is_some_and(|s| s.is_unkept);
        // Whoever asks again while the disk is at work does not get ahead of it.
        if !is_unkept && !self.owed.values().any(|owed| owed.worker == worker) {
            return self.reply(Some(caller), reply);
        }
        if let Some(effect) = self.keep_with(&worker, Some(life)) {
            let owed = Owed {
                worker,
                caller,
                reply,
            };
            self.owed.insert(effect, owed);
        }
    }

    /// The disk has the fences of an order that is answered from memory, or cannot take them. Returns whether it
    /// was about such an order.
    pub(super) fn pay(&mut self, effect: EffectId, result: &Result<(), String>) -> bool {
        let Some(owed) = self.owed.remove(&effect) else {
            return false;
        };
        self.effects.remove(&effect);
        let reply = match result {
            Ok(()) => owed.reply,
            Err(why) => {
                // Whoever asks again has to wait for it again.
                if let Some(slot) = self.slots.get_mut(&owed.worker) {
                    slot.is_unkept = true;
                }
                let message = format!("the node cannot keep its journal: {why}");
                Err(failure(Code::Unavailable, message, NodeFailureKind::Busy))
            }
        };
        self.reply(Some(owed.caller), reply);
        true
    }

    /// A caller has gone, whatever it is owed.
    pub(super) fn forgive(&mut self, caller: RequestId) {
        self.owed.retain(|_, owed| owed.caller != caller);
    }
}
