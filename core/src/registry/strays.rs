//! Workers that host what no promise accounts for, and what their nodes are told about it.

use super::{Hosting, Registry, Seen};
use crate::id::{ActorKey, Fence, NodeName, WorkerKey};
use crate::session::Eviction;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

impl Registry {
    /// Workers that host what their rows know nothing of.
    pub fn strays(&self) -> &BTreeSet<WorkerKey> {
        &self.strays
    }

    /// The actor that a stray worker hosts.
    pub fn stray(&self, key: &WorkerKey) -> Option<&Hosting> {
        self.strays.get(key)?;
        match &self.workers.get(key)?.seen {
            Seen::Here(sighting) => sighting.hosting.as_ref(),
            Seen::Never | Seen::Gone => None,
        }
    }

    /// Whether nothing is known of what this worker hosts: its node has told another replica.
    pub fn is_unheard(&self, key: &WorkerKey) -> bool {
        self.workers
            .get(key)
            .is_some_and(|entry| entry.seen == Seen::Never)
    }

    /// The record of this actor, which a stray worker hosts, knows nothing of it: its node is told to end it.
    pub fn condemn(&mut self, key: &WorkerKey, actor: &ActorKey) {
        let stray = self.stray(key).filter(|hosting| hosting.actor == *actor);
        if let Some(incarnation) = stray.map(|hosting| hosting.incarnation) {
            self.condemned.insert(key.clone(), (actor.clone(), incarnation));
        }
    }

    fn is_condemned(&self, key: &WorkerKey) -> bool {
        let stray = self.stray(key);
        let guest = stray.map(|hosting| (&hosting.actor, &hosting.incarnation));
        guest.is_some() && guest == self.condemned.get(key).map(|(actor, life)| (actor, life))
    }

    /// What a node is to end.
    pub fn evictions(&self, node: &NodeName) -> Vec<Eviction> {
        let Some(node) = self.nodes.get(node).filter(|_| !self.condemned.is_empty()) else {
            return Vec::new();
        };
        let named = node.said.iter().map(|sighting| &sighting.key);
        let keys: BTreeSet<&WorkerKey> = named
            .chain(&node.gone)
            .filter(|key| self.is_condemned(key))
            .collect();
        let rows = keys
            .into_iter()
            .filter_map(|key| self.workers.get(key)?.row.as_ref());
        rows.map(|row| Eviction {
            pod_uid: row.pod_uid.clone(),
            fence: Fence(
                row.hosts
                    .as_ref()
                    .map_or(row.version.0, |hosted| hosted.fence.0 - 1),
            ),
        })
        .collect()
    }
}
