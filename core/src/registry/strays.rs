//! Workers that host what no promise accounts for, and what their nodes are told about it.

use super::{Hosting, Registry, Seen};
use crate::id::{Fence, NodeName, WorkerKey};
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

    /// The record of the actor that a stray worker hosts knows nothing of it: its node is told to end it.
    pub fn condemn(&mut self, key: &WorkerKey) {
        if self.strays.contains(key) {
            self.condemned.insert(key.clone());
        }
    }

    /// What a node is to end.
    pub fn evictions(&self, node: &NodeName) -> Vec<Eviction> {
        let Some(node) = self.nodes.get(node).filter(|_| !self.condemned.is_empty()) else {
            return Vec::new();
        };
        let named = node.said.iter().map(|sighting| &sighting.key);
        let keys: BTreeSet<&WorkerKey> = named
            .chain(&node.gone)
            .filter(|key| self.condemned.contains(*key))
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
