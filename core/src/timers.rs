//! Deadlines in order.

use crate::digits::Digits;
use crate::time::Instant;
use crate::trie::Trie;
use core::hash::{Hash, Hasher};

/// Deadlines of keys that know their own. What any operation costs does not depend on how many there are, except
/// that deadlines at the same microsecond are sorted by their keys, which costs the logarithm of their number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deadlines<K: Digits>(Trie<(Instant, K), ()>);

impl<K: Digits> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines(Trie::default())
    }
}

impl<K: Digits + Clone> Deadlines<K> {
    /// Puts the deadline `at` in the place of `before`, which must be the one that `key` has.
    pub fn change(&mut self, key: K, before: Option<Instant>, at: Option<Instant>) {
        if before == at {
            return;
        }
        let mut entry = (Instant::ORIGIN, key);
        if let Some(before) = before {
            entry.0 = before;
            let known = self.0.remove(&entry);
            assert!(known.is_some(), "a deadline that is not the one before");
        }
        if let Some(at) = at {
            entry.0 = at;
            self.0.insert(entry, ());
        }
    }

    /// The earliest deadline; of several at the same time the one with the smallest key.
    pub fn next(&self) -> Option<(Instant, &K)> {
        self.0.first().map(|((at, key), ())| (*at, key))
    }

    /// Takes the earliest deadline that is not after `now`.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        if self.next()?.0 > now {
            return None;
        }
        self.0.pop_first().map(|((_, key), ())| key)
    }
}

/// At most one deadline per key.
#[derive(Clone, Debug)]
pub struct Timers<K: Digits> {
    by_key: Trie<K, Instant>,
    by_time: Deadlines<K>,
}

// Both hold the same, so one of them says it all.
impl<K: Digits> PartialEq for Timers<K> {
    fn eq(&self, other: &Self) -> bool {
        self.by_time == other.by_time
    }
}

impl<K: Digits> Eq for Timers<K> {}

impl<K: Digits + Hash> Hash for Timers<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.by_time.hash(state);
    }
}

impl<K: Digits> Default for Timers<K> {
    fn default() -> Self {
        Timers {
            by_key: Trie::default(),
            by_time: Deadlines::default(),
        }
    }
}

impl<K: Digits + Clone> Timers<K> {
    /// Sets the deadline of `key`, in place of an earlier one; `None` takes it away.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_key.insert(key.clone(), at),
            None => self.by_key.remove(&key),
        };
        self.by_time.change(key, before, at);
    }

    /// The earliest deadline; of several at the same time the one with the smallest key.
    pub fn next(&self) -> Option<(Instant, &K)> {
        self.by_time.next()
    }

    /// Takes the earliest deadline that is not after `now`.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        let key = self.by_time.expired(now)?;
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
    use crate::time::Duration;
    use alloc::collections::{BTreeMap, BTreeSet};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// What this module was before it had to be fast: two sorted collections.
    #[derive(Default)]
    struct Sorted {
        by_key: BTreeMap<u64, Instant>,
        by_time: BTreeSet<(Instant, u64)>,
    }

    impl Sorted {
        fn set(&mut self, key: u64, at: Option<Instant>) {
            if let Some(old) = self.by_key.remove(&key) {
                self.by_time.remove(&(old, key));
            }
            if let Some(at) = at {
                self.by_key.insert(key, at);
                self.by_time.insert((at, key));
            }
        }

        fn expired(&mut self, now: Instant) -> Option<u64> {
            let (at, key) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
            self.set(key, None);
            assert!(at <= now);
            Some(key)
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        /// A deadline so many microseconds from now.
        Set(u64, u64),
        Unset(u64),
        Pass(u64),
    }

    /// From the same microsecond to an hour away.
    fn micros() -> impl Strategy<Value = u64> {
        prop_oneof![0..3u64, 0..5_000u64, 0..40_000_000u64, 0..3_600_000_000u64]
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            5 => (0..40u64, micros()).prop_map(|(key, after)| Act::Set(key, after)),
            1 => (0..40u64).prop_map(Act::Unset),
            2 => micros().prop_map(Act::Pass),
        ]
    }

    proptest! {
        #[test]
        fn deadlines_expire_exactly_as_from_sorted_collections(
            begun in prop_oneof![Just(0u64), any::<u64>()],
            acts in vec(act(), 0..300),
        ) {
            let mut now = Instant::from_micros(begun);
            let (mut timers, mut sorted) = (Timers::default(), Sorted::default());
            for act in acts {
                match act {
                    Act::Set(key, after) => {
                        let at = now.plus(Duration::from_micros(after));
                        timers.set(key, Some(at));
                        sorted.set(key, Some(at));
                    }
                    Act::Unset(key) => {
                        timers.set(key, None);
                        sorted.set(key, None);
                    }
                    Act::Pass(micros) => {
                        now = now.plus(Duration::from_micros(micros));
                        loop {
                            let (ours, theirs) = (timers.expired(now), sorted.expired(now));
                            prop_assert_eq!(ours, theirs);
                            if ours.is_none() {
                                break;
                            }
                        }
                    }
                }
                let first = sorted.by_time.first();
                prop_assert_eq!(timers.next().map(|(at, key)| (at, *key)), first.copied());
            }
            for key in 0..40 {
                prop_assert_eq!(timers.get(&key), sorted.by_key.get(&key).copied());
            }
        }

        #[test]
        fn timers_with_the_same_deadlines_are_equal_however_they_came_to_them(acts in vec(act(), 0..100)) {
            let (mut timers, mut sorted) = (Timers::default(), Sorted::default());
            for act in acts {
                if let Act::Set(key, at) = act {
                    timers.set(key, Some(Instant::from_micros(at)));
                    sorted.set(key, Some(Instant::from_micros(at)));
                } else if let Act::Unset(key) = act {
                    timers.set(key, None);
                    sorted.set(key, None);
                }
            }
            let mut straight = Timers::default();
            for (key, at) in sorted.by_key {
                straight.set(key, Some(at));
            }
            prop_assert_eq!(straight, timers);
        }
    }

    #[test]
    #[should_panic = "a deadline that is not the one before"]
    fn a_key_that_does_not_know_its_own_deadline_is_found_out() {
        let mut deadlines = Deadlines::default();
        deadlines.change(1u64, None, Some(Instant::from_micros(5)));
        deadlines.change(1u64, Some(Instant::from_micros(6)), None);
    }

    #[test]
    fn deadlines_at_the_same_time_expire_in_the_order_of_their_keys() {
        let at = Instant::from_micros(5);
        let mut timers = Timers::default();
        for key in [3u64, 1, 2] {
            timers.set(key, Some(at));
        }
        let expired = core::iter::from_fn(|| timers.expired(at));
        assert!(expired.eq([1, 2, 3]));
        assert_eq!(timers, Timers::default());
    }

    #[test]
    fn timers_that_differ_are_not_equal() {
        let of = |deadlines: &[(u64, u64)]| {
            let mut timers = Timers::default();
            for (key, at) in deadlines {
                timers.set(*key, Some(Instant::from_micros(*at)));
            }
            timers
        };
        let one = of(&[(1, 10), (2, 20)]);
        assert_eq!(
            (&one, hash(&one)),
            (&of(&[(2, 20), (1, 10)]), hash(&of(&[(2, 20), (1, 10)])))
        );
        for other in [
            of(&[]),
            of(&[(1, 10)]),
            of(&[(1, 10), (2, 21)]),
            of(&[(1, 10), (3, 20)]),
        ] {
            assert_ne!(one, other);
            assert_ne!(hash(&one), hash(&other), "{other:?}");
        }
    }

    /// FNV-1a, so that two hashes can be compared at all.
    fn hash(timers: &Timers<u64>) -> u64 {
        struct Fnv(u64);
        impl Hasher for Fnv {
            fn write(&mut self, bytes: &[u8]) {
                for byte in bytes {
                    self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            fn finish(&self) -> u64 {
                self.0
            }
        }
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        timers.hash(&mut hasher);
        hasher.finish()
    }
}
