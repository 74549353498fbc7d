//! Workers by what they belong to, and the choice among those that are free.

use crate::catalog::PoolKey;
use crate::digits::Digits;
use crate::id::WorkerKey;
use crate::time::mix;
use crate::trie::Trie;
use alloc::collections::BTreeSet;

/// The free workers of each pool. Their order is that of their keys' digits, which are as good as drawn by lot:
/// replicas that begin at different places do not race for the same worker.
pub(super) type FreeLists = Groups<PoolKey>;

/// Workers by what they belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Groups<K: Digits>(Trie<K, Trie<WorkerKey, ()>>);

impl<K: Digits> Default for Groups<K> {
    fn default() -> Self {
        Groups(Trie::default())
    }
}

impl<K: Digits> Groups<K> {
    pub(super) fn join(&mut self, group: K, key: WorkerKey) {
        match self.0.get_mut(&group) {
            Some(members) => {
                members.insert(key, ());
            }
            None => {
                let mut members = Trie::default();
                members.insert(key, ());
                self.0.insert(group, members);
            }
        }
    }

    pub(super) fn leave(&mut self, group: &K, key: &WorkerKey) {
        if let Some(members) = self.0.get_mut(group) {
            members.remove(key);
            if members.is_empty() {
                self.0.remove(group);
            }
        }
    }

    pub(super) fn of(&self, group: &K) -> Option<&Trie<WorkerKey, ()>> {
        self.0.get(group)
    }
}

/// The first member of a group from a place on that `seed` names, and that is not to be avoided.
pub(super) fn pick<'a>(
    free: &'a FreeLists,
    pool: &PoolKey,
    avoid: &BTreeSet<WorkerKey>,
    seed: u64,
) -> Option<&'a WorkerKey> {
    let members = free.of(pool)?;
    let from = members.from(mix(seed));
    from.chain(members.iter())
        .map(|(key, ())| key)
        .find(|key| !avoid.contains(key))
}
