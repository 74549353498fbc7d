//! What is true in the simulated world, as it happens: the only thing that oracles see.

use crate::store::Forgotten;
use holdfast_core::actor::Actor;
use holdfast_core::failure::Failure;
use holdfast_core::id::{
    ActorKey, Fence, Incarnation, LeaseToken, Name, NodeName, OpId, PodUid, ReplicaId, RequestId,
};
use holdfast_core::pull::Attempt;
use holdfast_core::table::Moved;
use holdfast_core::worker::Worker;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A sandbox began to serve.
    Up {
        /// In which worker.
        worker: PodUid,
        /// For which actor.
        actor: ActorKey,
        /// What its counter stands at.
        count: u64,
        /// Whether the actor's record names the operation that brought it. It need not: an order may be
        /// older than what a store has forgotten, or than a write of a successor that is yet to come here.
        is_recorded: bool,
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
    Frozen {
        /// In which worker.
        worker: PodUid,
        /// Whose it is.
        actor: ActorKey,
    },
    /// It goes on.
    Thawed {
        /// In which worker.
        worker: PodUid,
        /// Whose it is.
        actor: ActorKey,
    },
    /// A step for an actor was begun in a worker where a sandbox was alive, which it would destroy.
    Trampled(ActorKey, PodUid, &'static str),
    /// An actor came to harm without its sandbox being killed: its checkpoint failed, or the ateom that
    /// took it died, so that whoever has not heard of it will not hear of it any more.
    Harmed(ActorKey),
    /// The store has noted that a node with a session has reported.
    Heard(NodeName),
    /// A node's session was declared over.
    Lapsed {
        /// The node.
        node: NodeName,
        /// The number of that session.
        session: u64,
        /// Whether the node believed in it then.
        is_believed: bool,
    },
    /// A request to the actor has counted: its counter stands here now.
    Counted(ActorKey, u64),
    /// A request was sent to an actor.
    Sent(u64, ActorKey),
    /// Whoever sent it was told where the counter stands.
    Answered(u64, u64),
    /// It has not reached the actor, and whoever sent it was told so.
    Refused(u64),
    /// A step for the actor failed, or nobody answered that it was done.
    Failed(ActorKey),
    /// A workflow of a replica was granted its lease, and goes by it.
    Believes {
        /// The actor.
        actor: ActorKey,
        /// The replica.
        replica: usize,
        /// The acquisition.
        token: LeaseToken,
    },
    /// It could not renew it, and takes it for lost by its own clock: it doubts it from now on.
    Expired {
        /// The actor.
        actor: ActorKey,
        /// The replica.
        replica: usize,
    },
    /// It has given it back, or takes it for lost.
    Doubts {
        /// The actor.
        actor: ActorKey,
        /// The replica.
        replica: usize,
    },
    /// A lease is to be renewed.
    Renews(LeaseToken),
    /// The store has given the lease of an actor to this acquisition, which did not have it before.
    Granted {
        /// The actor.
        actor: ActorKey,
        /// The replica that asked for it.
        replica: usize,
        /// The acquisition.
        token: LeaseToken,
        /// The acquisition that it was taken from, if one had it and it had not run out.
        from: Option<LeaseToken>,
        /// Whether it was asked for as that one's.
        is_named: bool,
        /// Whether the process that asked for it has ended meanwhile.
        is_orphan: bool,
    },
    /// The store has said that the session of this replica is over.
    SessionOver(ReplicaId),
    /// The store has told somebody that the lease of this actor is held by another acquisition.
    TurnedAway {
        /// The actor.
        actor: ActorKey,
        /// That acquisition.
        token: LeaseToken,
    },
    /// The store has said of this lease that it is not, or no longer, its holder's.
    Disowned(LeaseToken),
    /// A workflow takes this lease for lost, because the store has said so.
    GivenUp(LeaseToken),
    /// A replica can serve.
    ReplicaReady(usize),
    /// A replica's process has ended.
    ReplicaDied(usize),
    /// A replica's process is not scheduled until then.
    Slept {
        /// The replica.
        replica: usize,
        /// Until when.
        until: u64,
    },
    /// An atelet is not scheduled until then.
    NodeSlept {
        /// The node.
        node: usize,
        /// Until when.
        until: u64,
    },
    /// An atelet's process has ended.
    NodeDied(usize),
    /// An attempt at pulling an image.
    Pulled {
        /// On which node.
        node: usize,
        /// Which.
        attempt: Attempt,
        /// What became of it.
        pulling: Pulling,
    },
    /// A process was given one input, and did this many things.
    Did {
        /// Which kind of process.
        who: &'static str,
        /// How many.
        outputs: usize,
    },
    /// The store, or the way to it, is not as it should be until then: by then whoever has asked in vain has
    /// been told so, and what comes late has come.
    Wrong {
        /// Until when.
        until: u64,
    },
    /// An actor's record was written, or deleted.
    Recorded {
        /// What was stored before.
        before: Option<Box<Actor>>,
        /// What is stored now.
        after: Option<Box<Actor>>,
    },
    /// A worker's record was written, or deleted.
    WorkerRecorded {
        /// What was stored before.
        before: Option<Box<Worker>>,
        /// What is stored now.
        after: Option<Box<Worker>>,
    },
    /// The store does not know any more what it had acknowledged.
    Forgot(Box<Forgotten>),
    /// A machine has told that a record which it does not store has come into another state.
    Moved(Moved),
    /// A snapshot was stored complete.
    Saved {
        /// Its URI prefix, or its name on a node.
        snapshot: Name,
        /// The node, for a local one.
        node: Option<NodeName>,
        /// What its counter stands at.
        count: u64,
    },
    /// A snapshot was deleted.
    Discarded {
        /// Its URI prefix, or its name on a node.
        snapshot: Name,
        /// The node, for a local one.
        node: Option<NodeName>,
    },
    /// The outside damaged a snapshot.
    Damaged {
        /// Its URI prefix, or its name on a node.
        snapshot: Name,
        /// The node, for a local one.
        node: Option<NodeName>,
    },
    /// A node began a step that concerns a sandbox.
    Begun {
        /// The node.
        node: NodeName,
        /// The worker.
        worker: PodUid,
        /// The actor.
        actor: ActorKey,
        /// Which life of it.
        incarnation: Incarnation,
        /// The operation.
        op: OpId,
        /// The actor's fence.
        fence: Fence,
        /// The worker's fence.
        worker_fence: Fence,
    },
    /// A node answered an order, and not because it was stale.
    Heeded {
        /// The node.
        node: NodeName,
        /// The worker.
        worker: PodUid,
        /// The actor.
        actor: ActorKey,
        /// Which life of it.
        incarnation: Incarnation,
        /// The actor's fence.
        fence: Fence,
        /// The worker's fence.
        worker_fence: Fence,
    },
    /// A caller asked a replica.
    Asked(RequestId, ActorKey, Asked),
    /// This is the replica that it asked.
    Addressed(RequestId, usize),
    /// A caller was told.
    Told(RequestId, Result<(), Failure>),
    /// The replica died before it told the caller, or the caller left.
    Unheard(RequestId),
    /// Faults have been over for as long as it may take to recover: this is how things stand.
    Calm(Box<Still>),
    /// After that, an actor could not be brought to serve, or to sleep.
    Unserved(ActorKey, String),
}

/// What a caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// Resume.
    Resume,
    /// Suspend.
    Suspend,
    /// Pause.
    Pause,
    /// Delete.
    Delete,
    /// Revert.
    Revert,
    /// Create.
    Create,
    /// UpdateActor.
    Update,
}

/// How an attempt at pulling an image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulling {
    /// It has begun, or some of the image has come.
    Moves,
    /// It has ended, well or not.
    Over,
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was checkpointed.
    Captured,
    /// It was stopped by order.
    Stopped,
    /// The outside killed it.
    Killed,
}

/// The world at a moment of calm.
#[derive(Clone, Debug, Default)]
pub struct Still {
    /// The records of actors.
    pub actors: BTreeMap<ActorKey, Actor>,
    /// The records of workers.
    pub workers: Vec<Worker>,
    /// The sandboxes that are alive: in which worker, and whose.
    pub sandboxes: BTreeMap<PodUid, ActorKey>,
    /// The workers that are there.
    pub present: Vec<PodUid>,
    /// Snapshots in the object store that no record and no note knows of.
    pub forgotten: Vec<Name>,
}
