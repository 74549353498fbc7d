//! What one run is made of: how large its world is, which faults are armed, and how often they strike.

use crate::clock::{self, Clock, Spread};
use crate::rng::Rng;
use holdfast_core::bounds::Bound;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// Microseconds per second.
pub const SECOND: u64 = 1_000_000;
/// Microseconds per millisecond.
pub const MILLI: u64 = 1_000;

/// The longest that a process is not scheduled, in microseconds.
pub const PAUSE_MAX: u64 = 50 * SECOND;

/// Something that goes wrong in the outside world, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A replica dies after a few more outputs, and starts again as another one.
    ReplicaDies,
    /// A replica is not scheduled for a while, perhaps beyond its leases, after a few more outputs.
    ReplicaPauses,
    /// A replica is told to shut down, and starts again as another one.
    ReplicaLeaves,
    /// An atelet dies after a few more outputs, and starts again with its disk.
    NodeDies,
    /// An atelet is not scheduled for a while.
    NodePauses,
    /// The ateom of a worker dies with its sandbox, and starts again in place.
    AteomDies,
    /// A worker's pod is deleted, and another one comes by the same name.
    PodReplaced,
    /// A worker's pod is told to go, has a while to drain, and is then replaced.
    PodLeaves,
    /// A sandbox dies.
    SandboxDies,
    /// Nobody reaches the store for a while.
    StoreAway,
    /// A standby of the store takes over, which has not heard of the last writes that were acknowledged.
    StoreFailsOver,
    /// The store is emptied, and an operator makes the atespace anew.
    StoreFlushed,
    /// A node and the replicas do not reach each other for a while.
    NodeCutOff,
    /// The same, until long after the node's session is over.
    NodePartitioned,
    /// The image registry hangs for a while.
    RegistryHangs,
    /// The object store fails for a while.
    ObjectsAway,
    /// The snapshot that an actor would be resumed from is damaged.
    SnapshotDamaged,
    /// A node's disk is full for a while: nothing is journalled, fetched or saved there.
    DiskFull,
    /// A node's disk refuses some writes of the journal.
    DiskRefuses,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 19] = [
        Fault::ReplicaDies,
        Fault::ReplicaPauses,
        Fault::ReplicaLeaves,
        Fault::NodeDies,
        Fault::NodePauses,
        Fault::AteomDies,
        Fault::PodReplaced,
        Fault::PodLeaves,
        Fault::SandboxDies,
        Fault::StoreAway,
        Fault::StoreFailsOver,
        Fault::StoreFlushed,
        Fault::NodeCutOff,
        Fault::NodePartitioned,
        Fault::RegistryHangs,
        Fault::ObjectsAway,
        Fault::SnapshotDamaged,
        Fault::DiskFull,
        Fault::DiskRefuses,
    ];

    /// What a swarm draws from: every fault but those under which the core is known to stand still (see
    /// `docs/protocol.md`, Not there yet).
    pub const SWARM: [Fault; 17] = [
        Fault::ReplicaDies,
        Fault::ReplicaPauses,
        Fault::ReplicaLeaves,
        Fault::NodeDies,
        Fault::NodePauses,
        Fault::AteomDies,
        Fault::PodReplaced,
        Fault::PodLeaves,
        Fault::SandboxDies,
        Fault::StoreAway,
        Fault::NodeCutOff,
        Fault::NodePartitioned,
        Fault::RegistryHangs,
        Fault::ObjectsAway,
        Fault::SnapshotDamaged,
        Fault::DiskFull,
        Fault::DiskRefuses,
    ];
}

/// One run's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of everything that is left to chance.
    pub seed: u64,
    /// How many replicas.
    pub replicas: usize,
    /// How many nodes.
    pub nodes: usize,
    /// How many workers on each.
    pub workers_per_node: usize,
    /// How many actors.
    pub actors: usize,
    /// How many callers at once.
    pub callers: usize,
    /// How long faults strike and callers call, in microseconds.
    pub storm: u64,
    /// The faults that may strike.
    pub faults: Vec<Fault>,
    /// The mean time between two of them, in microseconds.
    pub fault_every: u64,
    /// Of a thousand store operations, how many lose their answer after they took effect.
    pub store_deaf: u64,
    /// Of a thousand node calls, how many are lost, lose their answer, or arrive after they were given up.
    pub calls_lost: u64,
    /// Of a thousand steps on a node, how many fail though nothing is wrong.
    pub steps_fail: u64,
    /// The settings of all machines.
    pub settings: Settings,
    /// What they take for the time.
    pub clocks: Clocks,
}

/// The clocks of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The store's.
    pub store: Clock,
    /// Each replica's.
    pub replicas: Vec<Clock>,
    /// Each node's.
    pub nodes: Vec<Clock>,
}

impl Clocks {
    /// All of them, right.
    pub fn right(replicas: usize, nodes: usize) -> Clocks {
        Clocks {
            store: Clock::TRUE,
            replicas: vec![Clock::TRUE; replicas],
            nodes: vec![Clock::TRUE; nodes],
        }
    }

    /// So far apart.
    fn spread(spread: Spread, replicas: usize, nodes: usize, rng: &mut Rng, settings: &Settings) -> Clocks {
        let mut some = |many: usize| (0..many).map(|_| spread.clock(rng, settings)).collect();
        Clocks {
            replicas: some(replicas),
            nodes: some(nodes),
            store: spread.clock(rng, settings),
        }
    }

    /// Every clock.
    pub fn all(&self) -> Vec<Clock> {
        let others = self.replicas.iter().chain(&self.nodes);
        others.chain([&self.store]).copied().collect()
    }
}

impl Plan {
    /// A small world with a random subset of faults, all drawn from `seed` (swarm testing: faults
    /// that are always armed together hide each other).
    pub fn small(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        let mut settings = Settings::DEFAULT;
        settings.workflow.deadline = Duration::from_secs(120);
        settings.pull.stall_after = Duration::from_secs(10);
        settings.workflow.collect_after = Duration::from_secs(10);
        if rng.permille(300) {
            settings = settings.with_lease_ttl(Duration::from_secs(10));
        }
        if rng.permille(300) {
            settings.pull.abandon_grace = Duration::from_secs(5);
        }
        let appetite = rng.between(100, 600);
        let some = |rng: &mut Rng, most: u64| {
            if rng.permille(500) {
                rng.between(1, most)
            } else {
                0
            }
        };
        let spread = match rng.below(20) {
            0..6 => Spread::Apart,
            6..12 => Spread::Inside,
            12..17 => Spread::AtTheBound,
            17..19 => Spread::JustOutside,
            _ => Spread::FarOutside,
        };
        let (replicas, nodes) = (rng.between(1, 3) as usize, rng.between(1, 3) as usize);
        Plan {
            seed,
            replicas,
            nodes,
            clocks: Clocks::spread(spread, replicas, nodes, &mut rng, &settings),
            workers_per_node: rng.between(1, 2) as usize,
            actors: rng.between(2, 5) as usize,
            callers: rng.between(1, 4) as usize,
            storm: 300 * SECOND,
            faults: Fault::SWARM
                .into_iter()
                .filter(|_| rng.permille(appetite))
                .collect(),
            fault_every: rng.between(3, 30) * SECOND,
            store_deaf: some(&mut rng, 40),
            calls_lost: some(&mut rng, 200),
            steps_fail: some(&mut rng, 60),
            settings,
        }
    }

    /// A world in which nothing goes wrong.
    pub fn fair(seed: u64) -> Plan {
        Plan {
            faults: Vec::new(),
            store_deaf: 0,
            calls_lost: 0,
            steps_fail: 0,
            ..Plan::small(seed)
        }
    }

    /// A world in which nothing is left to chance: two replicas, two nodes with a worker each, and nobody
    /// who calls.
    pub fn scripted() -> Plan {
        let mut settings = Settings::DEFAULT;
        settings.workflow.deadline = Duration::from_secs(30);
        settings.workflow.sweep_every = Duration::from_secs(5);
        settings.workflow.settle_after = Duration::from_secs(5);
        settings.workflow.retry_to = Duration::from_secs(2);
        settings.node.heartbeat_every = Duration::from_secs(10);
        settings.pull.stall_after = Duration::from_secs(5);
        Plan {
            replicas: 2,
            nodes: 2,
            workers_per_node: 1,
            actors: 1,
            callers: 0,
            clocks: Clocks::right(2, 2),
            storm: u64::MAX,
            settings,
            ..Plan::fair(0)
        }
    }

    /// How long after the last fault every actor must be at rest or serving, in microseconds: the
    /// longest chain of waits that the settings allow.
    ///
    /// A workflow that began just before the calm may run to its deadline against a pull that hung;
    /// the lease of a dead replica runs out; what is left is found by the next sweep, settled, and
    /// found once more if two replicas looked at it at once.
    pub fn recovery(&self) -> u64 {
        PAUSE_MAX + self.settling()
    }

    /// The same where nobody sleeps any more.
    pub fn settling(&self) -> u64 {
        let settled = Bound::Settled.of(&self.settings).as_micros() as u64;
        clock::longest(settled, &self.clocks.all())
    }
}
