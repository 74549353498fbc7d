//! A world with a flaw in it: where the flaw is asked, and what it can reach.
//!
//! In a world without one each of these costs one comparison.

use super::{Answered, Event, Story, World};
use crate::fact::Fact;
use crate::host::{Act, Host};
use crate::museum::flaw::{Flaw, Passes};
use crate::plan::{Fault, Plan};
use crate::store::Store;
use holdfast_core::actor::Actor;
use holdfast_core::effect::{Place, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, EffectId, Fence, LeaseToken, Name, PodUid, WorkerKey};
use holdfast_core::licence::Licensed;
use holdfast_core::node::{self, Order, Work, WorkResult};
use holdfast_core::replica;
use holdfast_core::settings::Settings;
use holdfast_core::time::Instant;

impl World {
    /// The world at its beginning, with a flaw in it.
    pub(crate) fn flawed(plan: Plan, story: Story, flaw: Box<dyn Flaw>) -> World {
        let mut world = World::new(plan, story);
        world.flaw = Some(flaw);
        world
    }

    /// Asks the flaw, if there is one; it is not asked anything else meanwhile.
    fn of_flaw<T>(&mut self, ask: impl FnOnce(&mut dyn Flaw, &mut World) -> T) -> Option<T> {
        let mut flaw = self.flaw.take()?;
        let answer = ask(&mut *flaw, self);
        self.flaw = Some(flaw);
        Some(answer)
    }

    fn goes_on(&mut self, ask: impl FnOnce(&mut dyn Flaw, &mut World) -> Passes) -> bool {
        self.flaw.is_none() || self.of_flaw(ask) != Some(Passes::Not)
    }

    pub(super) fn settings_of_replicas(&self) -> Settings {
        let mut settings = self.settings;
        self.flaw
            .iter()
            .for_each(|flaw| flaw.sets_replicas(&mut settings));
        settings
    }

    pub(super) fn settings_of_nodes(&self) -> Settings {
        let mut settings = self.settings;
        self.flaw.iter().for_each(|flaw| flaw.sets_nodes(&mut settings));
        settings
    }

    pub(super) fn replica_may_hear(&mut self, replica: usize, input: &mut replica::Input) -> bool {
        self.goes_on(|flaw, world| flaw.replica_hears(world, replica, input))
    }

    pub(super) fn replica_may_say(&mut self, replica: usize, output: &mut replica::Output) -> bool {
        self.goes_on(|flaw, world| flaw.replica_says(world, replica, output))
    }

    pub(super) fn done_instead(&mut self, op: &StoreOp) -> Option<StoreOp> {
        self.of_flaw(|flaw, world| flaw.store_does(world, op)).flatten()
    }

    pub(super) fn flaw_of_answer(&mut self, op: &StoreOp, reply: &mut StoreReply) {
        self.of_flaw(|flaw, world| flaw.store_answers(world, op, reply));
    }

    pub(super) fn flaw_of_order(&mut self, node: usize, order: &mut Order) {
        self.of_flaw(|flaw, world| flaw.order_arrives(world, node, order));
    }

    /// The actor's and the worker's fence under which an order was given.
    pub(super) fn fences_of(&self, order: &Order) -> (Fence, Fence) {
        let real = self.flaw.as_ref().and_then(|flaw| flaw.fences_of(order));
        real.unwrap_or((order.fence, order.worker_fence))
    }

    pub(super) fn node_may_hear(&mut self, node: usize, input: &mut node::Input) -> bool {
        self.goes_on(|flaw, world| flaw.node_hears(world, node, input))
    }

    pub(super) fn node_may_say(&mut self, node: usize, output: &mut node::Output) -> bool {
        self.goes_on(|flaw, world| flaw.node_says(world, node, output))
    }

    pub(super) fn flaw_of_step(&mut self, node: usize, work: &Work, order: &Order, result: &mut WorkResult) {
        self.of_flaw(|flaw, world| flaw.step_ends(world, node, work, order, result));
    }

    pub(super) fn acted_instead(
        &mut self,
        node: usize,
        uid: &PodUid,
        act: &Act,
        order: &Order,
    ) -> Option<WorkResult> {
        self.of_flaw(|flaw, world| flaw.ateom_acts(world, node, uid, act, order))
            .flatten()
    }

    pub(super) fn ateom_may_note(&mut self, act: &Act) -> bool {
        self.goes_on(|flaw, _| flaw.ateom_notes(act))
    }

    pub(super) fn licence_may_hear(&mut self, licensed: &mut Licensed) -> bool {
        self.goes_on(|flaw, _| flaw.licence_hears(licensed))
    }

    pub(super) fn flaw_of_fault(&mut self, fault: &Fault) {
        self.of_flaw(|flaw, world| flaw.fault_strikes(world, fault));
    }

    pub(super) fn answers_for_others(&self) -> bool {
        self.flaw.as_ref().is_some_and(|flaw| flaw.answers_for_others())
    }
}

/// What a flaw can reach.
impl World {
    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// What the store's clock shows.
    pub(crate) fn store_shows(&self) -> Instant {
        self.store_now()
    }

    pub(crate) fn host(&mut self, node: usize) -> &mut Host {
        &mut self.hosts[node]
    }

    /// The acquisition that a replica asked for last, of that actor.
    pub(crate) fn token(&self, replica: usize, actor: &ActorKey) -> Option<LeaseToken> {
        self.replicas[replica].tokens.get(actor).copied()
    }

    /// Whoever is in that place of a node now.
    pub(crate) fn pod_at(&self, node: usize, worker: usize) -> Option<PodUid> {
        self.worker_at(node, worker)
    }

    /// Whether the object store does not answer now.
    pub(crate) fn objects_are_away(&self) -> bool {
        self.now < self.objects_away_until
    }

    /// Whether that node's disk is full.
    pub(crate) fn has_full_disk(&self, node: usize) -> bool {
        self.disk_is_full(node)
    }

    /// A replica's process hears this after a while, if it still runs.
    pub(crate) fn replica_hears_in(&mut self, micros: u64, replica: usize, input: replica::Input) {
        let life = self.replicas[replica].life;
        self.at(self.now + micros, Event::Replica(replica, life, input));
    }

    /// A node's atelet hears this after a while, if it still runs.
    pub(crate) fn node_hears_in(&mut self, micros: u64, node: usize, input: node::Input) {
        let life = self.hosts[node].life;
        self.at(self.now + micros, Event::Node(node, life, input));
    }

    /// A replica asks for something, or answers, besides what it does anyhow.
    pub(crate) fn replica_says_too(&mut self, replica: usize, output: replica::Output) {
        self.perform(replica, output);
    }

    /// A replica's store operation has this effect after a while, and nobody waits for the answer.
    pub(crate) fn store_does_in(&mut self, micros: u64, replica: usize, op: StoreOp) {
        let life = self.replicas[replica].life;
        let event = Event::AtStore(replica, life, EffectId(0), op, Answered::Lost);
        self.at(self.now + micros, event);
    }

    /// An actor's record is written over, past everybody.
    pub(crate) fn overwrite(&mut self, actor: Actor) {
        let before = self.store.actors.insert(actor.key.clone(), actor.clone());
        self.fact(Fact::Recorded {
            before: before.map(Box::new),
            after: Some(Box::new(actor)),
        });
    }

    /// A worker's row is changed, past everybody; watchers hear of it.
    pub(crate) fn write_worker(&mut self, op: &StoreOp, key: &WorkerKey) {
        let before = self.store.workers.get(key).cloned();
        let (_, event) = self.store.perform(self.store_now(), op);
        let after = self.store.workers.get(key).cloned();
        if before != after {
            self.fact(Fact::WorkerRecorded {
                before: before.map(Box::new),
                after: after.map(Box::new),
            });
        }
        if let Some(event) = event {
            self.publish(&event);
        }
    }

    /// A snapshot in the object store is deleted.
    pub(crate) fn delete_object(&mut self, name: Name) {
        self.discard(0, &Place::External(name));
    }

    /// All snapshots on a node's disk are deleted.
    pub(crate) fn delete_locals(&mut self, node: usize) {
        let names: Vec<Name> = self.hosts[node].locals.keys().cloned().collect();
        for name in names {
            self.discard(node, &Place::Local(name));
        }
    }

    /// All frozen sandboxes of a node go on.
    pub(crate) fn thaw_all(&mut self, node: usize) {
        let uids: Vec<PodUid> = self.hosts[node].ateoms.keys().cloned().collect();
        for uid in uids {
            self.licensed(node, &uid, Licensed::Thaw(None));
        }
    }

    /// What a snapshot in the object store holds.
    pub(crate) fn object(&self, name: &Name) -> Option<u64> {
        self.objects.get(name).copied().flatten()
    }
}
