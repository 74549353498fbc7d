//! What one run is made of, as data: the size of its world, its settings and clocks, what goes wrong and
//! when, and who asks for what.
//!
//! A plan is what is run, shrunk and stored; a seed only makes one ([`swarm`]). Nothing but the noise (how
//! long a message takes, which answer is lost) is left to chance, and that has a seed of its own. As a
//! document it is JSON; what it does not know it refuses ([`document`]).

pub mod document;
mod durations;
mod fault;
mod kinds;
mod shapes;
mod swarm;

use crate::clock::{self, Clock};
use crate::fact::Asked;
use holdfast_core::bounds::Bound;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use serde::{Deserialize, Serialize};

pub use durations::Durations;
pub(crate) use fault::Target;
pub use fault::{Fault, Ill, Kind, Way};
pub use shapes::Shape;
pub use swarm::Recipe;

/// Microseconds per second.
pub const SECOND: u64 = 1_000_000;
/// Microseconds per millisecond.
pub const MILLI: u64 = 1_000;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it shows, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// How large it is.
    pub world: Sizes,
    /// The settings of all machines.
    pub settings: Durations,
    /// What is left to chance.
    pub noise: Noise,
    /// How long faults strike and callers call, in microseconds.
    pub storm_us: u64,
    /// What goes wrong.
    pub faults: Vec<Strike>,
    /// What callers want.
    pub requests: Vec<Wish>,
}

/// How many there are of everything, and the clock of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// The store's clock.
    pub store: Clock,
    /// The clock of each replica.
    pub replicas: Vec<Clock>,
    /// The nodes.
    pub nodes: Vec<NodeSize>,
    /// How many actors can be asked for.
    pub actors: usize,
    /// How many callers at once.
    pub callers: usize,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSize {
    /// The clock that all its processes share.
    pub clock: Clock,
    /// How many workers it has.
    pub workers: usize,
}

/// What goes wrong by chance all the time, and how long everything takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// The seed of it.
    pub seed: u64,
    /// Of a thousand store operations, how many lose their answer after they took effect.
    pub store_deaf: u64,
    /// Of a thousand node calls, how many are lost, lose their answer, or arrive after they were given up.
    pub calls_lost: u64,
    /// Of a thousand node calls, how many arrive once more, soon or much later, whether or not they were answered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls_repeated: u64,
    /// Of a thousand steps on a node, how many fail though nothing is wrong.
    pub steps_fail: u64,
}

fn is_zero(odds: &u64) -> bool {
    *odds == 0
}

/// Something that goes wrong once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// When, in microseconds.
    pub at_us: u64,
    /// What.
    pub fault: Fault,
}

/// What a caller wants. It repeats what may be repeated, creates what is not there, and brings back what has
/// crashed; what it is to want next it wants when it is done with that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// From when on, in microseconds.
    pub at_us: u64,
    /// Which caller.
    pub caller: usize,
    /// Of which actor.
    pub actor: usize,
    /// What.
    pub what: Asked,
    /// Whether a Resume is to begin with a fresh boot where there is no snapshot yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// After how many microseconds the caller leaves without its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves_after_us: Option<u64>,
}

impl Plan {
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
        let node = NodeSize {
            clock: Clock::TRUE,
            workers: 1,
        };
        Plan {
            about: String::new(),
            world: Sizes {
                store: Clock::TRUE,
                replicas: vec![Clock::TRUE; 2],
                nodes: vec![node.clone(), node],
                actors: 1,
                callers: 0,
            },
            settings: Durations::of(&settings),
            noise: Noise {
                seed: 0,
                store_deaf: 0,
                calls_lost: 0,
                calls_repeated: 0,
                steps_fail: 0,
            },
            storm_us: u64::MAX,
            faults: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Every clock of its world.
    pub fn clocks(&self) -> Vec<Clock> {
        let nodes = self.world.nodes.iter().map(|node| node.clock);
        let others = self.world.replicas.iter().copied().chain(nodes);
        others.chain([self.world.store]).collect()
    }

    /// Whether a fault of that kind strikes.
    pub fn has(&self, kind: Kind) -> bool {
        self.faults.iter().any(|strike| strike.fault.kind() == kind)
    }

    /// How long after the last fault every actor must be at rest or serving, in microseconds: the
    /// longest chain of waits that the settings allow.
    ///
    /// A workflow that began just before the calm may run to its deadline against a pull that hung;
    /// the lease of a dead replica runs out; what is left is found by the next sweep, settled, and
    /// found once more if two replicas looked at it at once.
    pub fn recovery(&self) -> u64 {
        let pauses = self.faults.iter().filter_map(|strike| strike.fault.pause());
        pauses.max().unwrap_or_default() + self.settling()
    }

    /// The same where nobody sleeps any more.
    pub fn settling(&self) -> u64 {
        let settled = Bound::Settled.of(&self.settings.settings()).as_micros() as u64;
        clock::longest(settled, &self.clocks())
    }
}
