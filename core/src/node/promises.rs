//! What the node promises by an answer, and that it is on disk before the answer is given.
//!
//! Whoever is answered may rest on it that nobody whom it has overtaken is let in any more. So an answer waits
//! until the disk has the fences that its order has shown, whether the order began something, joined what was
//! under way, or is answered from memory. Otherwise an atelet that died right after it would let in the one
//! that was overtaken (I1). An answer that nothing was done, or that it is to be asked again, promises nothing.

use super::admission::failure;
use super::fences::Life;
use super::{Node, Order, Output, Slot};
use crate::effect::{Fenced, NodeFailure, NodeFailureKind, NodeReply};
use crate::failure::Code;
use crate::id::{EffectId, Fence, PodUid, RequestId};
use crate::node::journal::{Entry, Forgotten, Kept};
use crate::node::order::is_place_of_uploads;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The fences that an order has shown, of one life of an actor and of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    life: Life,
    actor: Fence,
    worker: Fence,
    /// The promise that is void by the answer.
    voided: Fence,
}

impl Shown {
    pub(super) fn by(order: &Order) -> Shown {
        Shown {
            life: order.life(),
            actor: order.fence,
            worker: order.worker_fence,
            voided: Fence(0),
        }
    }

    /// What is promised to whoever has an actor stopped: that no order under its promise brings it back.
    pub(super) fn voiding(order: &Order) -> Shown {
        Shown {
            voided: order.worker_fence,
            ..Shown::by(order)
        }
    }

    /// What a refusal rests on: not on what the order has shown, but on these fences of the worker.
    fn refused(order: &Order, worker: Fence, voided: Fence) -> Shown {
        Shown {
            life: order.life(),
            actor: Fence(0),
            worker,
            voided,
        }
    }
}

/// What the disk has been given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Keep {
    worker: PodUid,
    highest: Fence,
    voided: Fence,
    fence: Option<(Life, Fence)>,
}

/// An answer that waits for the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owed {
    caller: RequestId,
    worker: PodUid,
    shown: Shown,
    reply: NodeReply,
}

impl Node {
    /// Takes note of the fences of an order that is let in.
    pub(super) fn raise_fences(&mut self, order: &Order) {
        if order.fence > Fence(0) {
            self.fences.raise(order.life(), order.fence);
        }
        let absent = Some(self.next);
        let slot = self.slots.entry(order.worker.clone()).or_insert_with(|| Slot {
            absent,
            ..Slot::default()
        });
        slot.entry.highest = slot.entry.highest.max(order.worker_fence);
        if slot.absent == absent {
            self.forget_the_absent();
        }
        let most = self.settings.node.fences_max as usize;
        if self.fences.are_more_than(most) {
            let mut in_use = self.lives_in_use();
            in_use.insert(order.life());
            self.fences.forget(most, &in_use);
        }
    }

    /// Refuses an order. Whoever is told that its promise is over, or that the worker has somebody else, runs the actor
    /// elsewhere: this order is not let in when it comes once more, and by no later atelet.
    pub(super) fn turn_away(&mut self, caller: Option<RequestId>, order: &Order, refusal: NodeFailure) {
        let promise = order.worker_fence;
        let Some(slot) = self.slots.get_mut(&order.worker) else {
            return self.reply(caller, Err(refusal));
        };
        let shown = match refusal.kind {
            NodeFailureKind::Occupied => {
                slot.entry.void(promise);
                Shown::refused(order, Fence(0), promise)
            }
            NodeFailureKind::StaleFence {
                of: Fenced::Worker, ..
            } if slot.entry.highest >= promise => Shown::refused(order, slot.entry.highest, Fence(0)),
            NodeFailureKind::StaleFence {
                of: Fenced::Worker, ..
            } => Shown::refused(order, Fence(0), promise),
            _ => return self.reply(caller, Err(refusal)),
        };
        self.recall(caller, order, shown, Err(refusal));
    }

    /// An operation that a later owner has joined goes on under his fences, as far as the disk has them: a step under
    /// one that a restart forgets could be followed by one under a lower fence.
    pub(super) fn pass_to_last_owner(&mut self, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let Some(running) = &mut slot.running else { return };
        let (life, kept) = (running.order.life(), slot.kept);
        for shown in running.callers.values().filter(|shown| shown.life == life) {
            let is_kept = self.fences.is_kept(&life, shown.actor) && shown.worker <= kept;
            let is_later = shown.actor > running.order.fence || shown.worker > running.order.worker_fence;
            if is_kept && is_later {
                running.order = Arc::new(Order {
                    fence: running.order.fence.max(shown.actor),
                    worker_fence: running.order.worker_fence.max(shown.worker),
                    ..(*running.order).clone()
                });
            }
        }
    }

    /// Lives that something here is about.
    fn lives_in_use(&self) -> BTreeSet<Life> {
        let of_slot = |slot: &Slot| {
            let hosted = slot
                .entry
                .hosted
                .as_ref()
                .map(|h| (h.actor.clone(), h.incarnation));
            let current = slot.entry.current.as_ref();
            let running = slot.running.as_ref();
            let joined = running
                .iter()
                .flat_map(|r| r.callers.values().map(|shown| shown.life.clone()));
            let joined: Vec<Life> = joined.collect();
            let current = current.map(|p| (p.actor.clone(), p.incarnation));
            let running = running.map(|r| r.order.life());
            hosted.into_iter().chain(current).chain(running).chain(joined)
        };
        let owed = self.owed.iter().map(|owed| owed.shown.life.clone());
        self.slots.values().flat_map(of_slot).chain(owed).collect()
    }

    /// Answers without having done anything for it: what the order asks for has happened already, or need not.
    pub(super) fn recall(
        &mut self,
        caller: Option<RequestId>,
        order: &Order,
        shown: Shown,
        reply: NodeReply,
    ) {
        if let Some(caller) = caller {
            self.answer(caller, &order.worker, shown, reply);
        }
    }

    /// Answers one who has shown these fences with an order to a worker, as soon as that may be.
    pub(super) fn answer(&mut self, caller: RequestId, worker: &PodUid, shown: Shown, reply: NodeReply) {
        let owed = Owed {
            caller,
            worker: worker.clone(),
            shown,
            reply,
        };
        if !owed.promises() || self.is_kept(&owed) {
            return self.reply(Some(owed.caller), owed.reply);
        }
        if !self.is_on_its_way(&owed) {
            self.keep_with(&owed.worker, Some(owed.shown.life.clone()));
        }
        self.owed.push(owed);
    }

    /// Has the disk take what is known of a worker, and the fence of this life of an actor.
    pub(super) fn keep_with(&mut self, uid: &PodUid, life: Option<Life>) -> Option<EffectId> {
        // Of an upload nothing is kept but the fence of its actor, beside what is known of no worker in particular.
        let nobody = PodUid::default();
        let worker = if is_place_of_uploads(uid) { &nobody } else { uid };
        let entry = match self.slots.get(worker) {
            Some(slot) => slot.entry.clone(),
            None if worker == &nobody => Entry::default(),
            None => return None,
        };
        let fence = life.and_then(|life| {
            let fence = self.fences.of(&life)?;
            Some((life, fence))
        });
        let keep = Keep {
            worker: uid.clone(),
            highest: entry.highest,
            voided: entry.voided,
            fence: fence.clone(),
        };
        let kept = Kept {
            worker: worker.clone(),
            entry,
            fence: fence.map(|((actor, incarnation), fence)| (actor, incarnation, fence)),
            forgotten: Forgotten {
                lives: self.fences.take_forgotten(),
                floor: self.fences.floor(),
                workers: core::mem::take(&mut self.forgotten),
            },
        };
        let effect = self.effect();
        self.keeps.insert(effect, keep);
        self.outputs.push_back(Output::Keep(effect, Box::new(kept)));
        Some(effect)
    }

    /// The disk has taken something, or cannot. Returns the worker that it was about.
    pub(super) fn on_disk(&mut self, effect: EffectId, result: &Result<(), String>) -> Option<PodUid> {
        let keep = self.keeps.remove(&effect)?;
        if result.is_ok() {
            if let Some(slot) = self.slots.get_mut(&keep.worker) {
                slot.kept = slot.kept.max(keep.highest);
                slot.kept_void = slot.kept_void.max(keep.voided);
            }
            if let Some((life, fence)) = keep.fence {
                self.fences.on_disk(&life, fence);
            }
        }
        Some(keep.worker)
    }

    /// Gives the answers that the disk now allows. What it did not take, nobody is told.
    pub(super) fn pay(&mut self, result: &Result<(), String>) {
        for owed in core::mem::take(&mut self.owed) {
            if self.is_kept(&owed) {
                self.reply(Some(owed.caller), owed.reply);
            } else if let (Err(why), false) = (result, self.is_on_its_way(&owed)) {
                self.reply(Some(owed.caller), Err(unkept(why, NodeFailureKind::Busy)));
            } else {
                self.owed.push(owed);
            }
        }
    }

    /// A caller has gone, whatever it is owed.
    pub(super) fn forgive(&mut self, caller: RequestId) {
        self.owed.retain(|owed| owed.caller != caller);
    }

    /// Workers that an answer or the disk is about.
    pub(super) fn awaited_workers(&self) -> BTreeSet<PodUid> {
        let owed = self.owed.iter().map(|owed| owed.worker.clone());
        owed.chain(self.keeps.values().map(|keep| keep.worker.clone()))
            .collect()
    }

    fn is_kept(&self, owed: &Owed) -> bool {
        let slot = self.slots.get(&owed.worker);
        let (worker, voided) = slot.map(|slot| (slot.kept, slot.kept_void)).unwrap_or_default();
        self.fences.is_kept(&owed.shown.life, owed.shown.actor)
            && worker >= owed.shown.worker
            && (voided >= owed.shown.voided || worker > owed.shown.voided)
    }

    /// Whether the disk has been given what this answer waits for.
    fn is_on_its_way(&self, owed: &Owed) -> bool {
        let has = |keep: &&Keep| {
            let fence = keep.fence.as_ref().filter(|(life, _)| *life == owed.shown.life);
            let of_actor = fence.map_or(Fence(0), |(_, fence)| *fence);
            keep.worker == owed.worker
                && keep.highest >= owed.shown.worker
                && (keep.voided >= owed.shown.voided || keep.highest > owed.shown.voided)
                && of_actor >= owed.shown.actor
        };
        self.keeps.values().any(|keep| has(&keep))
    }
}

impl Owed {
    /// Whether whoever gets this answer rests on it.
    fn promises(&self) -> bool {
        match &self.reply {
            Ok(()) => true,
            Err(failure) => matches!(
                failure.kind,
                NodeFailureKind::Crash
                    | NodeFailureKind::SandboxGone
                    | NodeFailureKind::Occupied
                    | NodeFailureKind::StaleFence {
                        of: Fenced::Worker,
                        ..
                    }
            ),
        }
    }
}

/// The disk does not take what has to be on it.
pub(super) fn unkept(why: &str, kind: NodeFailureKind) -> NodeFailure {
    let message = format!("the node cannot keep its journal: {why}");
    failure(Code::Unavailable, message, kind)
}
