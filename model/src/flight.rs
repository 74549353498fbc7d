//! What is on its way: a multiset, so that anything may overtake anything, except where one connection
//! keeps things in order.

use crate::part::Part;
use holdfast_core::effect::{Discard, NodeCall, NodeReply, StoreOp, StoreReply};
use holdfast_core::id::EffectId;
use holdfast_core::node::{Kept, Order, Work};
use holdfast_core::registry::Report;
use std::sync::Arc;

/// Something on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// An operation on its way to the store.
    ToStore {
        /// Who waits for the answer; nobody if the sender is dead or has been told something else.
        from: Option<usize>,
        /// The sender's effect.
        effect: EffectId,
        /// The operation.
        op: StoreOp,
    },
    /// The store's answer on its way.
    FromStore {
        /// To whom.
        to: usize,
        /// Its effect.
        effect: EffectId,
        /// The answer.
        reply: StoreReply,
    },
    /// A call on its way to a node.
    ToNode {
        /// Who waits for the answer.
        from: Option<usize>,
        /// The sender's effect.
        effect: EffectId,
        /// Which node.
        node: usize,
        /// The call.
        call: Box<NodeCall>,
    },
    /// A node's answer on its way.
    FromNode {
        /// To whom.
        to: usize,
        /// Its effect.
        effect: EffectId,
        /// The answer.
        reply: NodeReply,
    },
    /// A step that takes its time, on one node.
    Step {
        /// Which node.
        node: usize,
        /// Which run of its atelet asked for it.
        run: u32,
        /// The atelet's effect.
        effect: EffectId,
        /// What is to be done.
        work: Work,
        /// For which order.
        order: Arc<Order>,
    },
    /// A replica has a node delete snapshots.
    Discard {
        /// Who waits for the answer.
        from: Option<usize>,
        /// The sender's effect.
        effect: EffectId,
        /// Which node.
        node: usize,
        /// What is to be deleted.
        discard: Discard,
    },
    /// A node's journal is given something to keep.
    Keep {
        /// Which node.
        node: usize,
        /// Which run of its atelet.
        run: u32,
        /// The atelet's effect.
        effect: EffectId,
        /// Whether it takes its time. What does not is kept, or refused, before anything else happens.
        is_held: bool,
        /// What is to be kept.
        kept: Box<Kept>,
    },
    /// A node's report.
    Report {
        /// Which node.
        node: usize,
        /// Which run of its atelet reports.
        run: u32,
        /// Whether it is waiting for the answer.
        is_awaited: bool,
        /// Whether it has been held up. One that has not arrives before anything else happens.
        is_held: bool,
        /// The report.
        report: Report,
    },
}

/// Everything that is on its way, in the order of the parts' numbers, so that one multiset is one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flight(Vec<Part<Message>>);

impl Flight {
    /// Adds a message.
    pub fn add(&mut self, message: Part<Message>) {
        let at = self.0.partition_point(|m| m.number() <= message.number());
        self.0.insert(at, message);
    }

    /// Takes the message at a place.
    pub fn take(&mut self, at: usize) -> Part<Message> {
        self.0.remove(at)
    }

    /// Keeps the messages of which this is true.
    pub fn retain(&mut self, keep: impl FnMut(&Part<Message>) -> bool) {
        self.0.retain(keep);
    }

    /// The messages.
    pub fn messages(&self) -> &[Part<Message>] {
        &self.0
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a message may arrive now: what one run of an atelet asks of one worker, or of its journal,
    /// arrives in order, and of two equal messages it does not matter which.
    pub fn may_arrive(&self, at: usize) -> bool {
        if at > 0 && self.0[at - 1] == self.0[at] {
            return false;
        }
        if let Some((node, run, effect)) = self.0[at].as_keep() {
            let mut others = self.0.iter().filter_map(|m| m.as_keep());
            return !others.any(|earlier| (earlier.0, earlier.1) == (node, run) && earlier.2 < effect);
        }
        let Some((node, run, effect, order)) = self.0[at].as_step() else {
            return true;
        };
        !self.0.iter().filter_map(|m| m.as_step()).any(|earlier| {
            (earlier.0, earlier.1) == (node, run) && earlier.3.worker == order.worker && earlier.2 < effect
        })
    }
}

impl Message {
    /// Whether it is a step that ateom performs, and not the atelet itself.
    pub fn is_of_ateom(&self) -> bool {
        matches!(
            self,
            Message::Step {
                work: Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop,
                ..
            }
        )
    }

    fn as_keep(&self) -> Option<(usize, u32, EffectId)> {
        match self {
            Message::Keep {
                node, run, effect, ..
            } => Some((*node, *run, *effect)),
            _ => None,
        }
    }

    fn as_step(&self) -> Option<(usize, u32, EffectId, &Order)> {
        match self {
            Message::Step {
                node,
                run,
                effect,
                order,
                ..
            } => Some((*node, *run, *effect, order)),
            _ => None,
        }
    }
}
