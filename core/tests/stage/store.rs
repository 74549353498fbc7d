//! A store that does what the documentation of [`StoreOp`] says, leases and sessions on its own clock.

use holdfast_core::actor::Actor;
use holdfast_core::effect::{Grave, NodeRow, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Incarnation, LeaseToken, Name, NodeName, ReplicaId, Version, WorkerKey};
use holdfast_core::time::Instant;
use holdfast_core::worker::Worker;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    pub actors: BTreeMap<ActorKey, Actor>,
    pub workers: BTreeMap<WorkerKey, Worker>,
    pub nodes: BTreeMap<NodeName, NodeRow>,
    pub leases: BTreeMap<ActorKey, (LeaseToken, Instant)>,
    pub sessions: BTreeMap<ReplicaId, Instant>,
    pub atespaces: BTreeSet<Name>,
    pub graves: BTreeMap<(ActorKey, Incarnation, Version), Grave>,
}

impl Store {
    /// One operation, atomically, at `now` of the store's clock; what watchers hear goes to `news`.
    pub fn perform(&mut self, now: Instant, op: &StoreOp, news: &mut Vec<StoreEvent>) -> StoreReply {
        self.leases.retain(|_, (_, until)| *until > now);
        self.sessions.retain(|_, until| *until > now);
        match op {
            StoreOp::GetActor(key) => StoreReply::Actor(self.actor(key)),
            StoreOp::PutActor {
                expect,
                actor,
                release,
            } => {
                if self.actors.get(&actor.key).map(Actor::edition) != *expect {
                    return StoreReply::ActorConflict(self.actor(&actor.key));
                }
                self.actors.insert(actor.key.clone(), (**actor).clone());
                if let Some(token) = release {
                    self.release(&actor.key, *token);
                }
                StoreReply::Done
            }
            StoreOp::DeleteActor { key, expect, release } => {
                if self.actors.get(key).map(Actor::edition) != Some(*expect) {
                    return StoreReply::ActorConflict(self.actor(key));
                }
                self.actors.remove(key);
                self.release(key, *release);
                StoreReply::Done
            }
            StoreOp::ListActors { atespace, .. } => StoreReply::Actors {
                actors: self
                    .actors
                    .values()
                    .filter(|a| atespace.as_ref().is_none_or(|space| a.key.atespace == *space))
                    .cloned()
                    .collect(),
                next: None,
            },
            StoreOp::AcquireLease {
                key,
                token,
                ttl,
                steal,
            } => match self.leases.get(key) {
                Some((holder, _)) if holder != token && Some(*holder) != *steal => StoreReply::Held(*holder),
                _ => {
                    self.leases.insert(key.clone(), (*token, now.plus(*ttl)));
                    StoreReply::Acquired(self.actor(key))
                }
            },
            StoreOp::RenewLease { key, token, ttl } => match self.leases.get_mut(key) {
                Some((holder, until)) if holder == token => {
                    *until = now.plus(*ttl);
                    StoreReply::Done
                }
                _ => StoreReply::NotOwner,
            },
            StoreOp::ReleaseLease { key, token } => {
                self.release(key, *token);
                StoreReply::Done
            }
            StoreOp::GetWorker(key) => StoreReply::Worker(self.worker(key)),
            StoreOp::PutWorker { expect, worker } => {
                if self.workers.get(&worker.key).map(Worker::edition) != *expect {
                    return StoreReply::WorkerConflict(self.worker(&worker.key));
                }
                self.workers.insert(worker.key.clone(), (**worker).clone());
                news.push(StoreEvent::Worker(worker.clone()));
                StoreReply::Done
            }
            StoreOp::DeleteWorker { key, expect } => {
                if self.workers.get(key).map(Worker::edition).as_ref() != Some(expect) {
                    return StoreReply::WorkerConflict(self.worker(key));
                }
                self.workers.remove(key);
                news.push(StoreEvent::WorkerGone(key.clone()));
                StoreReply::Done
            }
            StoreOp::ListWorkers => StoreReply::Workers(self.workers.values().cloned().collect()),
            StoreOp::PutNode(heard) => {
                let row = NodeRow::after(self.nodes.get(&heard.name), heard);
                self.replace_node(&heard.name, row, |row| StoreReply::NodeAt(row.version), news)
            }
            StoreOp::LapseNode(known) => {
                let row = NodeRow::lapse(self.nodes.get(&known.name), known);
                self.replace_node(&known.name, row, |_| StoreReply::Done, news)
            }
            StoreOp::ListNodes => StoreReply::Nodes(self.nodes.values().cloned().collect()),
            StoreOp::CreateAtespace(name) if self.atespaces.insert(name.clone()) => StoreReply::Done,
            StoreOp::CreateAtespace(_) => StoreReply::Exists,
            StoreOp::GetAtespace(name) if self.atespaces.contains(name) => StoreReply::Exists,
            StoreOp::GetAtespace(_) => StoreReply::Missing,
            StoreOp::ListAtespaces => StoreReply::Atespaces(self.atespaces.iter().cloned().collect()),
            StoreOp::DeleteAtespace(name) if self.actors.keys().any(|key| key.atespace == *name) => {
                StoreReply::NotEmpty
            }
            StoreOp::DeleteAtespace(name) if self.atespaces.remove(name) => StoreReply::Done,
            StoreOp::DeleteAtespace(_) => StoreReply::Missing,
            StoreOp::PutSession { replica, ttl } => {
                self.sessions.insert(*replica, now.plus(*ttl));
                StoreReply::Done
            }
            StoreOp::GetSession(replica) if self.sessions.contains_key(replica) => StoreReply::Exists,
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
        }
    }

    fn replace_node(
        &mut self,
        name: &NodeName,
        row: Option<NodeRow>,
        reply: impl Fn(&NodeRow) -> StoreReply,
        news: &mut Vec<StoreEvent>,
    ) -> StoreReply {
        let Some(row) = row else {
            return StoreReply::NodeConflict(self.nodes.get(name).cloned());
        };
        let reply = reply(&row);
        self.nodes.insert(name.clone(), row.clone());
        news.push(StoreEvent::Node(row));
        reply
    }

    fn actor(&self, key: &ActorKey) -> Option<Box<Actor>> {
        self.actors.get(key).cloned().map(Box::new)
    }

    fn worker(&self, key: &WorkerKey) -> Option<Box<Worker>> {
        self.workers.get(key).cloned().map(Box::new)
    }

    fn release(&mut self, key: &ActorKey, token: LeaseToken) {
        if self.leases.get(key).is_some_and(|(holder, _)| *holder == token) {
            self.leases.remove(key);
        }
    }
}
