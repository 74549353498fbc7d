//! What is true, as it happens: the only thing that invariants see.

use holdfast_core::actor::Actor;
use holdfast_core::failure::Failure;
use holdfast_core::id::{ActorKey, Fence, Name, NodeName, OpId, PodUid, RequestId};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// A sandbox began to serve; or it was held still before it could, which is told first.
    Up {
        /// In which worker.
        worker: PodUid,
        /// For which actor.
        actor: ActorKey,
        /// How many requests the actor has acknowledged, as far as the sandbox knows.
        count: u8,
    },
    /// A sandbox ended.
    Down {
        /// In which worker.
        worker: PodUid,
        /// Whose it was.
        actor: ActorKey,
        /// How.
        how: Ending,
    },
    /// A sandbox is held still.
    Frozen(PodUid, ActorKey),
    /// A sandbox that was held still goes on, with so many requests acknowledged.
    Thawed(PodUid, ActorKey, u8),
    /// A node's session was declared over. What is in its workers has to be frozen by then, and the actors
    /// that are there, by their records, are given up.
    DeclaredOver {
        /// The node.
        node: NodeName,
        /// Its workers.
        workers: Vec<PodUid>,
        /// Whose records are there.
        actors: Vec<ActorKey>,
    },
    /// An actor's directories in a worker were emptied.
    Cleared(PodUid, ActorKey),
    /// An actor came to harm without its sandbox being killed.
    Harmed(ActorKey),
    /// A request to the actor was acknowledged: its counter stands here now.
    Counted(ActorKey, u8),
    /// An actor's record was written.
    Recorded {
        /// What was stored before.
        before: Box<Actor>,
        /// What is stored now.
        after: Box<Actor>,
    },
    /// A snapshot was stored complete.
    Saved {
        /// Its URI prefix, or its name on a node.
        snapshot: Name,
        /// The node, for a local one.
        node: Option<NodeName>,
    },
    /// A snapshot was deleted.
    Discarded {
        /// Its URI prefix, or its name on a node.
        snapshot: Name,
        /// The actor whose record points at it, if one does.
        wanted_by: Option<ActorKey>,
    },
    /// A node began a step of an operation.
    Begun {
        /// The node.
        node: NodeName,
        /// The worker.
        worker: PodUid,
        /// The actor.
        actor: ActorKey,
        /// The operation.
        op: OpId,
        /// The actor's fence.
        fence: Fence,
        /// The worker's fence.
        worker_fence: Fence,
    },
    /// A caller asked.
    Asked(RequestId, ActorKey, Asked),
    /// A caller was told.
    Told(RequestId, Result<(), Failure>),
    /// The replica that was asked is no more: nobody will tell the caller.
    Unheard(RequestId),
}

/// What a caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// That the actor serves.
    Wake,
    /// That it sleeps.
    Sleep,
    /// That it is back at its last good snapshot.
    Revert,
    /// That it is no more.
    Delete,
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It was checkpointed.
    Captured,
    /// It was stopped by order.
    Stopped,
    /// The outside killed it.
    Killed,
}
