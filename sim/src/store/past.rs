//! What the store would be without its last writes: a standby that takes over has not heard of them.

use super::Store;
use holdfast_core::actor::Actor;
use holdfast_core::effect::{Grave, NodeRow, StoreOp};
use holdfast_core::id::{ActorKey, Incarnation, LeaseToken, Name, NodeName, ReplicaId, Version, WorkerKey};
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::Worker;
use std::collections::{BTreeMap, VecDeque};

/// What the last writes have replaced, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Past {
    /// How far back it reaches.
    reach: Duration,
    replaced: VecDeque<(Instant, Replaced)>,
}

/// What stood in a place before it was written.
#[derive(Clone, Debug)]
enum Replaced {
    Actor(ActorKey, Option<Box<Actor>>),
    Worker(WorkerKey, Option<Box<Worker>>),
    Grave((ActorKey, Incarnation, Version), Option<Box<Grave>>),
    Node(NodeName, Option<NodeRow>),
    Atespace(Name, bool),
    Lease(ActorKey, Option<(LeaseToken, Instant)>),
    Session(ReplicaId, Option<Instant>),
}

/// What a store knew and does not know any more. Of each pair the first is what stood there, the second what
/// stands there now; they differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Actors.
    pub actors: Vec<(Option<Actor>, Option<Actor>)>,
    /// Workers.
    pub workers: Vec<(Option<Worker>, Option<Worker>)>,
    /// Every writing of an actor's record that is no more: somebody may have read it.
    pub lost_actors: Vec<Actor>,
    /// Every writing of a worker's record that is no more.
    pub lost_workers: Vec<Worker>,
    /// Nodes.
    pub nodes: Vec<NodeName>,
    /// Actors whose leases are not what they were.
    pub leases: Vec<ActorKey>,
    /// Notes of what deleted actors left behind.
    pub graves: Vec<Grave>,
}

impl Forgotten {
    /// Actors whose promise of a worker is not what it was.
    pub fn promises(&self) -> impl Iterator<Item = &ActorKey> {
        let rows = self
            .workers
            .iter()
            .flat_map(|(before, after)| before.iter().chain(after));
        let hosted = rows
            .chain(&self.lost_workers)
            .filter_map(|row| row.hosts.as_ref());
        hosted.map(|hosted| &hosted.actor)
    }
}

impl Past {
    pub(super) fn new(reach: Duration) -> Past {
        Past {
            reach,
            replaced: VecDeque::new(),
        }
    }

    fn note(&mut self, now: Instant, replaced: Replaced) {
        let horizon = now.minus(self.reach);
        while self.replaced.front().is_some_and(|(at, _)| *at < horizon) {
            self.replaced.pop_front();
        }
        self.replaced.push_back((now, replaced));
    }
}

impl Store {
    /// From now on the store can fail over to a standby that is this far behind at most.
    pub fn remember(&mut self, reach: Duration) {
        self.past = Some(Past::new(reach));
    }

    /// A standby takes over that has not heard of the writes of the last `lag`.
    pub fn fail_over(&mut self, now: Instant, lag: Duration) -> Forgotten {
        let old = self.clone_records();
        let horizon = now.minus(lag);
        let mut past = self.past.take();
        let (mut actors, mut workers) = (Vec::new(), Vec::new());
        if let Some(past) = &mut past {
            while past.replaced.back().is_some_and(|(at, _)| *at > horizon) {
                let Some((_, replaced)) = past.replaced.pop_back() else {
                    break;
                };
                match &replaced {
                    Replaced::Actor(key, _) => actors.extend(self.actors.get(key).cloned()),
                    Replaced::Worker(key, _) => workers.extend(self.workers.get(key).cloned()),
                    _ => {}
                }
                self.put_back(replaced);
            }
        }
        self.past = past;
        Forgotten {
            lost_actors: actors,
            lost_workers: workers,
            ..self.since(old)
        }
    }

    /// Everything is gone.
    pub fn flush(&mut self) -> Forgotten {
        let old = self.clone_records();
        *self = Store {
            past: self.past.as_ref().map(|past| Past::new(past.reach)),
            ..Store::default()
        };
        Forgotten {
            lost_actors: old.actors.values().cloned().collect(),
            lost_workers: old.workers.values().cloned().collect(),
            ..self.since(old)
        }
    }

    /// What `op` is about to replace is written down, if somebody may ask for it.
    pub(super) fn note_replaced(&mut self, now: Instant, op: &StoreOp) {
        if self.past.is_none() {
            return;
        }
        let replaced: [Option<Replaced>; 2] = match op {
            StoreOp::PutActor { actor, release, .. } => [
                Some(self.actor(&actor.key)),
                release.map(|_| self.lease(&actor.key)),
            ],
            StoreOp::DeleteActor { key, .. } => [Some(self.actor(key)), Some(self.lease(key))],
            StoreOp::AcquireLease { key, .. }
            | StoreOp::RenewLease { key, .. }
            | StoreOp::ReleaseLease { key, .. } => [Some(self.lease(key)), None],
            StoreOp::PutWorker { worker, .. } => [Some(self.worker(&worker.key)), None],
            StoreOp::DeleteWorker { key, .. } => [Some(self.worker(key)), None],
            StoreOp::PutNode(row) => [Some(self.node(&row.name)), None],
            StoreOp::LapseNode(row) => [Some(self.node(&row.name)), None],
            StoreOp::CreateAtespace(name) | StoreOp::DeleteAtespace(name) => {
                let was_there = self.atespaces.contains(name);
                [Some(Replaced::Atespace(name.clone(), was_there)), None]
            }
            StoreOp::PutSession { replica, .. } | StoreOp::DropSession(replica) => {
                let session = self.sessions.get(replica).copied();
                [Some(Replaced::Session(*replica, session)), None]
            }
            StoreOp::PutGrave(grave) => {
                let place = (grave.actor.clone(), grave.incarnation, grave.version);
                [Some(self.grave(place)), None]
            }
            StoreOp::DropGrave {
                key,
                incarnation,
                version,
            } => [Some(self.grave((key.clone(), *incarnation, *version))), None],
            StoreOp::GetActor(_)
            | StoreOp::ListActors { .. }
            | StoreOp::GetWorker(_)
            | StoreOp::ListWorkers
            | StoreOp::ListNodes
            | StoreOp::GetAtespace(_)
            | StoreOp::ListAtespaces
            | StoreOp::GetSession(_)
            | StoreOp::ListGraves { .. } => [None, None],
        };
        if let Some(past) = &mut self.past {
            for replaced in replaced.into_iter().flatten() {
                past.note(now, replaced);
            }
        }
    }

    fn actor(&self, key: &ActorKey) -> Replaced {
        Replaced::Actor(key.clone(), self.actors.get(key).cloned().map(Box::new))
    }

    fn worker(&self, key: &WorkerKey) -> Replaced {
        Replaced::Worker(key.clone(), self.workers.get(key).cloned().map(Box::new))
    }

    fn node(&self, name: &NodeName) -> Replaced {
        Replaced::Node(name.clone(), self.nodes.get(name).cloned())
    }

    fn lease(&self, key: &ActorKey) -> Replaced {
        Replaced::Lease(key.clone(), self.leases.get(key).copied())
    }

    fn grave(&self, place: (ActorKey, Incarnation, Version)) -> Replaced {
        let grave = self.graves.get(&place).cloned().map(Box::new);
        Replaced::Grave(place, grave)
    }

    fn put_back(&mut self, replaced: Replaced) {
        match replaced {
            Replaced::Actor(key, old) => set(&mut self.actors, key, old.map(|old| *old)),
            Replaced::Worker(key, old) => set(&mut self.workers, key, old.map(|old| *old)),
            Replaced::Grave(place, old) => set(&mut self.graves, place, old.map(|old| *old)),
            Replaced::Node(name, old) => set(&mut self.nodes, name, old),
            Replaced::Atespace(name, was_there) => {
                if was_there {
                    self.atespaces.insert(name);
                } else {
                    self.atespaces.remove(&name);
                }
            }
            Replaced::Lease(key, old) => set(&mut self.leases, key, old),
            Replaced::Session(replica, old) => set(&mut self.sessions, replica, old),
        }
    }

    fn clone_records(&self) -> Store {
        Store {
            past: None,
            ..self.clone()
        }
    }

    fn since(&self, old: Store) -> Forgotten {
        Forgotten {
            actors: differences(&old.actors, &self.actors),
            workers: differences(&old.workers, &self.workers),
            nodes: changed(&old.nodes, &self.nodes),
            leases: changed(&old.leases, &self.leases),
            graves: old
                .graves
                .into_iter()
                .filter(|(place, _)| !self.graves.contains_key(place))
                .map(|(_, grave)| grave)
                .collect(),
            ..Forgotten::default()
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn changed<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    let mut keys: Vec<K> = old.keys().chain(new.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| old.get(key) != new.get(key));
    keys
}

fn differences<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Vec<(Option<V>, Option<V>)> {
    changed(old, new)
        .iter()
        .map(|key| (old.get(key).cloned(), new.get(key).cloned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::actor;
    use holdfast_core::actor::State;
    use holdfast_core::effect::StoreReply;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_standby_has_what_was_written_before_its_lag_with_leases_as_they_were_then() {
        let mut store = Store::with_atespace("s".into());
        store.remember(Duration::from_secs(60));
        let first = actor(State::Suspended);
        let key = first.key.clone();
        let token = |seq| LeaseToken {
            replica: ReplicaId(1),
            seq,
        };
        let lease = |seq| StoreOp::AcquireLease {
            key: key.clone(),
            token: token(seq),
            ttl: Duration::from_secs(30),
            steal: None,
        };
        let put = |expect, actor: &Actor| StoreOp::PutActor {
            expect,
            actor: Box::new(actor.clone()),
            release: None,
        };
        store.perform(at(1), &lease(1));
        assert_eq!(store.perform(at(2), &put(None, &first)).0, StoreReply::Done);
        let second = Actor {
            version: Version(first.version.0 + 1),
            ..first.clone()
        };
        let release = StoreOp::ReleaseLease {
            key: key.clone(),
            token: token(1),
        };
        store.perform(at(5), &put(Some(first.edition()), &second));
        store.perform(at(5), &release);
        store.perform(at(6), &lease(2));
        let untouched = store.clone().fail_over(at(10), Duration::from_secs(3));
        assert_eq!(untouched, Forgotten::default());
        let forgotten = store.fail_over(at(10), Duration::from_secs(6));
        assert_eq!(store.actors.get(&key), Some(&first));
        assert_eq!(store.holder(at(10), &key), Some(token(1)));
        assert_eq!(forgotten.actors, [(Some(second), Some(first))]);
        assert_eq!(forgotten.leases, [key]);
    }

    #[test]
    fn a_store_that_is_flushed_has_nothing() {
        let mut store = Store::with_atespace("s".into());
        let record = actor(State::Suspended);
        store.actors.insert(record.key.clone(), record.clone());
        let forgotten = store.flush();
        assert_eq!(forgotten.actors, [(Some(record), None)]);
        assert!(store.actors.is_empty());
        let gone = store.perform(at(1), &StoreOp::GetAtespace("s".into())).0;
        assert_eq!(gone, StoreReply::Missing);
    }
}
