//! A state of the world: a tuple of parts.

use crate::flight::{Flight, Message};
use crate::history::History;
use crate::host::{Host, Snapshots};
use crate::part::{Part, Parts};
use crate::scope::Budget;
use crate::store::Store;
use holdfast_core::effect::StoreEvent;
use holdfast_core::id::RequestId;
use holdfast_core::node::Node;
use holdfast_core::replica::Replica;
use holdfast_core::time::Instant;
use std::collections::VecDeque;

/// How many replicas there are.
pub const SEATS: usize = 2;
/// How many nodes there is room for.
pub const NODES: usize = 2;

/// A state of the world.
#[derive(Clone)]
pub struct State {
    /// The replicas.
    pub seats: [Part<Seat>; SEATS],
    /// The nodes' daemons.
    pub atelets: [Part<Atelet>; NODES],
    /// What is true on the nodes.
    pub hosts: [Part<Host>; NODES],
    /// The store.
    pub store: Part<Store>,
    /// What is on its way.
    pub flight: Part<Flight>,
    /// Callers, the object store, and what may still go wrong.
    pub outside: Part<Outside>,
    /// What invariants remember.
    pub history: Part<History>,
}

/// The numbers of a state's parts: its exact name.
pub type Name = [u32; 2 + 2 + 2 + 4];

impl State {
    /// The numbers of its parts.
    pub fn name(&self) -> Name {
        [
            self.seats[0].number(),
            self.seats[1].number(),
            self.atelets[0].number(),
            self.atelets[1].number(),
            self.hosts[0].number(),
            self.hosts[1].number(),
            self.store.number(),
            self.flight.number(),
            self.outside.number(),
            self.history.number(),
        ]
    }
}

/// A replica's process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The machine, while the process lives.
    pub machine: Option<Replica>,
    /// Its clock: it stands still until a timer fires.
    pub now: Instant,
    /// What its watch has and it has not.
    pub watch: VecDeque<StoreEvent>,
    /// Whether its watch is behind.
    pub is_lagging: bool,
}

/// An atelet's process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Atelet {
    /// The machine; none where there is no node.
    pub machine: Option<Node>,
    /// Its clock.
    pub now: Instant,
}

/// What is outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outside {
    /// The callers.
    pub callers: Vec<Caller>,
    /// The node that the replicas cannot reach, and that cannot reach them.
    pub silent: Option<usize>,
    /// Snapshots in the object store.
    pub objects: Snapshots,
    /// What may still happen.
    pub budget: Budget,
}

/// A caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// How many of its wishes it has asked for.
    pub asked: usize,
    /// The request that it waits for, and the replica that it asked.
    pub waits: Option<(RequestId, usize)>,
}

/// Every distinct part of every state that has been seen.
#[derive(Default)]
pub struct Pools {
    /// Replicas.
    pub seats: Parts<Seat>,
    /// Nodes' daemons.
    pub atelets: Parts<Atelet>,
    /// Nodes.
    pub hosts: Parts<Host>,
    /// Stores.
    pub stores: Parts<Store>,
    /// Messages.
    pub messages: Parts<Message>,
    /// Multisets of messages.
    pub flights: Parts<Flight>,
    /// What is outside.
    pub outsides: Parts<Outside>,
    /// What invariants remember.
    pub histories: Parts<History>,
}
