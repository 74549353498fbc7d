//! The record of one actor, and the one table of what may become of it.
//!
//! A state carries what it needs: an actor that is RUNNING has a worker because there is no way to
//! write one that has not, and a snapshot pointer moves only along [`Change`].

mod garbage;
mod setback;

pub use self::garbage::{GARBAGE_MAX, Garbage};
pub use self::setback::{Crash, Loss, Setback, Transition};
use crate::catalog::{Selector, Template};
use crate::effect::Grave;
use crate::id::{
    ActorKey, Edition, Fence, Incarnation, LeaseToken, Name, NodeName, OpId, PodUid, Version, WorkerKey,
};
use crate::table::{self, Kind, Row, Table, begins, ends, kinds, moves, stays};
use crate::worker::Worker;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// What the store knows of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Where it is.
    pub key: ActorKey,
    /// How often this record was written.
    pub version: Version,
    /// Which life of that name this is.
    pub incarnation: Incarnation,
    /// The namespace of its template.
    pub template_namespace: Name,
    /// The name of its template.
    pub template_name: Name,
    /// The template as it was when the actor was made, so that the actor outlives it (scenario S51).
    /// Absent in records of the original.
    pub pinned: Option<Arc<Template>>,
    /// Which worker pools it may run in, besides what the template says.
    pub selector: Selector,
    /// What it is doing.
    pub state: State,
    /// The last workflow that wrote here under a lease.
    pub claim: Option<Claim>,
    /// The snapshot that the next Resume restores; none if the actor has never been suspended.
    pub latest: Option<Snapshot>,
    /// The last snapshot that was committed to the object store.
    pub last_external: Option<Name>,
    /// The one committed before it: what Revert goes back to when the last one turns out to be bad.
    pub fallback: Option<Name>,
    /// A snapshot that was begun and not committed. Kept after a crash, for those who investigate.
    pub in_progress: Option<Name>,
    /// State that was lost since the last successful Resume, and has not been told to anybody.
    pub loss: Option<Loss>,
    /// Snapshots that this record has let go of and that have not been collected yet, oldest first.
    pub garbage: Vec<Garbage>,
}

/// The workflow that last wrote a record: who holds, or held, the lease, and its fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The acquisition under which it wrote.
    pub token: LeaseToken,
    /// The version of its first write: from then on every earlier owner's effects are refused.
    pub fence: Fence,
}

/// What an actor is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Asleep in the object store, or never run.
    Suspended,
    /// Being booted or restored.
    Resuming {
        /// The node operation that does it.
        op: OpId,
        /// Where.
        on: Assignment,
        /// Whether the caller asked for a fresh boot instead of the golden snapshot.
        boot: Boot,
    },
    /// Serving.
    Running {
        /// Where.
        on: Assignment,
    },
    /// Being checkpointed to the object store.
    Suspending {
        /// The node operation that does it.
        op: OpId,
        /// What is being suspended.
        from: Source,
        /// The URI prefix that is being written.
        snapshot: Name,
    },
    /// Being checkpointed to its node's disk.
    Pausing {
        /// The node operation that does it.
        op: OpId,
        /// Where.
        on: Assignment,
        /// The name of the local snapshot that is being written.
        snapshot: Name,
    },
    /// Asleep on a node's disk.
    Paused,
    /// Its state could not be carried forward (design section 7).
    Crashed(Crash),
}

/// What a Suspend starts from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A running sandbox.
    Worker(Assignment),
    /// The local snapshot of a paused actor, on this node: how the original records an upload. Ours
    /// leaves the actor PAUSED until the upload is done.
    Local(NodeName),
}

/// Whether a first Resume may start from the template's golden snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boot {
    /// From the golden snapshot if there is one.
    Golden,
    /// From the images.
    Fresh,
}

/// The worker that an actor is on, and in which life of both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// The worker.
    pub worker: WorkerKey,
    /// Which pod.
    pub pod_uid: PodUid,
    /// Which run of ateom in that pod.
    pub incarnation: Name,
    /// Where its traffic goes.
    pub ip: Name,
    /// The node that the worker is on.
    pub node: NodeName,
    /// The worker's fence when it was promised.
    pub fence: Fence,
    /// The session of the node that the promise, or the agreement to go on, was made under; zero if the
    /// node keeps its sandboxes running without any.
    pub session: u64,
}

impl Assignment {
    /// The assignment that `worker` has promised; `None` if it has promised nothing.
    pub fn of(worker: &Worker) -> Option<Assignment> {
        Some(Assignment {
            worker: worker.key.clone(),
            pod_uid: worker.pod_uid.clone(),
            incarnation: worker.incarnation.clone(),
            ip: worker.ip.clone(),
            node: worker.node.clone(),
            fence: worker.hosts.as_ref()?.fence,
            session: worker.hosts.as_ref()?.session,
        })
    }
}

/// A committed snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Snapshot {
    /// In the object store, under this URI prefix.
    External(Name),
    /// On the disk of these nodes, under this name.
    Local {
        /// The snapshot's name.
        name: Name,
        /// The nodes that have it.
        nodes: Vec<NodeName>,
    },
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Snapshot::External(prefix) => write!(f, "snapshot {prefix}"),
            Snapshot::Local { name, nodes } => {
                write!(f, "local snapshot {name}")?;
                nodes.iter().try_for_each(|node| write!(f, " on node {node}"))
            }
        }
    }
}

impl Snapshot {
    fn local(name: Name, node: NodeName) -> Snapshot {
        Snapshot::Local {
            name,
            nodes: vec![node],
        }
    }
}

kinds! {
    /// What may befall an actor's record.
    pub enum Event {
        /// It is made, asleep.
        Create,
        /// A workflow takes over.
        Claim,
        /// Its worker pools are chosen.
        Select,
        /// It is to serve.
        Resume,
        /// It serves.
        Ran,
        /// It goes on under another session of its node.
        Thaw,
        /// It is to sleep in the object store.
        Suspend,
        /// It sleeps there.
        Suspended,
        /// It is to sleep on its node's disk.
        Pause,
        /// It sleeps there.
        Paused,
        /// It is given a place in the object store for its local snapshot.
        Reserve,
        /// Its local snapshot is in the object store too.
        Uploaded,
        /// It was not put to sleep after all.
        Wake,
        /// It falls back to the last committed snapshot.
        Reset,
        /// Its state cannot be carried forward.
        Crash,
        /// It is sent back to the last good snapshot.
        Revert,
        /// What it let go of is gone.
        Collected,
        /// It is deleted.
        Delete,
    }
}

/// Everything that may become of an actor.
pub const TABLE: Table<Status, Event> = {
    use Event as E;
    use Status as S;
    const ROWS: &[Row<S, E>] = &[
        begins(E::Create, &[S::Suspended], "no snapshot yet; pins the template"),
        stays(
            &[
                S::Suspended,
                S::Resuming,
                S::Running,
                S::Suspending,
                S::Pausing,
                S::Paused,
            ],
            E::Claim,
            "nothing else: the first write of an owner that goes on with what it found",
        ),
        stays(
            <S as Kind>::ALL,
            E::Select,
            "replaces the actor's worker selector",
        ),
        moves(
            &[S::Suspended, S::Paused],
            E::Resume,
            &[S::Resuming],
            "names operation and worker",
        ),
        moves(
            &[S::Resuming],
            E::Ran,
            &[S::Running],
            "clears the loss mark and the in-progress name",
        ),
        stays(
            &[S::Running],
            E::Thaw,
            "names the session of the node under which the actor goes on",
        ),
        moves(
            &[S::Running],
            E::Suspend,
            &[S::Suspending],
            "names operation and snapshot to be written",
        ),
        moves(
            &[S::Suspending],
            E::Suspended,
            &[S::Suspended],
            "`latest` and `last_external` become that snapshot; the one before becomes `fallback`",
        ),
        moves(
            &[S::Running],
            E::Pause,
            &[S::Pausing],
            "names operation and local snapshot",
        ),
        moves(
            &[S::Pausing],
            E::Paused,
            &[S::Paused],
            "`latest` becomes that local snapshot, on that node",
        ),
        stays(
            &[S::Paused],
            E::Reserve,
            "names where the copy of the local snapshot is written",
        ),
        moves(
            &[S::Paused],
            E::Uploaded,
            &[S::Suspended],
            "as Suspended, for the copy of the local snapshot",
        ),
        moves(
            &[S::Suspending, S::Pausing],
            E::Wake,
            &[S::Running],
            "drops the in-progress name: its node has refused, and left the sandbox as it was",
        ),
        moves(
            &[S::Resuming, S::Running, S::Suspending, S::Pausing],
            E::Reset,
            &[S::Suspended, S::Paused],
            "asleep where `latest` is; drops the in-progress name; may set a loss mark",
        ),
        moves(
            &[S::Resuming, S::Suspending, S::Pausing],
            E::Crash,
            &[S::Crashed],
            "keeps snapshots, in-progress name, node and cause",
        ),
        moves(
            &[S::Crashed, S::Paused],
            E::Revert,
            &[S::Suspended],
            "back to the last good external snapshot, or to the initial state if there is none",
        ),
        stays(
            <S as Kind>::ALL,
            E::Collected,
            "forgets snapshots that it had let go of",
        ),
        ends(
            &[S::Suspended, S::Crashed],
            E::Delete,
            "leaves a note of its snapshots",
        ),
    ];
    Table::new("actor", ROWS)
};

/// An event for which the table has no row.
pub type Illegal = table::Illegal<Status, Event>;

/// What becomes of an actor record. There is no other way to change one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A workflow takes over without changing anything else.
    Claim,
    /// It is to serve.
    Resume {
        /// The operation.
        op: OpId,
        /// Where.
        on: Assignment,
        /// From what.
        boot: Boot,
    },
    /// It serves. Ends the story of an earlier loss.
    Ran,
    /// It goes on under another session of its node: nothing has moved it since the old one lapsed.
    Thaw {
        /// The session.
        session: u64,
    },
    /// It is to sleep in the object store.
    Suspend {
        /// The operation.
        op: OpId,
        /// The URI prefix to write.
        snapshot: Name,
    },
    /// It sleeps at the snapshot that was being written, which has been read back complete.
    Suspended,
    /// It is given a place in the object store for the copy of its local snapshot.
    Reserve {
        /// The URI prefix to write.
        snapshot: Name,
    },
    /// It serves on: the node has refused to put it to sleep, and its sandbox is as it was.
    Wake,
    /// The same, and nothing has been begun: there is no snapshot to let go of.
    WakeUnbegun,
    /// It sleeps at the copy of its local snapshot, which has been read back complete.
    Uploaded,
    /// It is to sleep on its node's disk.
    Pause {
        /// The operation.
        op: OpId,
        /// The local snapshot to write.
        snapshot: Name,
    },
    /// It sleeps there at the snapshot that was being written.
    Paused,
    /// It sleeps at the last committed snapshot.
    Reset {
        /// What was lost by that; a Resume that is undone loses nothing.
        loss: Option<Loss>,
    },
    /// Its state cannot be carried forward.
    Crash(Crash),
    /// It sleeps at the last good snapshot in the object store.
    Revert,
    /// Other worker pools.
    Select(Selector),
    /// Any state: these snapshots are gone, and nothing pointed at them.
    Collected(Vec<Snapshot>),
}

impl Actor {
    /// A new actor, asleep, with no state yet.
    pub fn create(
        key: ActorKey,
        incarnation: Incarnation,
        template: Arc<Template>,
        selector: Selector,
    ) -> Actor {
        let state = State::Suspended;
        TABLE.made(None, Event::Create, Some(state.status()));
        Actor {
            key,
            version: Version::FIRST,
            incarnation,
            template_namespace: template.namespace.clone(),
            template_name: template.name.clone(),
            pinned: Some(template),
            selector,
            state,
            claim: None,
            latest: None,
            last_external: None,
            fallback: None,
            in_progress: None,
            loss: None,
            garbage: Vec::new(),
        }
    }

    /// The record after `change`, written by the workflow that holds `by` (or by nobody's lease), at
    /// a version of at least `at_least`. The first write under a lease is that lease's claim.
    ///
    /// # Errors
    /// [`Illegal`] if the [`TABLE`] has no such transition.
    pub fn after(
        &self,
        change: &Change,
        by: Option<LeaseToken>,
        at_least: Version,
    ) -> Result<Actor, Illegal> {
        let (from, event) = (Some(self.status()), change.event());
        TABLE.check(from, event)?;
        let mut next = self.clone();
        next.version = self.version.next().max(at_least);
        if let Some(token) = by
            && self.claim.is_none_or(|claim| claim.token != token)
        {
            next.claim = Some(Claim {
                token,
                fence: Fence(next.version.0),
            });
        }
        match (&self.state, change) {
            (_, Change::Claim) => {}
            (_, Change::Select(selector)) => next.selector = selector.clone(),
            (_, Change::Collected(gone)) => next.garbage.retain(|garbage| !gone.contains(&garbage.snapshot)),
            (_, Change::Resume { op, on, boot }) => {
                next.state = State::Resuming {
                    op: *op,
                    on: on.clone(),
                    boot: *boot,
                };
            }
            (State::Resuming { on, .. }, Change::Ran) => {
                next.state = State::Running { on: on.clone() };
                next.loss = None;
                next.in_progress = None;
            }
            (State::Running { on }, Change::Thaw { session }) => {
                let on = Assignment {
                    session: *session,
                    ..on.clone()
                };
                next.state = State::Running { on };
            }
            (State::Running { on }, Change::Suspend { op, snapshot }) => {
                next.state = State::Suspending {
                    op: *op,
                    from: Source::Worker(on.clone()),
                    snapshot: snapshot.clone(),
                };
                next.in_progress = Some(snapshot.clone());
            }
            (State::Suspending { snapshot, .. }, Change::Suspended) => next.commit(snapshot.clone()),
            (State::Paused, Change::Reserve { snapshot }) => next.in_progress = Some(snapshot.clone()),
            (State::Paused, Change::Uploaded) if self.in_progress.is_some() => {
                self.in_progress
                    .iter()
                    .for_each(|snapshot| next.commit(snapshot.clone()));
            }
            (State::Running { on }, Change::Pause { op, snapshot }) => {
                next.state = State::Pausing {
                    op: *op,
                    on: on.clone(),
                    snapshot: snapshot.clone(),
                };
                next.in_progress = Some(snapshot.clone());
            }
            (State::Pausing { on, snapshot, .. }, Change::Paused) => {
                next.state = State::Paused;
                next.latest = Some(Snapshot::Local {
                    name: snapshot.clone(),
                    nodes: vec![on.node.clone()],
                });
                next.in_progress = None;
            }
            (State::Suspending { .. } | State::Pausing { .. }, Change::Wake | Change::WakeUnbegun) => {
                let on = self.assignment().ok_or(Illegal { from, event })?;
                next.state = State::Running { on: on.clone() };
                next.in_progress = None;
            }
            (_, Change::Reset { loss }) => {
                next.state = self.asleep();
                next.in_progress = None;
                if loss.is_some() {
                    next.loss.clone_from(loss);
                }
            }
            (_, Change::Crash(crash)) => {
                next.state = State::Crashed(crash.clone());
            }
            (_, Change::Revert) => {
                next.state = State::Suspended;
                next.last_external = self.last_good().cloned();
                next.latest = next.last_external.clone().map(Snapshot::External);
                if next.last_external == self.fallback {
                    next.fallback = None;
                }
                next.in_progress = None;
                next.loss = None;
            }
            // A state that lacks what the change works on; the table has no such row either.
            _ => return Err(Illegal { from, event }),
        }
        let kept = next.snapshots();
        let let_go = self
            .snapshots()
            .into_iter()
            .filter(|snapshot| !kept.contains(snapshot) && *change != Change::WakeUnbegun);
        let Edition { version, claim, .. } = next.edition();
        let let_go = let_go.map(|snapshot| Garbage {
            snapshot,
            since: version,
            by: claim,
        });
        next.garbage.extend(let_go);
        let excess = next.garbage.len().saturating_sub(GARBAGE_MAX);
        next.garbage.drain(..excess);
        TABLE.made(from, event, Some(next.status()));
        Ok(next)
    }

    /// Asleep at a snapshot in the object store.
    fn commit(&mut self, snapshot: Name) {
        self.state = State::Suspended;
        self.latest = Some(Snapshot::External(snapshot.clone()));
        self.fallback = self.last_external.replace(snapshot);
        self.in_progress = None;
    }

    /// Every snapshot that this record points at, complete or not.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let external = [&self.last_external, &self.fallback];
        let committed = external.into_iter().flatten().cloned().map(Snapshot::External);
        let mut all: Vec<Snapshot> = self.latest.iter().cloned().chain(committed).collect();
        all.extend(self.begun());
        all.sort();
        all.dedup();
        all
    }

    /// Every snapshot that it has let go of and that has not been collected.
    pub fn let_go(&self) -> impl Iterator<Item = &Snapshot> {
        self.garbage.iter().map(|garbage| &garbage.snapshot)
    }

    /// The snapshot that was begun and not committed.
    fn begun(&self) -> Option<Snapshot> {
        self.in_progress.clone().map(|name| match &self.state {
            State::Pausing { on, .. } => Snapshot::local(name, on.node.clone()),
            State::Crashed(crash) if crash.during == Transition::Pause => {
                Snapshot::local(name, crash.node.clone())
            }
            _ => Snapshot::External(name),
        })
    }

    /// The snapshot that Revert goes back to. One from which the actor could not be resumed is not
    /// good, so the one before it is; where there is none before it, the same one may be tried again.
    pub fn last_good(&self) -> Option<&Name> {
        let last = self.last_external.as_ref();
        let is_suspect = matches!(&self.state, State::Crashed(crash) if crash.during == Transition::Resume)
            && last.is_some_and(|last| self.latest == Some(Snapshot::External(last.clone())));
        if is_suspect {
            self.fallback.as_ref().or(last)
        } else {
            last
        }
    }

    /// The stable state at the last committed snapshot.
    fn asleep(&self) -> State {
        match self.latest {
            Some(Snapshot::Local { .. }) => State::Paused,
            Some(Snapshot::External(_)) | None => State::Suspended,
        }
    }

    /// Which writing of it this is.
    pub fn edition(&self) -> Edition {
        Edition {
            incarnation: self.incarnation,
            version: self.version,
            claim: self.claim.map(|claim| claim.token),
        }
    }

    /// What this actor leaves behind when it is deleted, if anything.
    pub fn grave(&self) -> Option<Grave> {
        let mut snapshots = self.snapshots();
        snapshots.extend(self.let_go().cloned());
        (!snapshots.is_empty()).then(|| Grave {
            actor: self.key.clone(),
            incarnation: self.incarnation,
            version: self.version,
            template: self.template(),
            snapshots,
        })
    }

    /// The namespace and name of its template.
    pub fn template(&self) -> (Name, Name) {
        (self.template_namespace.clone(), self.template_name.clone())
    }

    /// The worker that this record points at.
    pub fn assignment(&self) -> Option<&Assignment> {
        match &self.state {
            State::Resuming { on, .. }
            | State::Running { on }
            | State::Suspending {
                from: Source::Worker(on),
                ..
            }
            | State::Pausing { on, .. } => Some(on),
            State::Suspending {
                from: Source::Local(_),
                ..
            }
            | State::Suspended
            | State::Paused
            | State::Crashed(_) => None,
        }
    }

    /// The node operation that is under way.
    pub fn operation(&self) -> Option<OpId> {
        match &self.state {
            State::Resuming { op, .. } | State::Suspending { op, .. } | State::Pausing { op, .. } => {
                Some(*op)
            }
            State::Running { .. } | State::Suspended | State::Paused | State::Crashed(_) => None,
        }
    }

    /// The status on the wire.
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Whether the workflow that acquired `token` is the last that wrote here.
    pub fn is_claimed_by(&self, token: LeaseToken) -> bool {
        self.claim.is_some_and(|claim| claim.token == token)
    }
}

impl State {
    /// The status on the wire: the state without what it carries.
    pub fn status(&self) -> Status {
        match self {
            State::Suspended => Status::Suspended,
            State::Resuming { .. } => Status::Resuming,
            State::Running { .. } => Status::Running,
            State::Suspending { .. } => Status::Suspending,
            State::Pausing { .. } => Status::Pausing,
            State::Paused => Status::Paused,
            State::Crashed(_) => Status::Crashed,
        }
    }
}

impl Change {
    /// What befalls the record by it.
    pub fn event(&self) -> Event {
        match self {
            Change::Claim => Event::Claim,
            Change::Resume { .. } => Event::Resume,
            Change::Ran => Event::Ran,
            Change::Thaw { .. } => Event::Thaw,
            Change::Suspend { .. } => Event::Suspend,
            Change::Suspended => Event::Suspended,
            Change::Reserve { .. } => Event::Reserve,
            Change::Wake | Change::WakeUnbegun => Event::Wake,
            Change::Uploaded => Event::Uploaded,
            Change::Pause { .. } => Event::Pause,
            Change::Paused => Event::Paused,
            Change::Reset { .. } => Event::Reset,
            Change::Crash(_) => Event::Crash,
            Change::Revert => Event::Revert,
            Change::Select(_) => Event::Select,
            Change::Collected(_) => Event::Collected,
        }
    }
}

/// An actor's status, with the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Being booted or restored.
    Resuming = 1,
    /// Serving.
    Running = 2,
    /// Being checkpointed to the object store.
    Suspending = 3,
    /// Asleep.
    Suspended = 4,
    /// Being checkpointed to its node's disk.
    Pausing = 5,
    /// Asleep on a node's disk.
    Paused = 6,
    /// Its state could not be carried forward.
    Crashed = 7,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 7] = [
        Status::Resuming,
        Status::Running,
        Status::Suspending,
        Status::Suspended,
        Status::Pausing,
        Status::Paused,
        Status::Crashed,
    ];
}

impl Kind for Status {
    const ALL: &'static [Status] = &[
        Status::Suspended,
        Status::Resuming,
        Status::Running,
        Status::Suspending,
        Status::Pausing,
        Status::Paused,
        Status::Crashed,
    ];

    fn name(self) -> &'static str {
        match self {
            Status::Suspended => "SUSPENDED",
            Status::Resuming => "RESUMING",
            Status::Running => "RUNNING",
            Status::Suspending => "SUSPENDING",
            Status::Pausing => "PAUSING",
            Status::Paused => "PAUSED",
            Status::Crashed => "CRASHED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "STATUS_{}", self.name())
    }
}
