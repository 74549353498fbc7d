//! What goes wrong on nodes: which orders are let in, what is remembered, and what becomes of sandboxes.

use super::flaw::{Flaw, Passes};
use crate::host::{Act, fails};
use crate::world::World;
use holdfast_core::id::{ActorKey, EffectId, Fence, Incarnation, OpId, PodUid, ReplicaId};
use holdfast_core::licence::Licensed;
use holdfast_core::node::{Described, Input, Kept, Memory, Order, Output, Work, WorkFailureKind, WorkResult};
use holdfast_core::replica;
use holdfast_core::session::Answered;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use std::collections::BTreeMap;

/// A node takes every order for the newest that there is: what is below the highest fence that it has seen counts as
/// if it were that.
#[derive(Clone, Debug, Default)]
pub(super) struct NoFences {
    actors: BTreeMap<(usize, ActorKey, Incarnation), Fence>,
    workers: BTreeMap<PodUid, Fence>,
    real: BTreeMap<OpId, (Fence, Fence)>,
}

impl Flaw for NoFences {
    fn order_arrives(&mut self, _: &mut World, node: usize, order: &mut Order) {
        if let Some(op) = order.op {
            self.real.insert(op, (order.fence, order.worker_fence));
        }
        let life = (node, order.actor.clone(), order.incarnation);
        let of_actor = self.actors.entry(life).or_default();
        *of_actor = order.fence.max(*of_actor);
        order.fence = *of_actor;
        let of_worker = self.workers.entry(order.worker.clone()).or_default();
        *of_worker = order.worker_fence.max(*of_worker);
        order.worker_fence = *of_worker;
    }

    fn fences_of(&self, order: &Order) -> Option<(Fence, Fence)> {
        self.real.get(&order.op?).copied()
    }
}

/// Every order is a new operation to a node, also the same one once more.
#[derive(Clone, Debug, Default)]
pub(super) struct RetryIsNew(u64);

impl Flaw for RetryIsNew {
    fn order_arrives(&mut self, _: &mut World, _: usize, order: &mut Order) {
        self.0 += 1;
        order.op = Some(OpId {
            replica: ReplicaId(0),
            seq: self.0,
        });
    }
}

/// What a node knew is gone when its daemon starts again.
#[derive(Clone, Debug)]
pub(super) struct NoJournal;

impl Flaw for NoJournal {
    fn node_hears(&mut self, _: &mut World, _: usize, input: &mut Input) -> Passes {
        if let Input::Start(memory) = input {
            *memory = Memory::default();
        }
        Passes::On
    }
}

/// What a disk has refused is taken for written.
#[derive(Clone, Debug)]
pub(super) struct RefusalUnheard;

impl Flaw for RefusalUnheard {
    fn node_hears(&mut self, _: &mut World, _: usize, input: &mut Input) -> Passes {
        if let Input::Kept(_, result) = input {
            *result = Ok(());
        }
        Passes::On
    }
}

/// The last record of the journal waits in memory for the next one, and is called written.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteBehind(BTreeMap<usize, (EffectId, Box<Kept>)>);

impl Flaw for WriteBehind {
    fn node_says(&mut self, world: &mut World, node: usize, output: &mut Output) -> Passes {
        let Output::Keep(effect, kept) = output else {
            return Passes::On;
        };
        world.node_hears_in(0, node, Input::Kept(*effect, Ok(())));
        if let Some((_, before)) = self.0.insert(node, (*effect, kept.clone())) {
            world.host(node).keep(&before);
        }
        Passes::Not
    }

    fn node_hears(&mut self, _: &mut World, node: usize, input: &mut Input) -> Passes {
        if let Input::Start(_) = input {
            self.0.remove(&node);
        }
        Passes::On
    }
}

/// An order that has been received is answered as if it had been carried out.
#[derive(Clone, Debug)]
pub(super) struct AcceptedIsDone;

impl Flaw for AcceptedIsDone {
    fn replica_says(&mut self, world: &mut World, replica: usize, output: &mut replica::Output) -> Passes {
        if let replica::Output::Node(effect, ..) = output {
            let done = replica::Input::Called(*effect, Ok(()));
            world.replica_hears_in(30_000, replica, done);
        }
        Passes::On
    }
}

/// Sandboxes run on when their node's session is over.
#[derive(Clone, Debug)]
pub(super) struct LicenceWithoutEnd;

impl Flaw for LicenceWithoutEnd {
    fn licence_hears(&mut self, licensed: &mut Licensed) -> Passes {
        match licensed {
            Licensed::Booted(until) | Licensed::Thaw(until) => *until = None,
            Licensed::Extended(_) | Licensed::Freeze => return Passes::Not,
            Licensed::Ended => {}
        }
        Passes::On
    }
}

/// What was frozen goes on as soon as the control plane is heard again, whatever it says.
#[derive(Clone, Debug)]
pub(super) struct ThawedUnasked;

impl Flaw for ThawedUnasked {
    fn node_hears(&mut self, world: &mut World, node: usize, input: &mut Input) -> Passes {
        if let Input::Reported(Ok(_)) = input {
            world.thaw_all(node);
        }
        Passes::On
    }
}

/// A node takes its session for half as long again as it was granted.
#[derive(Clone, Debug)]
pub(super) struct SessionTooLong;

impl Flaw for SessionTooLong {
    fn node_hears(&mut self, _: &mut World, _: usize, input: &mut Input) -> Passes {
        if let Input::Reported(Ok(Answered::Granted(grant))) = input {
            grant.ttl = grant.ttl * 3 / 2;
        }
        Passes::On
    }
}

/// A node's session ends for both sides after the same time, each by its own clock.
#[derive(Clone, Debug)]
pub(super) struct SessionWithoutMargin;

impl SessionWithoutMargin {
    fn strip(settings: &mut Settings) {
        settings.lease.drift_ppm = 0;
        settings.lease.margin = Duration::ZERO;
    }
}

impl Flaw for SessionWithoutMargin {
    fn sets_replicas(&self, settings: &mut Settings) {
        Self::strip(settings);
    }

    fn sets_nodes(&self, settings: &mut Settings) {
        Self::strip(settings);
    }
}

/// A worker whose ateom was restarted in place looks as it did before.
#[derive(Clone, Debug, Default)]
pub(super) struct RestartUnseen(BTreeMap<PodUid, Described>);

impl RestartUnseen {
    fn look(&mut self, uid: &PodUid, described: &mut Described) {
        let known = self.0.entry(uid.clone()).or_insert_with(|| described.clone());
        if known.incarnation == described.incarnation {
            known.clone_from(described);
        } else {
            described.clone_from(known);
        }
    }
}

impl Flaw for RestartUnseen {
    fn node_hears(&mut self, world: &mut World, node: usize, input: &mut Input) -> Passes {
        match input {
            Input::Worker(uid, described) => self.look(uid, described),
            Input::WorkerLost(uid) if world.host(node).ateoms.contains_key(uid) => return Passes::Not,
            _ => {}
        }
        Passes::On
    }
}

/// A Stop is answered as done, and what runs runs on.
#[derive(Clone, Debug)]
pub(super) struct StopDoesNothing;

impl Flaw for StopDoesNothing {
    fn ateom_acts(
        &mut self,
        _: &mut World,
        _: usize,
        _: &PodUid,
        act: &Act,
        _: &Order,
    ) -> Option<WorkResult> {
        (act.work == Work::Stop).then(|| Ok(Vec::new()))
    }
}

/// To stop what is not there fails, every time.
#[derive(Clone, Debug)]
pub(super) struct StopOfNothingFails;

impl Flaw for StopOfNothingFails {
    fn ateom_acts(
        &mut self,
        world: &mut World,
        node: usize,
        uid: &PodUid,
        act: &Act,
        _: &Order,
    ) -> Option<WorkResult> {
        let is_gone = world.host(node).sandbox_of(uid, &act.actor).is_none();
        (act.work == Work::Stop && is_gone).then(|| fails(WorkFailureKind::Fatal, "container does not exist"))
    }
}

/// A checkpoint leaves its sandbox running.
#[derive(Clone, Debug)]
pub(super) struct CheckpointLeavesSandbox;

impl Flaw for CheckpointLeavesSandbox {
    fn ateom_acts(
        &mut self,
        world: &mut World,
        node: usize,
        uid: &PodUid,
        act: &Act,
        _: &Order,
    ) -> Option<WorkResult> {
        if act.work != Work::Capture {
            return None;
        }
        let host = world.host(node);
        let count = host.sandbox_of(uid, &act.actor)?.count;
        host.captures.insert(act.op, count);
        Some(Ok(vec!["pages.img".into()]))
    }
}

/// A worker does not know how its last operation ended when it is asked once more.
#[derive(Clone, Debug)]
pub(super) struct ResultForgotten;

impl Flaw for ResultForgotten {
    fn ateom_notes(&mut self, _: &Act) -> Passes {
        Passes::Not
    }
}

/// Whoever comes to a worker's address is served, also who looks for an actor that was there before.
#[derive(Clone, Debug)]
pub(super) struct AnswersForOthers;

impl Flaw for AnswersForOthers {
    fn answers_for_others(&self) -> bool {
        true
    }
}

/// An image pull that moves nothing is waited for as long as it likes.
#[derive(Clone, Debug)]
pub(super) struct NoStall;

impl Flaw for NoStall {
    fn sets_nodes(&self, settings: &mut Settings) {
        settings.pull.stall_after = Duration::from_secs(86_400);
    }
}

/// A daemon that starts again empties its directories first, with the snapshots in them.
#[derive(Clone, Debug)]
pub(super) struct RestartEmptiesDisk;

impl Flaw for RestartEmptiesDisk {
    fn node_hears(&mut self, world: &mut World, node: usize, input: &mut Input) -> Passes {
        if let Input::Start(_) = input {
            world.delete_locals(node);
        }
        Passes::On
    }
}
