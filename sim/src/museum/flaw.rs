//! A flaw: what stands between a machine and its world, and does not keep its contract.
//!
//! The machines are the core's, whole and sound. A flaw changes what one of them hears, or what becomes of
//! what it asks for, so that machine and flaw together behave like a system that has the defect. Whoever
//! looks on from outside, and the oracles do, cannot tell the difference.

use crate::host::Act;
use crate::plan::Fault;
use crate::world::World;
use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_core::id::{Fence, PodUid};
use holdfast_core::licence::Licensed;
use holdfast_core::node::{self, Order, Work, WorkResult};
use holdfast_core::replica;
use holdfast_core::settings::Settings;

/// Whether something goes on to where it was meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    /// It does, perhaps changed.
    On,
    /// It does not.
    Not,
}

/// See the module. What a flaw leaves out of this it leaves alone.
///
/// While a flaw is asked, nobody asks it anything else: what it does to the world in its answer goes the sound way.
pub(crate) trait Flaw: Fork {
    /// What replicas are set to.
    fn sets_replicas(&self, _settings: &mut Settings) {}

    /// What nodes are set to.
    fn sets_nodes(&self, _settings: &mut Settings) {}

    /// A replica is about to hear something.
    fn replica_hears(&mut self, _world: &mut World, _replica: usize, _input: &mut replica::Input) -> Passes {
        Passes::On
    }

    /// A replica has asked for something, or answers.
    fn replica_says(&mut self, _world: &mut World, _replica: usize, _output: &mut replica::Output) -> Passes {
        Passes::On
    }

    /// The store is about to perform an operation; what it performs instead, if anything.
    fn store_does(&mut self, _world: &mut World, _op: &StoreOp) -> Option<StoreOp> {
        None
    }

    /// The store has performed an operation, or what was performed instead of it, and is about to answer.
    fn store_answers(&mut self, _world: &mut World, _op: &StoreOp, _reply: &mut StoreReply) {}

    /// An order has reached a node.
    fn order_arrives(&mut self, _world: &mut World, _node: usize, _order: &mut Order) {}

    /// The fences that an order really bears, where the node was shown others.
    fn fences_of(&self, _order: &Order) -> Option<(Fence, Fence)> {
        None
    }

    /// A node is about to hear something.
    fn node_hears(&mut self, _world: &mut World, _node: usize, _input: &mut node::Input) -> Passes {
        Passes::On
    }

    /// A node has asked for something, or answers.
    fn node_says(&mut self, _world: &mut World, _node: usize, _output: &mut node::Output) -> Passes {
        Passes::On
    }

    /// A step that the atelet performs itself is done, like this.
    fn step_ends(
        &mut self,
        _world: &mut World,
        _node: usize,
        _work: &Work,
        _order: &Order,
        _result: &mut WorkResult,
    ) {
    }

    /// An ateom is about to do something; how it ends, if it is not done as it should be.
    fn ateom_acts(
        &mut self,
        _world: &mut World,
        _node: usize,
        _uid: &PodUid,
        _act: &Act,
        _order: &Order,
    ) -> Option<WorkResult> {
        None
    }

    /// An ateom has done something, and is about to note how it ended, so that it says the same when it is asked
    /// again.
    fn ateom_notes(&mut self, _act: &Act) -> Passes {
        Passes::On
    }

    /// A worker's licence is about to hear something.
    fn licence_hears(&mut self, _licensed: &mut Licensed) -> Passes {
        Passes::On
    }

    /// A fault is about to strike.
    fn fault_strikes(&mut self, _world: &mut World, _fault: &Fault) {}

    /// Whether a sandbox answers requests that were meant for another actor.
    fn answers_for_others(&self) -> bool {
        false
    }
}

/// What lets a world be forked together with the flaw in it.
pub(crate) trait Fork {
    /// Another one in the same state.
    fn fork(&self) -> Box<dyn Flaw>;
}

impl<T: Flaw + Clone + 'static> Fork for T {
    fn fork(&self) -> Box<dyn Flaw> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Flaw> {
    fn clone(&self) -> Self {
        (**self).fork()
    }
}
