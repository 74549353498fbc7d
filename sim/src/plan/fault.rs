//! What can go wrong in the outside world: whom it strikes, and how hard.

use super::Sizes;
use serde::{Deserialize, Serialize};

/// Something that goes wrong. Durations are in microseconds; replicas, nodes, the workers of a node and
/// actors are counted from zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields say whom, how hard and for how long")]
pub enum Fault {
    /// A replica dies after a few more outputs, and starts again as another one.
    ReplicaDies { replica: usize, after_outputs: u32 },
    /// A replica is not scheduled for a while, perhaps beyond its leases, after a few more outputs.
    ReplicaPauses {
        replica: usize,
        after_outputs: u32,
        for_us: u64,
    },
    /// A replica is told to shut down, and starts again as another one.
    ReplicaLeaves { replica: usize },
    /// An atelet dies after a few more outputs, and starts again with its disk.
    NodeDies { node: usize, after_outputs: u32 },
    /// An atelet is not scheduled for a while.
    NodePauses { node: usize, for_us: u64 },
    /// The ateom of a worker dies with its sandbox, and starts again in place. Its atelet may notice that it
    /// is away, or only that it is back as another.
    AteomDies {
        node: usize,
        worker: usize,
        is_noticed: bool,
    },
    /// A worker's pod is deleted, and another one comes by the same name.
    PodReplaced { node: usize, worker: usize },
    /// A worker's pod is told to go, has a while to drain, and is then replaced.
    PodLeaves {
        node: usize,
        worker: usize,
        grace_us: u64,
    },
    /// A sandbox dies.
    SandboxDies { node: usize, worker: usize },
    /// Nobody reaches the store for a while.
    StoreAway { for_us: u64 },
    /// A standby of the store takes over after a while, which has not heard of the writes that were
    /// acknowledged in the last moments.
    StoreFailsOver { lag_us: u64, away_us: u64 },
    /// The store is emptied, and an operator makes the atespace anew.
    StoreFlushed {},
    /// A node and the replicas do not reach each other for a while.
    NodeCutOff { node: usize, for_us: u64 },
    /// The image registry hangs for a while, and no node has an image.
    RegistryHangs { for_us: u64 },
    /// The object store fails for a while.
    ObjectsAway { for_us: u64 },
    /// The snapshot that an actor would be resumed from is damaged.
    SnapshotDamaged { actor: usize },
    /// A node's disk is full for a while: nothing is journalled, fetched or saved there.
    DiskFull { node: usize, for_us: u64 },
    /// A node's disk refuses the next writes of the journal.
    DiskRefuses { node: usize, writes: u32 },
    /// The machine of a replica is gone, and another replica starts only when it is back.
    ReplicaLost { replica: usize, for_us: u64 },
    /// A node's machine is gone with all that runs on it, and comes back with its disk.
    NodeLost { node: usize, for_us: u64 },
    /// What a replica asks of the store does not get there, or what it is answered does not come back, for a while.
    ReplicaCut { replica: usize, way: Way, for_us: u64 },
    /// What replicas send does not get to a node, or what it sends does not come back, for a while.
    NodeCutOneWay { node: usize, way: Way, for_us: u64 },
    /// What a replica's watch of the store has to tell is lost, comes late, or comes once more when it is old, for a
    /// while. Then the replica is told that it may have missed something.
    WatchIll { replica: usize, ill: Ill, for_us: u64 },
    /// The store takes up to so much longer for everything, for a while.
    StoreSlow { takes_us: u64, for_us: u64 },
    /// The store's memory is full for a while: it refuses what needs room, and reads, deletes and renews.
    StoreFull { for_us: u64 },
    /// The store reads its data for a while, and says at once that it cannot be asked.
    StoreLoading { for_us: u64 },
    /// The object store takes up to so much longer for everything, for a while.
    ObjectsSlow { takes_us: u64, for_us: u64 },
    /// The object store hangs up after it has stored what it was given, for a while.
    ObjectsLie { for_us: u64 },
    /// The image registry hangs up in the middle, comes in drops, or ends with what has another digest, for a while,
    /// and no node has an image.
    RegistryIll { ill: Ill, for_us: u64 },
    /// What runsc is told to do on a node hangs for a while. Then it has been done, or not, or it has and nobody hears
    /// of it.
    RunscHangs { node: usize, for_us: u64 },
}

/// One of the two ways of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// What is asked.
    There,
    /// What is answered.
    Back,
}

/// What is wrong with something that comes bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ill {
    /// It ends before its end.
    Cuts,
    /// It comes slowly.
    Trickles,
    /// What comes is not what should.
    Garbles,
}

/// What kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// See [`Fault::ReplicaDies`].
    ReplicaDies,
    /// See [`Fault::ReplicaPauses`].
    ReplicaPauses,
    /// See [`Fault::ReplicaLeaves`].
    ReplicaLeaves,
    /// See [`Fault::NodeDies`].
    NodeDies,
    /// See [`Fault::NodePauses`].
    NodePauses,
    /// See [`Fault::AteomDies`].
    AteomDies,
    /// See [`Fault::PodReplaced`].
    PodReplaced,
    /// See [`Fault::PodLeaves`].
    PodLeaves,
    /// See [`Fault::SandboxDies`].
    SandboxDies,
    /// See [`Fault::StoreAway`].
    StoreAway,
    /// See [`Fault::StoreFailsOver`].
    StoreFailsOver,
    /// See [`Fault::StoreFlushed`].
    StoreFlushed,
    /// See [`Fault::NodeCutOff`]: for less time than its session has.
    NodeCutOff,
    /// The same, until long after the node's session is over.
    NodePartitioned,
    /// See [`Fault::RegistryHangs`].
    RegistryHangs,
    /// See [`Fault::ObjectsAway`].
    ObjectsAway,
    /// See [`Fault::SnapshotDamaged`].
    SnapshotDamaged,
    /// See [`Fault::DiskFull`].
    DiskFull,
    /// See [`Fault::DiskRefuses`].
    DiskRefuses,
    /// See [`Fault::ReplicaLost`].
    ReplicaLost,
    /// See [`Fault::NodeLost`].
    NodeLost,
    /// See [`Fault::ReplicaCut`].
    ReplicaCut,
    /// See [`Fault::NodeCutOneWay`].
    NodeCutOneWay,
    /// See [`Fault::WatchIll`].
    WatchIll,
    /// See [`Fault::StoreSlow`].
    StoreSlow,
    /// See [`Fault::StoreFull`].
    StoreFull,
    /// See [`Fault::StoreLoading`].
    StoreLoading,
    /// See [`Fault::ObjectsSlow`].
    ObjectsSlow,
    /// See [`Fault::ObjectsLie`].
    ObjectsLie,
    /// See [`Fault::RegistryIll`].
    RegistryIll,
    /// See [`Fault::RunscHangs`].
    RunscHangs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 31] = [
        Kind::ReplicaDies,
        Kind::ReplicaPauses,
        Kind::ReplicaLeaves,
        Kind::NodeDies,
        Kind::NodePauses,
        Kind::AteomDies,
        Kind::PodReplaced,
        Kind::PodLeaves,
        Kind::SandboxDies,
        Kind::StoreAway,
        Kind::NodeCutOff,
        Kind::NodePartitioned,
        Kind::RegistryHangs,
        Kind::ObjectsAway,
        Kind::SnapshotDamaged,
        Kind::DiskFull,
        Kind::DiskRefuses,
        Kind::ReplicaLost,
        Kind::NodeLost,
        Kind::ReplicaCut,
        Kind::NodeCutOneWay,
        Kind::WatchIll,
        Kind::StoreSlow,
        Kind::StoreLoading,
        Kind::ObjectsSlow,
        Kind::ObjectsLie,
        Kind::RegistryIll,
        Kind::RunscHangs,
        Kind::StoreFull,
        Kind::StoreFailsOver,
        Kind::StoreFlushed,
    ];

    /// What a swarm draws from: everything.
    pub const SWARM: &[Kind] = &Kind::ALL;

    /// Those of them that are drawn apart from the others, so that a plan that has none of them is what it was before
    /// there were any.
    pub const OUTSIDE: &[Kind] = Kind::SWARM.split_at(17).1;
}

/// Somebody that a fault strikes, as the fault counts them.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    Replica(&'a mut usize),
    Node(&'a mut usize),
    Worker(&'a mut usize, &'a mut usize),
    Actor(&'a mut usize),
    Everybody,
}

impl Fault {
    /// Of what kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Fault::ReplicaDies { .. } => Kind::ReplicaDies,
            Fault::ReplicaPauses { .. } => Kind::ReplicaPauses,
            Fault::ReplicaLeaves { .. } => Kind::ReplicaLeaves,
            Fault::NodeDies { .. } => Kind::NodeDies,
            Fault::NodePauses { .. } => Kind::NodePauses,
            Fault::AteomDies { .. } => Kind::AteomDies,
            Fault::PodReplaced { .. } => Kind::PodReplaced,
            Fault::PodLeaves { .. } => Kind::PodLeaves,
            Fault::SandboxDies { .. } => Kind::SandboxDies,
            Fault::StoreAway { .. } => Kind::StoreAway,
            Fault::StoreFailsOver { .. } => Kind::StoreFailsOver,
            Fault::StoreFlushed {} => Kind::StoreFlushed,
            Fault::NodeCutOff { .. } => Kind::NodeCutOff,
            Fault::RegistryHangs { .. } => Kind::RegistryHangs,
            Fault::ObjectsAway { .. } => Kind::ObjectsAway,
            Fault::SnapshotDamaged { .. } => Kind::SnapshotDamaged,
            Fault::DiskFull { .. } => Kind::DiskFull,
            Fault::DiskRefuses { .. } => Kind::DiskRefuses,
            Fault::ReplicaLost { .. } => Kind::ReplicaLost,
            Fault::NodeLost { .. } => Kind::NodeLost,
            Fault::ReplicaCut { .. } => Kind::ReplicaCut,
            Fault::NodeCutOneWay { .. } => Kind::NodeCutOneWay,
            Fault::WatchIll { .. } => Kind::WatchIll,
            Fault::StoreSlow { .. } => Kind::StoreSlow,
            Fault::StoreFull { .. } => Kind::StoreFull,
            Fault::StoreLoading { .. } => Kind::StoreLoading,
            Fault::ObjectsSlow { .. } => Kind::ObjectsSlow,
            Fault::ObjectsLie { .. } => Kind::ObjectsLie,
            Fault::RegistryIll { .. } => Kind::RegistryIll,
            Fault::RunscHangs { .. } => Kind::RunscHangs,
        }
    }

    /// For how long a process is not scheduled.
    pub fn pause(&self) -> Option<u64> {
        match self {
            Fault::ReplicaPauses { for_us, .. } | Fault::NodePauses { for_us, .. } => Some(*for_us),
            _ => None,
        }
    }

    /// How long it lasts, if it lasts.
    pub(crate) fn duration(&mut self) -> Option<&mut u64> {
        match self {
            Fault::ReplicaPauses { for_us, .. }
            | Fault::NodePauses { for_us, .. }
            | Fault::StoreAway { for_us }
            | Fault::NodeCutOff { for_us, .. }
            | Fault::RegistryHangs { for_us }
            | Fault::ObjectsAway { for_us }
            | Fault::DiskFull { for_us, .. }
            | Fault::PodLeaves { grace_us: for_us, .. }
            | Fault::StoreFailsOver { lag_us: for_us, .. }
            | Fault::ReplicaLost { for_us, .. }
            | Fault::NodeLost { for_us, .. }
            | Fault::ReplicaCut { for_us, .. }
            | Fault::NodeCutOneWay { for_us, .. }
            | Fault::WatchIll { for_us, .. }
            | Fault::StoreSlow { for_us, .. }
            | Fault::StoreFull { for_us, .. }
            | Fault::StoreLoading { for_us, .. }
            | Fault::ObjectsSlow { for_us, .. }
            | Fault::ObjectsLie { for_us, .. }
            | Fault::RegistryIll { for_us, .. }
            | Fault::RunscHangs { for_us, .. } => Some(for_us),
            _ => None,
        }
    }

    /// Whom it strikes.
    pub(crate) fn target(&mut self) -> Target<'_> {
        match self {
            Fault::ReplicaDies { replica, .. }
            | Fault::ReplicaPauses { replica, .. }
            | Fault::ReplicaLeaves { replica }
            | Fault::ReplicaLost { replica, .. }
            | Fault::ReplicaCut { replica, .. }
            | Fault::WatchIll { replica, .. } => Target::Replica(replica),
            Fault::NodeDies { node, .. }
            | Fault::NodePauses { node, .. }
            | Fault::NodeCutOff { node, .. }
            | Fault::DiskFull { node, .. }
            | Fault::DiskRefuses { node, .. }
            | Fault::NodeLost { node, .. }
            | Fault::NodeCutOneWay { node, .. }
            | Fault::RunscHangs { node, .. } => Target::Node(node),
            Fault::AteomDies { node, worker, .. }
            | Fault::PodReplaced { node, worker }
            | Fault::PodLeaves { node, worker, .. }
            | Fault::SandboxDies { node, worker } => Target::Worker(node, worker),
            Fault::SnapshotDamaged { actor } => Target::Actor(actor),
            Fault::StoreAway { .. }
            | Fault::StoreFailsOver { .. }
            | Fault::StoreFlushed {}
            | Fault::RegistryHangs { .. }
            | Fault::ObjectsAway { .. }
            | Fault::StoreSlow { .. }
            | Fault::StoreFull { .. }
            | Fault::StoreLoading { .. }
            | Fault::ObjectsSlow { .. }
            | Fault::ObjectsLie { .. }
            | Fault::RegistryIll { .. } => Target::Everybody,
        }
    }

    /// Whether there is somebody in a world of these sizes whom it can strike; if not, what is wrong.
    pub(super) fn fits(&self, sizes: &Sizes) -> Result<(), String> {
        let is_there = |what: &str, number: usize, many: usize| {
            if number < many {
                Ok(())
            } else {
                Err(format!(
                    "there is no {what} {number}: the world has {many}, counted from 0"
                ))
            }
        };
        let mut fault = self.clone();
        match fault.target() {
            Target::Replica(replica) => is_there("replica", *replica, sizes.replicas.len()),
            Target::Node(node) => is_there("node", *node, sizes.nodes.len()),
            Target::Worker(node, worker) => {
                is_there("node", *node, sizes.nodes.len())?;
                is_there("worker", *worker, sizes.nodes[*node].workers)
            }
            Target::Actor(actor) => is_there("actor", *actor, sizes.actors),
            Target::Everybody => Ok(()),
        }
    }
}
