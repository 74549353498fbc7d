//! The store, as the documentation of [`StoreOp`] has it: one atomic step per operation. Leases and
//! sessions end when the model says so, and not by a clock.

use crate::defect::Defect;
use holdfast_core::actor::Actor;
use holdfast_core::effect::{Grave, NodeRow, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{
    ActorKey, Edition, Incarnation, LeaseToken, NodeName, ReplicaId, Version, WorkerKey,
};
use holdfast_core::worker::Worker;
use std::collections::{BTreeMap, BTreeSet};

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    /// Actors.
    pub actors: BTreeMap<ActorKey, Actor>,
    /// Workers.
    pub workers: BTreeMap<WorkerKey, Worker>,
    /// Nodes.
    pub nodes: BTreeMap<NodeName, NodeRow>,
    /// What deleted actors have left.
    pub graves: BTreeMap<(ActorKey, Incarnation, Version), Grave>,
    /// Who holds which lease.
    pub leases: BTreeMap<ActorKey, LeaseToken>,
    /// The replicas whose sessions live.
    pub sessions: BTreeSet<ReplicaId>,
}

impl Store {
    /// Performs `op`, and says what its watchers hear.
    pub fn perform(&mut self, op: &StoreOp, defect: Option<Defect>) -> (StoreReply, Option<StoreEvent>) {
        let reply = match op {
            StoreOp::GetActor(key) => StoreReply::Actor(self.actor(key)),
            StoreOp::PutActor {
                expect,
                actor,
                release,
            } => {
                let is_expected = self.edition_of(&actor.key) == *expect;
                if !is_expected && defect != Some(Defect::StoreIgnoresActorVersions) {
                    return (StoreReply::ActorConflict(self.actor(&actor.key)), None);
                }
                self.actors.insert(actor.key.clone(), (**actor).clone());
                if let Some(token) = release {
                    self.release(&actor.key, *token, defect);
                }
                StoreReply::Done
            }
            StoreOp::DeleteActor { key, expect, release } => {
                if self.edition_of(key) != Some(*expect) {
                    return (StoreReply::ActorConflict(self.actor(key)), None);
                }
                self.actors.remove(key);
                self.release(key, *release, defect);
                StoreReply::Done
            }
            StoreOp::AcquireLease {
                key, token, steal, ..
            } => match self.leases.get(key) {
                Some(holder)
                    if holder != token
                        && Some(*holder) != *steal
                        && defect != Some(Defect::LeasesForEveryone) =>
                {
                    StoreReply::Held(*holder)
                }
                _ => {
                    self.leases.insert(key.clone(), *token);
                    StoreReply::Acquired(self.actor(key))
                }
            },
            StoreOp::RenewLease { key, token, .. } => match self.leases.get(key) {
                Some(holder) if holder == token => StoreReply::Done,
                _ if defect == Some(Defect::LeasesForEveryone) => StoreReply::Done,
                _ => StoreReply::NotOwner,
            },
            StoreOp::ReleaseLease { key, token } => {
                self.release(key, *token, defect);
                StoreReply::Done
            }
            StoreOp::GetWorker(key) => StoreReply::Worker(self.worker(key)),
            StoreOp::PutWorker { expect, worker } => {
                let is_expected = self.workers.get(&worker.key).map(Worker::edition) == *expect;
                if !is_expected && defect != Some(Defect::StoreIgnoresWorkerVersions) {
                    return (StoreReply::WorkerConflict(self.worker(&worker.key)), None);
                }
                self.workers.insert(worker.key.clone(), (**worker).clone());
                return (StoreReply::Done, Some(StoreEvent::Worker(worker.clone())));
            }
            StoreOp::DeleteWorker { key, expect } => {
                if self.workers.get(key).map(Worker::edition).as_ref() != Some(expect) {
                    return (StoreReply::WorkerConflict(self.worker(key)), None);
                }
                self.workers.remove(key);
                return (StoreReply::Done, Some(StoreEvent::WorkerGone(key.clone())));
            }
            StoreOp::ListWorkers => StoreReply::Workers(self.workers.values().cloned().collect()),
            StoreOp::PutNode(heard) => {
                let stored = self.nodes.get(&heard.name);
                return match NodeRow::after(stored, heard) {
                    Some(row) => (StoreReply::NodeAt(row.version), self.put_node(row)),
                    None => (StoreReply::NodeConflict(stored.cloned()), None),
                };
            }
            StoreOp::LapseNode(known) => {
                let stored = self.nodes.get(&known.name);
                return match NodeRow::lapse(stored, known) {
                    Some(row) => (StoreReply::Done, self.put_node(row)),
                    None => (StoreReply::NodeConflict(stored.cloned()), None),
                };
            }
            StoreOp::ListNodes => StoreReply::Nodes(self.nodes.values().cloned().collect()),
            StoreOp::PutSession { replica, .. } => {
                self.sessions.insert(*replica);
                StoreReply::Done
            }
            StoreOp::GetSession(replica) if self.sessions.contains(replica) => StoreReply::Exists,
            StoreOp::GetSession(_) => StoreReply::Missing,
            StoreOp::DropSession(replica) => {
                self.sessions.remove(replica);
                StoreReply::Done
            }
            StoreOp::PutGrave(grave) => {
                let note = (grave.actor.clone(), grave.incarnation, grave.version);
                self.graves.insert(note, (**grave).clone());
                StoreReply::Done
            }
            StoreOp::ListGraves { .. } => StoreReply::Graves {
                graves: self.graves.values().cloned().collect(),
                next: None,
            },
            StoreOp::DropGrave {
                key,
                incarnation,
                version,
            } => {
                self.graves.remove(&(key.clone(), *incarnation, *version));
                StoreReply::Done
            }
            StoreOp::ListActors { .. }
            | StoreOp::CreateAtespace(_)
            | StoreOp::GetAtespace(_)
            | StoreOp::ListAtespaces
            | StoreOp::DeleteAtespace(_) => unreachable!("no caller of the model asks for it: {op:?}"),
        };
        (reply, None)
    }

    /// Every lease of this replica ends.
    pub fn end_leases(&mut self, replica: ReplicaId) {
        self.leases.retain(|_, token| token.replica != replica);
    }

    /// Whether this replica holds a lease.
    pub fn holds_lease(&self, replica: ReplicaId) -> bool {
        self.leases.values().any(|token| token.replica == replica)
    }

    fn put_node(&mut self, row: NodeRow) -> Option<StoreEvent> {
        self.nodes.insert(row.name.clone(), row.clone());
        Some(StoreEvent::Node(row))
    }

    fn actor(&self, key: &ActorKey) -> Option<Box<Actor>> {
        self.actors.get(key).cloned().map(Box::new)
    }

    fn edition_of(&self, key: &ActorKey) -> Option<Edition> {
        self.actors.get(key).map(Actor::edition)
    }

    fn worker(&self, key: &WorkerKey) -> Option<Box<Worker>> {
        self.workers.get(key).cloned().map(Box::new)
    }

    fn release(&mut self, key: &ActorKey, token: LeaseToken, defect: Option<Defect>) {
        let is_held = self.leases.get(key) == Some(&token);
        if is_held || defect == Some(Defect::ReleaseIgnoresTokens) {
            self.leases.remove(key);
        }
    }
}
