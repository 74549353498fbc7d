//! What a node keeps on disk, and what it means.

use crate::effect::{NodeReply, Verb};
use crate::id::{ActorKey, Fence, Incarnation, Name, OpId, PodUid};
use crate::node::order::Order;
use crate::worker;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What the node keeps on disk about one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The highest fence seen of the worker.
    pub highest: Fence,
    /// No boot is let in under a promise up to this one, whoever is hosted.
    pub voided: Fence,
    /// The actor it hosts.
    pub hosted: Option<Hosted>,
    /// The operation under way, without its workload (which may hold secrets).
    pub current: Option<Pending>,
    /// How the last operation ended, if it succeeded or crashed the actor.
    pub last: Option<Done>,
}

/// An actor on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosted {
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The template's namespace and name, which name its directory.
    pub template: (Name, Name),
    /// The operation that brought it.
    pub op: OpId,
    /// The session of this node under which it may run; zero if it came without one.
    pub session: u64,
    /// What is known of its sandbox.
    pub sandbox: Sandbox,
}

/// What is known of an actor's sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sandbox {
    /// Something is being done to it.
    Busy,
    /// It serves.
    Running,
    /// It is held still, with nothing lost: its node's session lapsed.
    Frozen,
    /// It does not run, and the worker is kept for the actor until the control plane decides.
    Stopped,
}

/// An operation under way, as kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// The operation.
    pub op: OpId,
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The template's namespace and name.
    pub template: (Name, Name),
    /// What is wanted.
    pub verb: Verb,
    /// The files of the checkpoint, once it is taken: from then on the sandbox is gone and these
    /// files are the actor.
    pub captured: Option<Vec<Name>>,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Done {
    /// The operation.
    pub op: OpId,
    /// Its result.
    pub result: NodeReply,
}

/// What is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The worker.
    pub worker: PodUid,
    /// What is known of it.
    pub entry: Entry,
    /// The actor of the last order, and the highest fence seen of it.
    pub fence: Option<(ActorKey, Incarnation, Fence)>,
    /// What need not be on disk any more.
    pub forgotten: Forgotten,
}

/// What a node does not remember any more, each for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Forgotten {
    /// Lives of actors whose fences are dropped.
    pub lives: Vec<(ActorKey, Incarnation)>,
    /// The highest of all fences of actors that were ever dropped.
    pub floor: Fence,
    /// Workers that are gone for long.
    pub workers: Vec<PodUid>,
}

/// All that is on a node's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// What is known of each worker.
    pub entries: BTreeMap<PodUid, Entry>,
    /// The highest fence seen of each life of an actor.
    pub fences: BTreeMap<(ActorKey, Incarnation), Fence>,
    /// The highest fence of all lives that are not among them any more.
    pub floor: Fence,
}

impl Memory {
    /// The disk takes this, all of it at once.
    pub fn take(&mut self, kept: &Kept) {
        for life in &kept.forgotten.lives {
            self.fences.remove(life);
        }
        for worker in &kept.forgotten.workers {
            self.entries.remove(worker);
        }
        self.floor = self.floor.max(kept.forgotten.floor);
        self.entries.insert(kept.worker.clone(), kept.entry.clone());
        if let Some((actor, incarnation, fence)) = &kept.fence {
            self.fences.insert((actor.clone(), *incarnation), *fence);
        }
    }
}

impl Entry {
    /// Nothing is hosted any more, and the promise under which it was is used up. What was found here
    /// and is not known was under no promise.
    pub(super) fn vacate(&mut self) {
        let promise = match self.hosted.take() {
            Some(hosted) if hosted.incarnation != Incarnation(0) => self.highest,
            _ => self.voided,
        };
        self.void(promise);
    }

    /// This promise of the worker is over: an order under it that is still on its way must not bring
    /// the actor back behind everybody's back. Whoever is hosted under an earlier one stays in the hands of its owner.
    pub(super) fn void(&mut self, promise: Fence) {
        self.voided = self.voided.max(promise);
        if self.hosted.is_none() {
            self.highest = self.past();
        }
    }

    /// No boot is let in under a promise below this fence.
    pub(super) fn past(&self) -> Fence {
        match self.voided {
            Fence(0) => self.highest,
            voided => self.highest.max(voided.next()),
        }
    }

    /// The worker is gone, and its row goes with it: should the same pod come back, no promise is valid that was
    /// made before, whether or not its order has come here.
    pub(super) fn outlive(&mut self) {
        self.highest = worker::above_every_promise(self.highest);
    }
}

impl Pending {
    /// Whether an order that does not name its operation means this checkpoint: it was taken once, and cannot
    /// be taken again.
    pub(super) fn is_meant_by(&self, order: &Order) -> bool {
        let are_checkpoints = [&self.verb, &order.verb].map(|verb| matches!(verb, Verb::Checkpoint { .. }));
        order.op.is_none() && are_checkpoints == [true; 2] && self.actor == order.actor
    }
}

impl Hosted {
    /// Whether this is the actor that an order is about. What a control plane that knows no atespaces
    /// or incarnations leaves out is not compared.
    pub(super) fn is_of(&self, order: &Order) -> bool {
        let is_known_life = order.incarnation != Incarnation(0) && self.incarnation != Incarnation(0);
        self.actor.name == order.actor.name
            && (self.actor.atespace.is_empty() || self.actor.atespace == order.actor.atespace)
            && (!is_known_life || self.incarnation == order.incarnation)
    }
}
