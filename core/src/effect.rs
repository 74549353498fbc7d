//! What a replica asks of the outside, and what it hears back: plain data, in both directions.

use crate::actor::{Actor, Snapshot};
use crate::catalog::{SandboxAssets, Scope, Template};
use crate::failure::Code;
use crate::id::{
    ActorKey, Edition, Fence, Incarnation, LeaseToken, Name, NodeName, OpId, PodUid, ReplicaId, Version,
    WorkerKey,
};
use crate::time::Duration;
use crate::worker::{self, Worker};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One operation on the store. Every write is conditional, and each is one atomic step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreOp {
    /// Reads an actor. Answer: [`StoreReply::Actor`].
    GetActor(ActorKey),
    /// Writes an actor if the stored edition is the expected one. Answer: [`StoreReply::Done`] or
    /// [`StoreReply::ActorConflict`].
    PutActor {
        /// What must be stored now: nothing, or this.
        expect: Option<Edition>,
        /// What is written; it carries its new, higher version.
        actor: Box<Actor>,
        /// A lease that ends with this write, if it is still the holder's.
        release: Option<LeaseToken>,
    },
    /// Deletes an actor if the stored edition is the expected one, and ends the lease. Answer:
    /// [`StoreReply::Done`] or [`StoreReply::ActorConflict`].
    DeleteActor {
        /// The actor.
        key: ActorKey,
        /// What must be stored.
        expect: Edition,
        /// The lease that ends with the actor.
        release: LeaseToken,
    },
    /// Lists actors in order of their keys. Answer: [`StoreReply::Actors`].
    ListActors {
        /// Only this atespace's.
        atespace: Option<Name>,
        /// The token of the page before; none for the first.
        after: Option<Name>,
        /// The most actors in one page; at least 1.
        limit: u32,
    },
    /// Takes a lease on an actor if nobody holds one, or if the holder is the one that `steal` names,
    /// and reads the actor in the same step. Taking a lease that one's own token holds already
    /// succeeds and renews it. Answer: [`StoreReply::Acquired`] or [`StoreReply::Held`].
    AcquireLease {
        /// The actor.
        key: ActorKey,
        /// The new acquisition.
        token: LeaseToken,
        /// How long it lives without renewal, on the store's clock.
        ttl: Duration,
        /// An acquisition whose replica is known to be dead.
        steal: Option<LeaseToken>,
    },
    /// Renews a lease. Answer: [`StoreReply::Done`] or [`StoreReply::NotOwner`].
    RenewLease {
        /// The actor.
        key: ActorKey,
        /// The acquisition.
        token: LeaseToken,
        /// How long it lives from now, on the store's clock.
        ttl: Duration,
    },
    /// Ends a lease if it is still this acquisition's. Answer: [`StoreReply::Done`] in any case.
    ReleaseLease {
        /// The actor.
        key: ActorKey,
        /// The acquisition.
        token: LeaseToken,
    },
    /// Reads a worker. Answer: [`StoreReply::Worker`].
    GetWorker(WorkerKey),
    /// Writes a worker if the stored edition is the expected one. Answer: [`StoreReply::Done`] or
    /// [`StoreReply::WorkerConflict`]. Watchers hear of it.
    PutWorker {
        /// What must be stored now: nothing, or this edition.
        expect: Option<worker::Edition>,
        /// What is written; it carries its new, higher version.
        worker: Box<Worker>,
    },
    /// Deletes a worker if the stored edition is the expected one. Answer: [`StoreReply::Done`] or
    /// [`StoreReply::WorkerConflict`]. Watchers hear of it.
    DeleteWorker {
        /// The worker.
        key: WorkerKey,
        /// The edition that must be stored.
        expect: worker::Edition,
    },
    /// Lists all workers. Answer: [`StoreReply::Workers`].
    ListWorkers,
    /// Notes that a node was heard, unless the session that it believes in has lapsed. An older report of
    /// the same run of atelet changes nothing; what has lapsed stays so. The store counts the versions itself.
    /// Answer: [`StoreReply::NodeAt`] or [`StoreReply::NodeConflict`]. Watchers hear of what was written.
    PutNode(NodeRow),
    /// Declares the session of this row over if the row is stored in the same edition, or none is: nothing has been
    /// heard of the node since. Answer: [`StoreReply::Done`] or [`StoreReply::NodeConflict`]. Watchers hear of it.
    LapseNode(NodeRow),
    /// Lists all nodes. Answer: [`StoreReply::Nodes`].
    ListNodes,
    /// Creates an atespace. Answer: [`StoreReply::Done`] or [`StoreReply::Exists`].
    CreateAtespace(Name),
    /// Asks for an atespace. Answer: [`StoreReply::Exists`] or [`StoreReply::Missing`].
    GetAtespace(Name),
    /// Lists all atespaces. Answer: [`StoreReply::Atespaces`].
    ListAtespaces,
    /// Deletes an atespace if no actor is in it. Answer: [`StoreReply::Done`],
    /// [`StoreReply::Missing`] or [`StoreReply::NotEmpty`].
    DeleteAtespace(Name),
    /// Renews a replica's own session. Answer: [`StoreReply::Done`].
    PutSession {
        /// The replica.
        replica: ReplicaId,
        /// How long it lives without renewal, on the store's clock.
        ttl: Duration,
    },
    /// Asks whether a replica's session lives. Answer: [`StoreReply::Exists`] or
    /// [`StoreReply::Missing`].
    GetSession(ReplicaId),
    /// Ends a replica's own session. Answer: [`StoreReply::Done`].
    DropSession(ReplicaId),
    /// Notes what a deleted actor leaves behind, in place of an earlier note of the same life and version of
    /// it. Answer: [`StoreReply::Done`].
    PutGrave(Box<Grave>),
    /// Lists what deleted actors have left behind, in an order of the store's own. What is there throughout is
    /// on at least one page. Answer: [`StoreReply::Graves`].
    ListGraves {
        /// The token of the page before; none for the first.
        after: Option<Name>,
        /// About how many of them to a page; at least 1.
        limit: u32,
    },
    /// Forgets what one attempt at deleting an actor has noted. Answer: [`StoreReply::Done`], in any case.
    DropGrave {
        /// The actor.
        key: ActorKey,
        /// Which life of it.
        incarnation: Incarnation,
        /// Which note of it.
        version: Version,
    },
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreReply {
    /// It is done.
    Done,
    /// The actor, if there is one.
    Actor(Option<Box<Actor>>),
    /// Nothing was written; this is what is stored.
    ActorConflict(Option<Box<Actor>>),
    /// A page of actors, and the token of the next one if there is more.
    Actors {
        /// The actors.
        actors: Vec<Actor>,
        /// Where the next page begins.
        next: Option<Name>,
    },
    /// The lease is granted; this is the actor at that moment.
    Acquired(Option<Box<Actor>>),
    /// Somebody else holds the lease.
    Held(LeaseToken),
    /// The lease is not, or no longer, this acquisition's.
    NotOwner,
    /// The worker, if there is one.
    Worker(Option<Box<Worker>>),
    /// Nothing was written; this is what is stored.
    WorkerConflict(Option<Box<Worker>>),
    /// All workers.
    Workers(Vec<Worker>),
    /// All nodes.
    Nodes(Vec<NodeRow>),
    /// Nothing was written; this is what is stored.
    NodeConflict(Option<NodeRow>),
    /// The row of a node has this version now.
    NodeAt(u64),
    /// A page of what deleted actors have left behind, and the token of the next one if there is more.
    Graves {
        /// What they have left.
        graves: Vec<Grave>,
        /// Where the next page begins.
        next: Option<Name>,
    },
    /// All atespaces, in order.
    Atespaces(Vec<Name>),
    /// It exists.
    Exists,
    /// It does not exist.
    Missing,
    /// It is not empty.
    NotEmpty,
}

/// Why the store gave no answer. Whether the operation took effect is unknown unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreError {
    /// It could not be reached, did not answer in time, or has no room at the moment. It may have done what was asked.
    Unavailable(String),
    /// It refused, and nothing was changed: a record that cannot be read, a user who may not.
    Refused(String),
}

/// What a store tells its watchers. A watcher that may have missed something hears
/// [`StoreEvent::Resync`] and lists again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreEvent {
    /// A worker was written.
    Worker(Box<Worker>),
    /// A worker was deleted.
    WorkerGone(WorkerKey),
    /// A node was heard.
    Node(NodeRow),
    /// Something may have been missed.
    Resync,
}

/// A node, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeRow {
    /// Its name.
    pub name: NodeName,
    /// Where its atelet listens.
    pub address: Name,
    /// Which run of atelet that is.
    pub incarnation: Name,
    /// Counts the reports of that run.
    pub sequence: u64,
    /// The session that it believes in; zero if it keeps its sandboxes running without any.
    pub session: u64,
    /// Every session up to this one has been declared over: what was promised under one may be elsewhere.
    pub lapsed: u64,
    /// Counts the reports that the store has taken; zero in one that it has not.
    pub version: u64,
}

/// What a stored row of a node is told from every other by: the report, and how many the store has taken since it
/// knows the node. Two runs of atelet have no order, and the report of the earlier one may be written last: the
/// report alone would not tell that there was another in between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeEdition {
    /// The run of atelet that was heard last.
    pub incarnation: Name,
    /// Its last report.
    pub sequence: u64,
    /// The version of the row.
    pub version: u64,
}

impl NodeRow {
    /// Whether the node has a session that has not been declared over.
    pub fn has_session(&self) -> bool {
        self.session > self.lapsed
    }

    /// The row that is stored when `heard` comes in where this one is; `None` if its session is over.
    ///
    /// An older report of the same run of atelet changes nothing, and the knowledge of what has lapsed is
    /// never lost.
    #[must_use]
    pub fn after(stored: Option<&NodeRow>, heard: &NodeRow) -> Option<NodeRow> {
        let Some(stored) = stored else {
            return Some(NodeRow {
                version: 1,
                ..heard.clone()
            });
        };
        let lapsed = stored.lapsed.max(heard.lapsed);
        if heard.session > 0 && heard.session <= lapsed {
            return None;
        }
        // The same once more is no sign of life.
        let is_older = heard.incarnation == stored.incarnation && heard.sequence <= stored.sequence;
        let (row, version) = if is_older {
            (stored, stored.version)
        } else {
            (heard, stored.version + 1)
        };
        Some(NodeRow {
            lapsed,
            version,
            ..row.clone()
        })
    }

    /// What this row is told from every other by.
    pub fn edition(&self) -> NodeEdition {
        NodeEdition {
            incarnation: self.incarnation.clone(),
            sequence: self.sequence,
            version: self.version,
        }
    }

    /// The row that is stored when the session of `known` is declared over and this one is stored; `None` if that is
    /// another edition.
    ///
    /// A row is never deleted. Where none is, the store has forgotten it, or never had one, and nobody was granted the
    /// session after that.
    #[must_use]
    pub fn lapse(stored: Option<&NodeRow>, known: &NodeRow) -> Option<NodeRow> {
        let row = stored.unwrap_or(known);
        (row.edition() == known.edition()).then(|| NodeRow {
            lapsed: row.lapsed.max(row.session),
            ..row.clone()
        })
    }
}

/// One call to a node. Fences, operation and incarnation travel as metadata, so that an original
/// atelet simply ignores them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeCall {
    /// The node.
    pub node: NodeName,
    /// The run of its atelet that was heard last; none if none is known.
    pub run: Name,
    /// The worker in question; none for calls that concern only the node's disk.
    pub worker: Option<Target>,
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The actor's template.
    pub template: Arc<Template>,
    /// The actor's fence.
    pub fence: Fence,
    /// The operation.
    pub op: OpId,
    /// What is wanted.
    pub verb: Verb,
}

/// What a deleted actor leaves behind. Each attempt at deleting it leaves a note of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grave {
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The version that its record must have had to be deleted.
    pub version: Version,
    /// The template's namespace and name, which name its directory on nodes.
    pub template: (Name, Name),
    /// Its snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// Snapshots that nothing points at, to be deleted. It is fine when they are gone already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Discard {
    /// Whose they were.
    pub actor: ActorKey,
    /// The template's namespace and name, which name the actor's directory on the node.
    pub template: (Name, Name),
    /// Where they are.
    pub snapshots: Vec<Place>,
}

/// A worker as a node call names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The pod.
    pub pod_uid: PodUid,
    /// The worker's fence.
    pub fence: Fence,
    /// The session of the node under which the worker was promised; zero if it has none.
    pub session: u64,
}

/// What is wanted of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Boot the actor from its images.
    Run {
        /// The sandbox's files.
        assets: SandboxAssets,
    },
    /// Restore the actor.
    Restore {
        /// From where.
        from: Place,
        /// What the snapshot holds.
        scope: Scope,
    },
    /// Checkpoint the actor; its sandbox is gone afterwards.
    Checkpoint {
        /// To where.
        to: Place,
        /// What the snapshot shall hold.
        scope: Scope,
    },
    /// Copy a local snapshot to the object store.
    Upload {
        /// The local snapshot.
        name: Name,
        /// The URI prefix.
        to: Name,
    },
    /// See to it that nothing runs for the actor.
    Stop,
    /// Let the frozen actor go on: it is where it should be.
    Thaw,
}

/// Where a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Under a URI prefix in the object store.
    External(Name),
    /// On the node, under this name.
    Local(Name),
}

/// How a node call ended.
pub type NodeReply = Result<(), NodeFailure>;

/// Why a node call failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeFailure {
    /// The status code of the answer.
    pub code: Code,
    /// What the node, or the connection, said.
    pub message: String,
    /// What that means for the actor.
    pub kind: NodeFailureKind,
}

/// What a failed node call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeFailureKind {
    /// The actor's state cannot be carried forward (design section 7).
    Crash,
    /// The sandbox that was to be checkpointed is gone.
    SandboxGone,
    /// The node has seen a higher fence.
    StaleFence {
        /// Of what.
        of: Fenced,
        /// The highest it has seen.
        highest: Fence,
    },
    /// Another operation of this actor or on this worker is under way; it ends by itself.
    Busy,
    /// The session of the node under which it was ordered has been declared over: it is never let in again.
    SessionOver,
    /// The worker hosts another actor.
    Occupied,
    /// The call did not reach the node, or its answer was lost: it may have happened.
    Unreachable,
    /// The checkpoint has not begun, and is refused from now on: what was to be captured is as it was.
    NotBegun,
    /// The operation ended, and failed, and nothing is lost.
    Failed,
}

/// What a fence guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fenced {
    /// An actor.
    Actor,
    /// A worker.
    Worker,
}

impl NodeFailure {
    /// A call whose outcome is unknown.
    pub fn unreachable(message: impl Into<String>) -> NodeFailure {
        NodeFailure {
            code: Code::Unavailable,
            message: message.into(),
            kind: NodeFailureKind::Unreachable,
        }
    }
}
