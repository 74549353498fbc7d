//! The record of one worker pod: a sandbox slot on a node, and the actor it is promised to.

use crate::id::{ActorKey, Fence, Incarnation, Name, NodeName, PodUid, Version, WorkerKey};
use crate::table::{self, Row, Table, begins, ends, kinds, moves};
use crate::time::mix;
use core::fmt;

/// What the store knows of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    /// Where it is.
    pub key: WorkerKey,
    /// How often this record was written.
    pub version: Version,
    /// Which pod is behind the name.
    pub pod_uid: PodUid,
    /// Which run of ateom is in the pod; a container restarted in place is a new incarnation.
    pub incarnation: Name,
    /// The pod's address, where the actor's traffic goes.
    pub ip: Name,
    /// The node it runs on.
    pub node: NodeName,
    /// Whether it takes new actors.
    pub duty: Duty,
    /// The actor that it is promised to.
    pub hosts: Option<Hosted>,
}

/// One writing of a worker's row: its version, and whom it promises the worker to. A store that has lost its last
/// writes counts their versions once more, for whoever writes then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edition {
    /// How often the row was written.
    pub version: Version,
    /// The actor, which life of it, and the fence of the promise.
    pub promise: Option<(ActorKey, Incarnation, Fence)>,
}

impl Edition {
    /// A row of this version that promises nothing to anybody.
    pub fn free(version: Version) -> Edition {
        Edition {
            version,
            promise: None,
        }
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.version)?;
        match &self.promise {
            Some((actor, life, fence)) => write!(f, "{}:{}:{life}:{fence}", actor.atespace, actor.name),
            None => f.write_str("nobody"),
        }
    }
}

/// Whether a worker takes new actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// It does.
    Serving,
    /// Its pod is on the way out: what it runs is suspended, and nothing new comes.
    Draining,
}

/// A worker's promise to an actor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosted {
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The namespace of the actor's template, for those who list workers.
    pub template_namespace: Name,
    /// The name of the actor's template.
    pub template_name: Name,
    /// The worker's fence: the version at which this promise was written.
    pub fence: Fence,
    /// The session of the node under which it was written; zero if the node has none.
    pub session: u64,
}

/// What a node says of one of its workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    /// The pod.
    pub pod_uid: PodUid,
    /// The run of ateom in it.
    pub incarnation: Name,
    /// The pod's address.
    pub ip: Name,
    /// The node that has it.
    pub node: NodeName,
    /// Whether it takes new actors.
    pub duty: Duty,
}

/// What becomes of a worker's record. There is no other way to change one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is kept for an actor.
    Promise {
        /// The actor.
        actor: ActorKey,
        /// Which life of it.
        incarnation: Incarnation,
        /// The namespace and name of the actor's template.
        template: (Name, Name),
        /// The session of the worker's node; zero if it has none.
        session: u64,
    },
    /// It is kept for nobody.
    Free,
    /// Its node says something else of it than its row.
    Sight(Sight),
}

kinds! {
    /// The state of a worker's record: whether it is promised, and whether it is on its way out.
    pub enum Phase {
        /// It takes a new actor.
        Free,
        /// It is kept for an actor.
        Promised,
        /// It is on its way out, and kept for an actor until that is asleep.
        Draining,
        /// It is on its way out, and kept for nobody.
        Drained,
    }
}

kinds! {
    /// What may befall a worker's record.
    pub enum Event {
        /// Its node names it for the first time.
        Appear,
        /// A workflow promises it to an actor.
        Promise,
        /// The promise is taken back, or is over.
        Free,
        /// Its node says something else of it.
        Sight,
        /// It is gone, and its record with it.
        Drop,
    }
}

/// Everything that may become of a worker's record.
pub const TABLE: Table<Phase, Event> = {
    use Event as E;
    use Phase as P;
    const ROWS: &[Row<P, E>] = &[
        begins(
            E::Appear,
            &[P::Free, P::Drained],
            "at a version of its own, above every fence that its node has seen",
        ),
        moves(
            &[P::Free],
            E::Promise,
            &[P::Promised],
            "names the actor; the version becomes the worker's fence",
        ),
        moves(
            &[P::Promised],
            E::Free,
            &[P::Free],
            "above every fence that its node has told of",
        ),
        moves(&[P::Draining], E::Free, &[P::Drained], "the same"),
        moves(
            &[P::Free, P::Drained],
            E::Sight,
            &[P::Free, P::Drained],
            "takes over pod, run, address, node and duty",
        ),
        moves(
            &[P::Promised, P::Draining],
            E::Sight,
            &[P::Promised, P::Draining],
            "the same, as long as its node does not say that the promise is over",
        ),
        ends(
            &[P::Free, P::Drained],
            E::Drop,
            "a promise outlives the worker until its actor is at rest",
        ),
    ];
    Table::new("worker", ROWS)
};

/// How many writes, as a power of two, lie between the lives of a row.
const WRITES_BITS: u32 = 16;
/// Below this power of two begins the first row of a pod, until its node loses it.
const POD_BITS: u32 = 48;
/// How many versions, as a power of two, each later row of it has to itself.
const LIFE_BITS: u32 = 40;

/// A fence above all that any row has had of a pod whose node has lost it, having seen promises up to `highest`.
pub(crate) fn above_every_promise(highest: Fence) -> Fence {
    let above = match highest.0 >> POD_BITS {
        0 => 1 << POD_BITS,
        _ => ((highest.0 >> LIFE_BITS) + 1) << LIFE_BITS,
    };
    Fence(above).min(Fence::MAX)
}

/// An event for which the table has no row.
pub type Illegal = table::Illegal<Phase, Event>;

impl Worker {
    /// Which writing of it this is.
    pub fn edition(&self) -> Edition {
        let promise = |hosted: &Hosted| (hosted.actor.clone(), hosted.incarnation, hosted.fence);
        Edition {
            version: self.version,
            promise: self.hosts.as_ref().map(promise),
        }
    }

    /// A worker that its node names for the first time, having seen promises up to `highest`.
    ///
    /// Its row begins at a version of its own. Writes are compared by version, and a row that was dropped
    /// took its count along: one that began where that began could be hit by a write that was meant for
    /// it and is still on its way. Where the very same run comes back, its node has seen to that.
    pub fn appear(key: WorkerKey, sight: Sight, highest: Fence) -> Worker {
        let begin = (sight.life() >> (64 + WRITES_BITS - POD_BITS) << WRITES_BITS) | Version::FIRST.0;
        let above = match highest {
            Fence(0) => 0,
            Fence(highest) => highest.saturating_add(1 << WRITES_BITS),
        };
        let own = sight.own_above(highest).0;
        let worker = Worker {
            key,
            version: Version(begin.max(above).max(own)).min(Version::MAX),
            pod_uid: sight.pod_uid,
            incarnation: sight.incarnation,
            ip: sight.ip,
            node: sight.node,
            duty: sight.duty,
            hosts: None,
        };
        TABLE.made(None, Event::Appear, Some(worker.phase()));
        worker
    }

    /// The record after `change`, at a version of at least `at_least`.
    ///
    /// # Errors
    /// [`Illegal`] if the [`TABLE`] has no such transition.
    pub fn after(&self, change: Change, at_least: Version) -> Result<Worker, Illegal> {
        let (from, event) = (Some(self.phase()), change.event());
        TABLE.check(from, event)?;
        let mut next = self.clone();
        next.version = self.version.next().max(at_least);
        match change {
            Change::Promise {
                actor,
                incarnation,
                template,
                session,
            } => {
                next.hosts = Some(Hosted {
                    actor,
                    incarnation,
                    template_namespace: template.0,
                    template_name: template.1,
                    fence: Fence(next.version.0),
                    session,
                });
            }
            Change::Free => next.hosts = None,
            Change::Sight(sight) => {
                next.pod_uid = sight.pod_uid;
                next.incarnation = sight.incarnation;
                next.ip = sight.ip;
                next.node = sight.node;
                next.duty = sight.duty;
            }
        }
        TABLE.made(from, event, Some(next.phase()));
        Ok(next)
    }

    /// Where the record stands in the [`TABLE`].
    pub fn phase(&self) -> Phase {
        match (&self.hosts, self.duty) {
            (None, Duty::Serving) => Phase::Free,
            (Some(_), Duty::Serving) => Phase::Promised,
            (Some(_), Duty::Draining) => Phase::Draining,
            (None, Duty::Draining) => Phase::Drained,
        }
    }

    /// Whether this worker is promised to this life of this actor.
    pub fn is_promised_to(&self, actor: &ActorKey, incarnation: Incarnation) -> bool {
        self.hosts
            .as_ref()
            .is_some_and(|h| h.actor == *actor && h.incarnation == incarnation)
    }
}

impl Sight {
    /// A number of this run of this pod.
    fn life(&self) -> u64 {
        let run = [&self.pod_uid, &self.incarnation];
        let bytes = run
            .into_iter()
            .flat_map(|part| part.as_str().bytes().chain([b'/']));
        bytes.fold(0, |life, byte| mix(life ^ u64::from(byte).wrapping_add(1)))
    }

    /// Where the row of this run begins if its pod was lost before, by what its node says: at a version that no row
    /// of another pod by this name has had. The lower half of what a life has to itself is for that, the upper for
    /// what is written then.
    pub(crate) fn own_above(&self, highest: Fence) -> Version {
        if highest.0 >> POD_BITS == 0 {
            return Version::FIRST;
        }
        let base = highest.0 >> LIFE_BITS << LIFE_BITS;
        let own = self.life() >> (64 + WRITES_BITS + 1 - LIFE_BITS) << WRITES_BITS;
        Version(base.saturating_add((1 << WRITES_BITS) + own)).min(Version::MAX)
    }
}

impl Change {
    /// What befalls the record by it.
    pub fn event(&self) -> Event {
        match self {
            Change::Promise { .. } => Event::Promise,
            Change::Free => Event::Free,
            Change::Sight(_) => Event::Sight,
        }
    }
}
