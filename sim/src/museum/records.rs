//! What goes wrong with records: how actors' and workers' rows are written, and in which order.

use super::flaw::{Flaw, Passes};
use crate::plan::MILLI;
use crate::world::World;
use holdfast_core::actor::{Actor, State};
use holdfast_core::effect::{NodeCall, StoreOp, StoreReply, Verb};
use holdfast_core::id::{ActorKey, EffectId, Version};
use holdfast_core::replica::{Input, Output};
use holdfast_core::worker::Worker;
use std::collections::BTreeMap;

/// How long a write that nobody waits for stays in a queue, in microseconds.
const QUEUED: u64 = 200 * MILLI;

/// An actor is written whatever is stored: SET where a compare-and-set should be.
#[derive(Clone, Debug)]
pub(super) struct UnfencedWrite;

impl Flaw for UnfencedWrite {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::PutActor {
            expect,
            actor,
            release,
        } = op
        else {
            return None;
        };
        let stored = world.store().actors.get(&actor.key);
        if stored.map(Actor::edition) == *expect {
            return None;
        }
        let above = stored.map_or(Version::FIRST, |stored| stored.version.next());
        Some(StoreOp::PutActor {
            expect: stored.map(Actor::edition),
            actor: Box::new(Actor {
                version: actor.version.max(above),
                ..(**actor).clone()
            }),
            release: *release,
        })
    }
}

/// A worker is promised whatever is stored.
#[derive(Clone, Debug)]
pub(super) struct BlindPromise;

impl Flaw for BlindPromise {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::PutWorker { expect, worker } = op else {
            return None;
        };
        let stored = world.store().workers.get(&worker.key)?;
        if Some(stored.edition()) == *expect || worker.hosts.is_none() {
            return None;
        }
        Some(StoreOp::PutWorker {
            expect: Some(stored.edition()),
            worker: Box::new(Worker {
                version: worker.version.max(stored.version.next()),
                ..(**worker).clone()
            }),
        })
    }
}

/// An actor is deleted whatever has become of it since somebody looked.
#[derive(Clone, Debug)]
pub(super) struct BlindDelete;

impl Flaw for BlindDelete {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::DeleteActor { key, release, .. } = op else {
            return None;
        };
        Some(StoreOp::DeleteActor {
            key: key.clone(),
            expect: world.store().actors.get(key)?.edition(),
            release: *release,
        })
    }
}

/// A write of an actor that had no answer is taken for one that was done.
#[derive(Clone, Debug, Default)]
pub(super) struct ErrorIsSuccess(Writes);

/// A write of an actor that was refused, because it is not what it was, is taken for one that was done.
#[derive(Clone, Debug, Default)]
pub(super) struct ConflictIsSuccess(Writes);

/// Which writes of actors are under way, so that their answers are known when they come.
#[derive(Clone, Debug, Default)]
struct Writes(BTreeMap<(usize, EffectId), ()>);

impl Writes {
    fn note(&mut self, replica: usize, output: &Output) {
        if let Output::Store(effect, StoreOp::PutActor { .. }) = output {
            self.0.insert((replica, *effect), ());
        }
    }

    fn is_answered(&mut self, replica: usize, effect: EffectId) -> bool {
        self.0.remove(&(replica, effect)).is_some()
    }
}

impl Flaw for ErrorIsSuccess {
    fn replica_says(&mut self, _: &mut World, replica: usize, output: &mut Output) -> Passes {
        self.0.note(replica, output);
        Passes::On
    }

    fn replica_hears(&mut self, _: &mut World, replica: usize, input: &mut Input) -> Passes {
        if let Input::Stored(effect, result) = input
            && self.0.is_answered(replica, *effect)
            && result.is_err()
        {
            *result = Ok(StoreReply::Done);
        }
        Passes::On
    }
}

impl Flaw for ConflictIsSuccess {
    fn replica_says(&mut self, _: &mut World, replica: usize, output: &mut Output) -> Passes {
        self.0.note(replica, output);
        Passes::On
    }

    fn replica_hears(&mut self, _: &mut World, replica: usize, input: &mut Input) -> Passes {
        if let Input::Stored(effect, result) = input
            && self.0.is_answered(replica, *effect)
            && matches!(result, Ok(StoreReply::ActorConflict(Some(_))))
        {
            *result = Ok(StoreReply::Done);
        }
        Passes::On
    }
}

/// Workers are freed by whoever does not look whether it is done, and it is not.
#[derive(Clone, Debug)]
pub(super) struct FreedAndForgotten;

impl FreedAndForgotten {
    fn frees(world: &mut World, op: &StoreOp) -> bool {
        let StoreOp::PutWorker { worker, .. } = op else {
            return false;
        };
        let stored = world.store().workers.get(&worker.key);
        worker.hosts.is_none() && stored.is_some_and(|stored| stored.hosts.is_some())
    }
}

impl Flaw for FreedAndForgotten {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::PutWorker { worker, .. } = op else {
            return None;
        };
        Self::frees(world, op).then(|| StoreOp::GetWorker(worker.key.clone()))
    }

    fn store_answers(&mut self, world: &mut World, op: &StoreOp, reply: &mut StoreReply) {
        if Self::frees(world, op) {
            *reply = StoreReply::Done;
        }
    }
}

/// The worker is freed as soon as its node has checkpointed the actor, before the actor's record says so.
#[derive(Clone, Debug, Default)]
pub(super) struct FreedBeforeCommitted(BTreeMap<(usize, EffectId), ActorKey>);

impl Flaw for FreedBeforeCommitted {
    fn replica_says(&mut self, _: &mut World, replica: usize, output: &mut Output) -> Passes {
        if let Output::Node(effect, _, call) = output
            && matches!(call.verb, Verb::Checkpoint { .. })
        {
            self.0.insert((replica, *effect), call.actor.clone());
        }
        Passes::On
    }

    fn replica_hears(&mut self, world: &mut World, replica: usize, input: &mut Input) -> Passes {
        if let Input::Called(effect, Ok(())) = input
            && let Some(actor) = self.0.remove(&(replica, *effect))
        {
            free_worker_of(world, &actor);
        }
        Passes::On
    }
}

/// Whichever worker the actor is on is free, whatever its record says.
fn free_worker_of(world: &mut World, actor: &ActorKey) {
    let record = world.store().actors.get(actor);
    let Some(on) = record.and_then(Actor::assignment).cloned() else {
        return;
    };
    let Some(row) = world.store().workers.get(&on.worker).cloned() else {
        return;
    };
    if row.hosts.as_ref().is_some_and(|hosted| hosted.actor == *actor) {
        let key = row.key.clone();
        let free = StoreOp::PutWorker {
            expect: Some(row.edition()),
            worker: Box::new(Worker {
                version: row.version.next(),
                hosts: None,
                ..row
            }),
        };
        world.write_worker(&free, &key);
    }
}

/// The actor is pointed at a worker without waiting whether the worker's promise was written.
#[derive(Clone, Debug, Default)]
pub(super) struct PromiseNotAwaited;

impl Flaw for PromiseNotAwaited {
    fn replica_says(&mut self, world: &mut World, replica: usize, output: &mut Output) -> Passes {
        let Output::Store(effect, op @ StoreOp::PutWorker { worker, .. }) = &*output else {
            return Passes::On;
        };
        if worker.hosts.is_none() {
            return Passes::On;
        }
        world.store_does_in(QUEUED, replica, op.clone());
        let done = Input::Stored(*effect, Ok(StoreReply::Done));
        world.replica_hears_in(0, replica, done);
        Passes::Not
    }
}

/// An actor that is put to sleep without its newest state bears no mark of it.
#[derive(Clone, Debug)]
pub(super) struct LossNotTold;

impl Flaw for LossNotTold {
    fn replica_says(&mut self, _: &mut World, _: usize, output: &mut Output) -> Passes {
        if let Output::Store(_, StoreOp::PutActor { actor, .. }) = output
            && matches!(actor.state, State::Suspended | State::Paused)
        {
            actor.loss = None;
        }
        Passes::On
    }
}

/// A node's session is declared over by whoever has not heard of it, whether or not others have.
#[derive(Clone, Debug)]
pub(super) struct LapsedUnheard;

impl Flaw for LapsedUnheard {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::LapseNode(known) = op else {
            return None;
        };
        let now = world.store_shows();
        let (StoreReply::Nodes(rows), _) = world.store().perform(now, &StoreOp::ListNodes) else {
            return None;
        };
        let row = rows.into_iter().find(|row| row.name == known.name)?;
        Some(StoreOp::LapseNode(row))
    }
}

/// What a deleted actor leaves behind is nobody's business.
#[derive(Clone, Debug)]
pub(super) struct NoGraves;

impl Flaw for NoGraves {
    fn store_does(&mut self, _: &mut World, op: &StoreOp) -> Option<StoreOp> {
        match op {
            StoreOp::PutGrave(grave) => Some(StoreOp::GetActor(grave.actor.clone())),
            _ => None,
        }
    }

    fn store_answers(&mut self, _: &mut World, op: &StoreOp, reply: &mut StoreReply) {
        if matches!(op, StoreOp::PutGrave(_)) {
            *reply = StoreReply::Done;
        }
    }
}

/// Whether a call is to end with the actor asleep.
pub(super) fn is_checkpoint(call: &NodeCall) -> bool {
    matches!(call.verb, Verb::Checkpoint { .. })
}
