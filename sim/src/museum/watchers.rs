//! What goes wrong with those who watch pods, and with the watches of the store.

use super::flaw::{Flaw, Passes};
use crate::plan::Fault;
use crate::world::World;
use holdfast_core::actor::{Actor, Change};

use holdfast_core::id::{PodUid, Version};
use holdfast_core::replica::Input;

/// A pod that is told to go has gone: its actor sleeps at once, while the sandbox runs on for as long as the pod
/// may take.
#[derive(Clone, Debug)]
pub(super) struct ResetOnSoftDelete;

impl Flaw for ResetOnSoftDelete {
    fn fault_strikes(&mut self, world: &mut World, fault: &Fault) {
        if let Fault::PodLeaves { node, worker, .. } = *fault
            && let Some(uid) = world.pod_at(node, worker)
        {
            reset(world, &uid);
        }
    }
}

/// When a pod is gone, its actor is written down as asleep, whatever it was doing, and nobody's lease is asked for.
#[derive(Clone, Debug)]
pub(super) struct WatcherOverwrites;

impl Flaw for WatcherOverwrites {
    fn fault_strikes(&mut self, world: &mut World, fault: &Fault) {
        if let Fault::PodReplaced { node, worker } = *fault
            && let Some(uid) = world.pod_at(node, worker)
        {
            reset(world, &uid);
        }
    }
}

/// The actor on that pod sleeps at its last snapshot, and nothing was lost.
fn reset(world: &mut World, uid: &PodUid) {
    let mut actors = world.store().actors.values();
    let tenant = actors.find(|actor| actor.assignment().is_some_and(|on| on.pod_uid == *uid));
    let nothing_lost = Change::Reset { loss: None };
    let asleep = tenant.and_then(|actor: &Actor| actor.after(&nothing_lost, None, Version::FIRST).ok());
    if let Some(asleep) = asleep {
        world.overwrite(asleep);
    }
}

/// Whoever watches the store hears nothing any more, and is not told that it does not.
#[derive(Clone, Debug)]
pub(super) struct WatchIsDead;

impl Flaw for WatchIsDead {
    fn replica_hears(&mut self, _: &mut World, _: usize, input: &mut Input) -> Passes {
        match input {
            Input::Watched(_) => Passes::Not,
            _ => Passes::On,
        }
    }
}
