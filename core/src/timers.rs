//! Deadlines in order.

use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};

/// At most one deadline per key; the earliest is found without looking at the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timers<K: Ord + Clone> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Self {
        Timers {
            by_key: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets the deadline of `key`, in place of an earlier one; `None` takes it away.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        if self.by_key.get(&key).copied() == at {
            return;
        }
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.by_key.insert(key.clone(), at);
            self.by_time.insert((at, key));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<(Instant, &K)> {
        self.by_time.first().map(|(at, key)| (*at, key))
    }

    /// Takes the earliest deadline that is not after `now`.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// The deadline of `key`.
    pub fn get(&self, key: &K) -> Option<Instant> {
        self.by_key.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_expire_in_order_and_only_when_due() {
        let at = Instant::from_micros;
        let mut timers = Timers::default();
        timers.set("b", Some(at(20)));
        timers.set("a", Some(at(30)));
        timers.set("a", Some(at(10)));
        timers.set("c", Some(at(5)));
        timers.set("c", None);
        assert_eq!(timers.next(), Some((at(10), &"a")));
        assert_eq!(timers.expired(at(9)), None);
        assert_eq!(timers.expired(at(25)), Some("a"));
        assert_eq!(timers.expired(at(25)), Some("b"));
        assert_eq!(timers.expired(at(25)), None);
        assert_eq!(timers, Timers::default());
    }
}
