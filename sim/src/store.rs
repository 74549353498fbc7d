//! The store, as the documentation of [`StoreOp`] has it: one atomic step per operation, on the
//! store's own clock.

use holdfast_core::actor::Actor;
use holdfast_core::effect::{Grave, NodeRow, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{
    ActorKey, Edition, Incarnation, LeaseToken, Name, NodeName, ReplicaId, Version, WorkerKey,
};
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{self, Worker};
use std::collections::{BTreeMap, BTreeSet};

mod past;

pub use past::Forgotten;

/// What is stored.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Actors.
    pub actors: BTreeMap<ActorKey, Actor>,
    /// Workers.
    pub workers: BTreeMap<WorkerKey, Worker>,
    /// What deleted actors have left behind.
    pub graves: BTreeMap<(ActorKey, Incarnation, Version), Grave>,
    nodes: BTreeMap<NodeName, NodeRow>,
    atespaces: BTreeSet<Name>,
    leases: BTreeMap<ActorKey, (LeaseToken, Instant)>,
    sessions: BTreeMap<ReplicaId, Instant>,
    past: Option<past::Past>,
}

impl Store {
    /// A store in which an atespace exists.
    pub fn with_atespace(name: Name) -> Store {
        Store {
            atespaces: [name].into(),
            ..Store::default()
        }
    }

    /// Performs `op` at `now` and says what its watchers hear.
    pub fn perform(&mut self, now: Instant, op: &StoreOp) -> (StoreReply, Option<StoreEvent>) {
        self.note_replaced(now, op);
        let reply = match op {
            StoreOp::GetActor(key) => StoreReply::Actor(self.actors.get(key).cloned().map(Box::new)),
            StoreOp::PutActor {
                expect,
                actor,
                release,
            } => self.put_actor(*expect, actor, *release),
            StoreOp::DeleteActor { key, expect, release } => match self.actors.get(key) {
                Some(stored) if stored.edition() == *expect => {
                    self.actors.remove(key);
                    self.release(key, *release);
                    StoreReply::Done
                }
                stored => StoreReply::ActorConflict(stored.cloned().map(Box::new)),
            },
            StoreOp::ListActors {
                atespace,
                after,
                limit,
            } => self.list(atespace.as_ref(), after.as_ref(), *limit),
            StoreOp::AcquireLease {
                key,
                token,
                ttl,
                steal,
            } => self.acquire(now, key, *token, *ttl, *steal),
            StoreOp::RenewLease { key, token, ttl } => {
                if self.holder(now, key) == Some(*token) {
                    self.leases.insert(key.clone(), (*token, now.plus(*ttl)));
                    StoreReply::Done
                } else {
                    StoreReply::NotOwner
                }
            }
            StoreOp::ReleaseLease { key, token } => {
                self.release(key, *token);
                StoreReply::Done
            }
            StoreOp::GetWorker(key) => StoreReply::Worker(self.workers.get(key).cloned().map(Box::new)),
            StoreOp::PutWorker { expect, worker } => {
                return self.put_worker(expect.as_ref(), worker);
            }
            StoreOp::DeleteWorker { key, expect } => {
                return match self.workers.get(key) {
                    Some(stored) if stored.edition() == *expect => {
                        self.workers.remove(key);
                        (StoreReply::Done, Some(StoreEvent::WorkerGone(key.clone())))
                    }
                    stored => (StoreReply::WorkerConflict(stored.cloned().map(Box::new)), None),
                };
            }
            StoreOp::ListWorkers => StoreReply::Workers(self.workers.values().cloned().collect()),
            StoreOp::PutNode(heard) => {
                let row = NodeRow::after(self.nodes.get(&heard.name), heard);
                return self.put_node(&heard.name, row, |row| StoreReply::NodeAt(row.version));
            }
            StoreOp::LapseNode(known) => {
                let row = NodeRow::lapse(self.nodes.get(&known.name), known);
                return self.put_node(&known.name, row, |_| StoreReply::Done);
            }
            StoreOp::ListNodes => StoreReply::Nodes(self.nodes.values().cloned().collect()),
            StoreOp::CreateAtespace(name) => {
                if self.atespaces.insert(name.clone()) {
                    StoreReply::Done
                } else {
                    StoreReply::Exists
                }
            }
            StoreOp::GetAtespace(name) => {
                if self.atespaces.contains(name) {
                    StoreReply::Exists
                } else {
                    StoreReply::Missing
                }
            }
            StoreOp::ListAtespaces => StoreReply::Atespaces(self.atespaces.iter().cloned().collect()),
            StoreOp::DeleteAtespace(name) => {
                if self.actors.keys().any(|key| key.atespace == *name) {
                    StoreReply::NotEmpty
                } else if self.atespaces.remove(name) {
                    StoreReply::Done
                } else {
                    StoreReply::Missing
                }
            }
            StoreOp::PutSession { replica, ttl } => {
                self.sessions.insert(*replica, now.plus(*ttl));
                StoreReply::Done
            }
            StoreOp::GetSession(replica) => match self.sessions.get(replica) {
                Some(until) if now < *until => StoreReply::Exists,
                _ => StoreReply::Missing,
            },
            StoreOp::DropSession(replica) => {
                self.sessions.remove(replica);
                StoreReply::Done
            }
            StoreOp::PutGrave(grave) => {
                let note = (grave.actor.clone(), grave.incarnation, grave.version);
                self.graves.insert(note, (**grave).clone());
                StoreReply::Done
            }
            StoreOp::ListGraves { limit, .. } => StoreReply::Graves {
                graves: self.graves.values().take(*limit as usize).cloned().collect(),
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
        };
        (reply, None)
    }

    /// Who holds an actor's lease.
    pub fn holder(&self, now: Instant, key: &ActorKey) -> Option<LeaseToken> {
        self.leases
            .get(key)
            .filter(|(_, until)| now < *until)
            .map(|(token, _)| *token)
    }

    /// Every lease that is stored, with its end on the store's clock; one that has run out may be among them.
    pub fn leases(&self) -> impl Iterator<Item = (&ActorKey, LeaseToken, Instant)> {
        self.leases
            .iter()
            .map(|(key, (token, until))| (key, *token, *until))
    }

    fn put_actor(
        &mut self,
        expect: Option<Edition>,
        actor: &Actor,
        release: Option<LeaseToken>,
    ) -> StoreReply {
        let stored = self.actors.get(&actor.key);
        if stored.map(Actor::edition) != expect {
            return StoreReply::ActorConflict(stored.cloned().map(Box::new));
        }
        assert!(
            stored.is_none_or(|s| s.version < actor.version),
            "a write that does not raise the version"
        );
        self.actors.insert(actor.key.clone(), actor.clone());
        if let Some(token) = release {
            self.release(&actor.key, token);
        }
        StoreReply::Done
    }

    fn put_worker(
        &mut self,
        expect: Option<&worker::Edition>,
        worker: &Worker,
    ) -> (StoreReply, Option<StoreEvent>) {
        let stored = self.workers.get(&worker.key);
        if stored.map(Worker::edition).as_ref() != expect {
            return (StoreReply::WorkerConflict(stored.cloned().map(Box::new)), None);
        }
        assert!(
            stored.is_none_or(|s| s.version < worker.version),
            "a write that does not raise the version"
        );
        self.workers.insert(worker.key.clone(), worker.clone());
        (
            StoreReply::Done,
            Some(StoreEvent::Worker(Box::new(worker.clone()))),
        )
    }

    fn put_node(
        &mut self,
        name: &NodeName,
        row: Option<NodeRow>,
        reply: impl Fn(&NodeRow) -> StoreReply,
    ) -> (StoreReply, Option<StoreEvent>) {
        match row {
            Some(row) => {
                self.nodes.insert(name.clone(), row.clone());
                (reply(&row), Some(StoreEvent::Node(row)))
            }
            None => (StoreReply::NodeConflict(self.nodes.get(name).cloned()), None),
        }
    }

    fn acquire(
        &mut self,
        now: Instant,
        key: &ActorKey,
        token: LeaseToken,
        ttl: Duration,
        steal: Option<LeaseToken>,
    ) -> StoreReply {
        match self.holder(now, key) {
            Some(holder) if holder != token && Some(holder) != steal => StoreReply::Held(holder),
            _ => {
                self.leases.insert(key.clone(), (token, now.plus(ttl)));
                StoreReply::Acquired(self.actors.get(key).cloned().map(Box::new))
            }
        }
    }

    fn release(&mut self, key: &ActorKey, token: LeaseToken) {
        if self.leases.get(key).is_some_and(|(holder, _)| *holder == token) {
            self.leases.remove(key);
        }
    }

    fn list(&self, atespace: Option<&Name>, after: Option<&Name>, limit: u32) -> StoreReply {
        let mut page: Vec<Actor> = self
            .actors
            .values()
            .filter(|a| atespace.is_none_or(|s| a.key.atespace == *s))
            .filter(|a| after.is_none_or(|s| a.key.to_string().as_str() > s.as_str()))
            .take(limit as usize + 1)
            .cloned()
            .collect();
        let more = page.len() > limit as usize;
        page.truncate(limit as usize);
        let next = page
            .last()
            .filter(|_| more)
            .map(|a| Name::from(a.key.to_string()));
        StoreReply::Actors { actors: page, next }
    }
}
