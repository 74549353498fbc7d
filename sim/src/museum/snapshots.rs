//! What goes wrong with snapshots: how they are stored, fetched, pointed at and collected.

use super::flaw::{Flaw, Passes};
use super::records::is_checkpoint;
use crate::host::whereabouts;
use crate::world::World;
use holdfast_core::actor::Snapshot;
use holdfast_core::effect::{NodeFailureKind, Place, Verb};
use holdfast_core::id::EffectId;
use holdfast_core::node::{Order, Work, WorkFailureKind, WorkResult};
use holdfast_core::replica::{Input, Output};
use std::collections::BTreeSet;

/// An upload whose error comes at its very end is taken for one that was done.
#[derive(Clone, Debug)]
pub(super) struct ErrorOnClose;

impl Flaw for ErrorOnClose {
    fn step_ends(
        &mut self,
        world: &mut World,
        _: usize,
        work: &Work,
        order: &Order,
        result: &mut WorkResult,
    ) {
        let is_upload = matches!(whereabouts(&order.verb), Some((_, false))) || *work == Work::Upload;
        if matches!(work, Work::Save(_) | Work::Upload) && is_upload && world.objects_are_away() {
            *result = Ok(Vec::new());
        }
    }
}

/// A snapshot is called saved on a disk that had no room for it.
#[derive(Clone, Debug)]
pub(super) struct ShortWrite;

impl Flaw for ShortWrite {
    fn step_ends(
        &mut self,
        world: &mut World,
        node: usize,
        work: &Work,
        order: &Order,
        result: &mut WorkResult,
    ) {
        let is_local = matches!(whereabouts(&order.verb), Some((_, true)));
        if matches!(work, Work::Save(_)) && is_local && world.has_full_disk(node) {
            *result = Ok(Vec::new());
        }
    }
}

/// A snapshot that was damaged is restored as it is.
#[derive(Clone, Debug)]
pub(super) struct NoChecksum;

impl Flaw for NoChecksum {
    fn step_ends(
        &mut self,
        world: &mut World,
        node: usize,
        work: &Work,
        order: &Order,
        result: &mut WorkResult,
    ) {
        let is_damaged = result
            .as_ref()
            .is_err_and(|failure| failure.kind == WorkFailureKind::Fatal);
        if *work == Work::Fetch && is_damaged {
            boots_empty(world, node, order, result);
        }
    }
}

/// An object store that does not answer is taken for one that has no snapshot, and the actor begins anew.
#[derive(Clone, Debug)]
pub(super) struct AwayIsAbsent;

impl Flaw for AwayIsAbsent {
    fn step_ends(
        &mut self,
        world: &mut World,
        node: usize,
        work: &Work,
        order: &Order,
        result: &mut WorkResult,
    ) {
        if *work == Work::Fetch && result.is_err() && world.objects_are_away() {
            boots_empty(world, node, order, result);
        }
    }
}

fn boots_empty(world: &mut World, node: usize, order: &Order, result: &mut WorkResult) {
    world.host(node).staged.insert(order.worker.clone(), 0);
    *result = Ok(Vec::new());
}

/// The old snapshot is deleted as soon as the new one is stored, before the record points at that.
#[derive(Clone, Debug)]
pub(super) struct CollectedBeforeCommitted;

impl Flaw for CollectedBeforeCommitted {
    fn step_ends(
        &mut self,
        world: &mut World,
        _: usize,
        work: &Work,
        order: &Order,
        result: &mut WorkResult,
    ) {
        if !matches!(work, Work::Save(_) | Work::Upload) || result.is_err() {
            return;
        }
        let record = world.store().actors.get(&order.actor);
        if let Some(Snapshot::External(latest)) = record.and_then(|actor| actor.latest.clone()) {
            world.delete_object(latest);
        }
    }
}

/// An actor is restored from the snapshot before the last, which somebody has remembered.
#[derive(Clone, Debug)]
pub(super) struct StalePointer;

impl Flaw for StalePointer {
    fn order_arrives(&mut self, world: &mut World, _: usize, order: &mut Order) {
        let record = world.store().actors.get(&order.actor);
        let before = record.and_then(|actor| actor.fallback.clone());
        if let Verb::Restore {
            from: Place::External(name),
            ..
        } = &mut order.verb
            && let Some(before) = before
            && world.object(&before).is_some()
        {
            *name = before;
        }
    }
}

/// Whoever deletes what an actor has let go of deletes everything that the actor has.
#[derive(Clone, Debug)]
pub(super) struct CollectsTooMuch;

impl Flaw for CollectsTooMuch {
    fn replica_says(&mut self, world: &mut World, _: usize, output: &mut Output) -> Passes {
        if let Output::Discard(_, _, discard) = output
            && let Some(actor) = world.store().actors.get(&discard.actor)
        {
            let external = actor
                .snapshots()
                .into_iter()
                .filter_map(|snapshot| match snapshot {
                    Snapshot::External(name) => Some(Place::External(name)),
                    Snapshot::Local { .. } => None,
                });
            discard.snapshots.extend(external);
        }
        Passes::On
    }
}

/// What was to be deleted is called deleted, and is not.
#[derive(Clone, Debug)]
pub(super) struct CollectsNothing;

impl Flaw for CollectsNothing {
    fn replica_says(&mut self, _: &mut World, _: usize, output: &mut Output) -> Passes {
        if let Output::Discard(_, _, discard) = output {
            discard.snapshots.clear();
        }
        Passes::On
    }
}

/// A checkpoint that finds nothing to save is as good as one that was saved.
#[derive(Clone, Debug, Default)]
pub(super) struct NothingIsSaved(BTreeSet<(usize, EffectId)>);

impl Flaw for NothingIsSaved {
    fn replica_says(&mut self, _: &mut World, replica: usize, output: &mut Output) -> Passes {
        if let Output::Node(effect, _, call) = output
            && is_checkpoint(call)
        {
            self.0.insert((replica, *effect));
        }
        Passes::On
    }

    fn replica_hears(&mut self, _: &mut World, replica: usize, input: &mut Input) -> Passes {
        if let Input::Called(effect, reply) = input
            && self.0.remove(&(replica, *effect))
            && let Err(failure) = reply
            && failure.kind == NodeFailureKind::SandboxGone
        {
            *reply = Ok(());
        }
        Passes::On
    }
}
