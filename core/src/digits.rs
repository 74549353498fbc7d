//! The 64-bit numbers by which keys are filed in a [`crate::trie::Trie`].

use crate::id::{ActorKey, EffectId, Name, RequestId, WorkerKey};
use crate::time::{Instant, mix};
use core::fmt;

/// A key that is filed by a number: one that it has, or one that is computed from its content, the same on every
/// platform and in every process. Keys may share one; that costs a comparison.
pub trait Digits: Ord {
    /// The number. It never changes, and equal keys have equal numbers.
    fn digits(&self) -> u64;
}

// Numbers that are counted up are filed as they are: what is used together lies together.
impl Digits for u64 {
    fn digits(&self) -> u64 {
        *self
    }
}

impl Digits for EffectId {
    fn digits(&self) -> u64 {
        self.0
    }
}

impl Digits for RequestId {
    fn digits(&self) -> u64 {
        self.0
    }
}

/// By time first, and whatever is due at the same time in the order of the second part.
impl<K: Ord> Digits for (Instant, K) {
    fn digits(&self) -> u64 {
        self.0.as_micros()
    }
}

impl Digits for Name {
    fn digits(&self) -> u64 {
        spelled(&[self])
    }
}

/// A pool.
impl Digits for (Name, Name) {
    fn digits(&self) -> u64 {
        spelled(&[&self.0, &self.1])
    }
}

impl Digits for ActorKey {
    fn digits(&self) -> u64 {
        spelled(&[&self.atespace, &self.name])
    }
}

impl Digits for WorkerKey {
    fn digits(&self) -> u64 {
        spelled(&[&self.namespace, &self.pool, &self.pod])
    }
}

/// FNV-1a over names, with its bits spread. It decides which of several free workers is taken, so it is spelled out
/// here instead of being left to a library. It keeps no secrets, and nothing rests on its being hard to guess: keys
/// that collide in all 64 bits are sorted.
fn spelled(names: &[&Name]) -> u64 {
    let bytes = names.iter().flat_map(|name| name.as_str().bytes().chain([b'/']));
    mix(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// A key that remembers its number, for where computing it would mean to look at text that is far away.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filed<K> {
    digits: u64,
    key: K,
}

impl<K: Digits> Filed<K> {
    /// Computes the number of `key`.
    pub fn new(key: K) -> Filed<K> {
        Filed {
            digits: key.digits(),
            key,
        }
    }

    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Digits> Digits for Filed<K> {
    fn digits(&self) -> u64 {
        self.digits
    }
}

impl<K: fmt::Debug> fmt::Debug for Filed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::format;

    #[test]
    fn names_are_filed_by_the_same_numbers_for_ever() {
        // Not a promise to anybody outside: it is here so that a change is a decision.
        assert_eq!(
            WorkerKey::new("ns", "pool", "pod").digits(),
            2_981_215_666_559_514_031
        );
    }

    #[test]
    fn where_one_name_ends_and_the_next_begins_matters() {
        let keys = [
            ("a", "b", "cd"),
            ("a", "bc", "d"),
            ("ab", "c", "d"),
            ("", "ab", "cd"),
        ];
        let numbers: BTreeSet<u64> = keys
            .iter()
            .map(|(x, y, z)| WorkerKey::new(*x, *y, *z).digits())
            .collect();
        assert_eq!(numbers.len(), keys.len());
    }

    #[test]
    fn names_that_differ_in_a_digit_are_spread_over_every_part_of_the_number() {
        for shift in [0, 16, 32, 48] {
            let seen: BTreeSet<u64> = (0..4096)
                .map(|i| (Name::from(format!("pool-{i:05}")).digits() >> shift) & 0xfff)
                .collect();
            // 4096 balls in 4096 boxes leave 1507 of them empty; four standard deviations are 100.
            assert!(seen.len() > 2489, "{} at bit {shift}", seen.len());
        }
    }
}
