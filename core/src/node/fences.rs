//! The highest fence of each actor that this node has seen, and how much of that is on disk.
//!
//! A node remembers so many of them, each for itself. When there are more, those with the lowest fences are
//! forgotten, and the highest of these counts for every actor that is not remembered: nobody stale is let in, and
//! an owner whose fence is too low for that is told so and claims above it, once.

use crate::id::{ActorKey, Fence, Incarnation};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// One life of an actor.
pub(super) type Life = (ActorKey, Incarnation);

/// The fences of all actors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Fences {
    each: BTreeMap<Life, Mark>,
    /// Every actor that is not among them has been seen with no higher fence than this.
    floor: Mark,
    /// Lives that the disk is still to forget.
    forgotten: Vec<Life>,
}

/// A fence that only goes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Mark {
    /// The highest that was seen.
    seen: Fence,
    /// The highest that the disk has.
    kept: Fence,
}

impl Mark {
    fn kept(fence: Fence) -> Mark {
        Mark {
            seen: fence,
            kept: fence,
        }
    }
}

impl Fences {
    /// As they are on disk.
    pub(super) fn kept(each: BTreeMap<Life, Fence>, floor: Fence) -> Fences {
        let each = each.into_iter().map(|(life, fence)| (life, Mark::kept(fence)));
        Fences {
            each: each.collect(),
            floor: Mark::kept(floor),
            forgotten: Vec::new(),
        }
    }

    /// What an order for this actor must show at least.
    pub(super) fn highest(&self, life: &Life) -> Fence {
        self.each.get(life).unwrap_or(&self.floor).seen
    }

    /// The fence that is remembered of this actor itself.
    pub(super) fn of(&self, life: &Life) -> Option<Fence> {
        self.each.get(life).map(|mark| mark.seen)
    }

    /// The highest of all that are forgotten.
    pub(super) fn floor(&self) -> Fence {
        self.floor.seen
    }

    /// Whether the disk knows that this actor has been seen with this fence.
    pub(super) fn is_kept(&self, life: &Life, fence: Fence) -> bool {
        self.each.get(life).unwrap_or(&self.floor).kept >= fence
    }

    /// An order has shown this one.
    pub(super) fn raise(&mut self, life: Life, fence: Fence) {
        let mark = self.each.entry(life).or_default();
        mark.seen = mark.seen.max(fence);
    }

    /// The disk has this one.
    pub(super) fn on_disk(&mut self, life: &Life, fence: Fence) {
        if let Some(mark) = self.each.get_mut(life) {
            mark.kept = mark.kept.max(fence);
        }
    }

    /// Whether there are more than so many.
    pub(super) fn are_more_than(&self, most: usize) -> bool {
        self.each.len() > most
    }

    /// Forgets those with the lowest fences, until a quarter of the room is free; none that is in use.
    pub(super) fn forget(&mut self, most: usize, in_use: &BTreeSet<Life>) {
        let free = self.each.iter().filter(|(life, _)| !in_use.contains(*life));
        let mut lowest: Vec<(Fence, Life)> = free.map(|(life, mark)| (mark.seen, life.clone())).collect();
        lowest.sort_unstable();
        lowest.truncate(self.each.len().saturating_sub(most - most / 4));
        for (fence, life) in lowest {
            self.each.remove(&life);
            self.floor.seen = self.floor.seen.max(fence);
            self.forgotten.push(life);
        }
    }

    /// What the disk is to forget.
    pub(super) fn take_forgotten(&mut self) -> Vec<Life> {
        core::mem::take(&mut self.forgotten)
    }
}
