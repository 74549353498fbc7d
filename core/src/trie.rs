//! An ordered map whose operations cost no more however much is in it.
//!
//! Entries are filed by 64-bit numbers ([`Digits`]), six bits at a time: a branch has up to 64 children, and
//! one that would have a single child is left out. So no path is longer than 11 branches, and with a million
//! entries it is about four. There is no rehashing, no rebalancing and no tombstone: the bound is that of
//! every single operation and not of their average. Entries whose numbers are equal are kept in a small map
//! of their own, which is the one place where a cost grows, with the logarithm of their number.
//!
//! The shape depends on the entries alone and not on the order in which they came. That makes the order of
//! iteration a function of what is in the map, and lets equality and hash be derived.

use crate::digits::Digits;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::{fmt, mem};

/// How many bits one branch looks at.
const BITS: u32 = 6;

/// A map in the order of its keys' numbers, and of the keys themselves where those are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trie<K, V> {
    root: Option<Tree<K, V>>,
    len: usize,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Tree<K, V> {
    Leaf(K, V),
    /// Two or more entries with equal numbers.
    Ties(BTreeMap<K, V>),
    Branch(Branch<K, V>),
}

/// Two or more trees whose numbers agree above the bits that this branch looks at.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Branch<K, V> {
    /// What the numbers agree on, and, in the lowest bits, which never belong to that, where the bits begin
    /// that they differ in. A branch lies in its parent's array, so a word more would be one in every leaf.
    place: u64,
    /// Which children there are.
    present: u64,
    /// They, in order.
    children: Vec<Tree<K, V>>,
}

/// Which entry is to be removed.
enum Which<'a, K> {
    First,
    At(u64, &'a K),
}

impl<K, V> Default for Trie<K, V> {
    fn default() -> Self {
        Trie { root: None, len: 0 }
    }
}

impl<K: Digits, V> Trie<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        let digits = key.digits();
        let mut tree = self.root.as_ref()?;
        loop {
            match tree {
                Tree::Leaf(k, value) => return (k == key).then_some(value),
                Tree::Ties(map) => return map.get(key),
                // What the branches have not looked at, the comparison of keys does.
                Tree::Branch(branch) => tree = &branch.children[branch.find(digits)?],
            }
        }
    }

    /// The value of `key`, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let digits = key.digits();
        let mut tree = self.root.as_mut()?;
        loop {
            match tree {
                Tree::Leaf(k, value) => return (k == key).then_some(value),
                Tree::Ties(map) => return map.get_mut(key),
                Tree::Branch(branch) => {
                    let index = branch.find(digits)?;
                    tree = &mut branch.children[index];
                }
            }
        }
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of `key`, and returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let digits = key.digits();
        let Some(mut tree) = self.root.as_mut() else {
            self.root = Some(Tree::Leaf(key, value));
            self.len = 1;
            return None;
        };
        while let Some(index) = tree.covering(digits) {
            tree = tree.child(index);
        }
        let before = tree.join(digits, key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes `key` away, and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.take(&Which::At(key.digits(), key)).map(|(_, value)| value)
    }

    /// The first entry.
    pub fn first(&self) -> Option<(&K, &V)> {
        let mut tree = self.root.as_ref()?;
        loop {
            match tree {
                Tree::Leaf(key, value) => return Some((key, value)),
                Tree::Ties(map) => return map.first_key_value(),
                Tree::Branch(branch) => tree = branch.children.first()?,
            }
        }
    }

    /// Takes the first entry away.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.take(&Which::First)
    }

    /// The entries, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.from(0)
    }

    /// The entries whose numbers are `least` or more, in order. To begin costs as much as to look up a key.
    pub fn from(&self, least: u64) -> Iter<'_, K, V> {
        let mut iter = Iter {
            least,
            ahead: [const { None }; DEPTH],
            depth: 0,
            ties: None,
        };
        if let Some(root) = &self.root {
            iter.push(core::slice::from_ref(root));
        }
        iter
    }

    /// The entries after `key`, whether or not that is in the map; without one, all.
    pub fn after<'a>(&'a self, key: Option<&K>) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let least = key.map_or(0, Digits::digits);
        let mut entries = self.from(least).peekable();
        if let Some(key) = key {
            while entries
                .next_if(|(k, _)| k.digits() == least && *k <= key)
                .is_some()
            {}
        }
        entries
    }

    fn take(&mut self, which: &Which<'_, K>) -> Option<(K, V)> {
        let mut tree = self.root.as_mut()?;
        // Down to the last branch, if there is one.
        while let Some(index) = tree.branching(which) {
            tree = tree.child(index);
        }
        let entry = match tree {
            Tree::Leaf(key, _) if which.is(key) => self.root.take()?.into_leaf()?,
            Tree::Leaf(..) => return None,
            Tree::Ties(map) => {
                let entry = which.of(map)?;
                tree.simplify();
                entry
            }
            Tree::Branch(branch) => {
                let entry = branch.pluck(which)?;
                tree.simplify();
                entry
            }
        };
        self.len -= 1;
        Some(entry)
    }
}

impl<K: Digits, V> Tree<K, V> {
    /// A number of an entry in it.
    fn digits(&self) -> u64 {
        match self {
            Tree::Leaf(key, _) => key.digits(),
            Tree::Ties(map) => map.first_key_value().map_or(0, |(key, _)| key.digits()),
            Tree::Branch(branch) => branch.prefix(),
        }
    }

    /// The child that a number would be in, if there is one.
    fn covering(&self, digits: u64) -> Option<usize> {
        match self {
            Tree::Branch(branch) if branch.covers(digits) => branch.find(digits),
            Tree::Leaf(..) | Tree::Ties(_) | Tree::Branch(_) => None,
        }
    }

    /// The child that an entry would be in, if that is a branch.
    fn branching(&self, which: &Which<'_, K>) -> Option<usize> {
        let Tree::Branch(branch) = self else { return None };
        let index = branch.which(which)?;
        matches!(branch.children[index], Tree::Branch(_)).then_some(index)
    }

    /// A child; whatever has none, itself.
    fn child(&mut self, index: usize) -> &mut Tree<K, V> {
        match self {
            Tree::Branch(branch) => &mut branch.children[index],
            tree => tree,
        }
    }

    /// Puts in an entry that belongs to no child of it.
    fn join(&mut self, digits: u64, key: K, value: V) -> Option<V> {
        let known = self.digits();
        match self {
            Tree::Leaf(k, v) if *k == key => return Some(mem::replace(v, value)),
            Tree::Ties(map) if known == digits => return map.insert(key, value),
            Tree::Branch(branch) if branch.covers(digits) => {
                branch.adopt(digits, Tree::Leaf(key, value));
                return None;
            }
            Tree::Leaf(..) | Tree::Ties(_) | Tree::Branch(_) => {}
        }
        if known == digits {
            let before = mem::replace(self, Tree::Ties(BTreeMap::new()));
            if let (Tree::Ties(map), Tree::Leaf(k, v)) = (self, before) {
                map.extend([(k, v), (key, value)]);
            }
        } else {
            let shift = (known ^ digits).ilog2() / BITS * BITS;
            let branch = Branch {
                place: digits & !below(shift + BITS) | u64::from(shift),
                present: 0,
                children: Vec::with_capacity(4),
            };
            let before = mem::replace(self, Tree::Branch(branch));
            if let Tree::Branch(branch) = self {
                branch.adopt(known, before);
                branch.adopt(digits, Tree::Leaf(key, value));
            }
        }
        None
    }

    /// Puts a single child in the place of its parent.
    fn simplify(&mut self) {
        let single = match self {
            Tree::Ties(map) if map.len() == 1 => map.pop_first().map(|(k, v)| Tree::Leaf(k, v)),
            Tree::Branch(branch) if branch.children.len() == 1 => branch.children.pop(),
            Tree::Leaf(..) | Tree::Ties(_) | Tree::Branch(_) => None,
        };
        if let Some(single) = single {
            *self = single;
        }
    }

    fn into_leaf(self) -> Option<(K, V)> {
        match self {
            Tree::Leaf(key, value) => Some((key, value)),
            Tree::Ties(_) | Tree::Branch(_) => None,
        }
    }
}

impl<K: Digits> Which<'_, K> {
    /// Whether it is this one, if there is no other.
    fn is(&self, key: &K) -> bool {
        match self {
            Which::First => true,
            Which::At(_, wanted) => key == *wanted,
        }
    }

    /// Takes it away from entries with equal numbers.
    fn of<V>(&self, ties: &mut BTreeMap<K, V>) -> Option<(K, V)> {
        match self {
            Which::First => ties.pop_first(),
            Which::At(_, key) => ties.remove_entry(key),
        }
    }
}

impl<K: Digits, V> Branch<K, V> {
    fn shift(&self) -> u32 {
        (self.place & below(BITS)) as u32
    }

    /// The smallest number that it covers.
    fn prefix(&self) -> u64 {
        self.place & !below(BITS)
    }

    fn covers(&self, digits: u64) -> bool {
        (digits ^ self.place) & !below(self.shift() + BITS) == 0
    }

    fn bit(&self, digits: u64) -> u64 {
        1 << ((digits >> self.shift()) & below(BITS))
    }

    /// How many children lie before the one with this bit.
    fn rank(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }

    /// The child in which `digits` would be, if it covers them.
    fn find(&self, digits: u64) -> Option<usize> {
        let bit = self.bit(digits);
        (self.present & bit != 0).then(|| self.rank(bit))
    }

    /// The child in which an entry would be.
    fn which(&self, which: &Which<'_, K>) -> Option<usize> {
        match which {
            Which::First => Some(0),
            Which::At(digits, _) => self.find(*digits),
        }
    }

    /// Takes in what was not there.
    fn adopt(&mut self, digits: u64, child: Tree<K, V>) {
        let bit = self.bit(digits);
        self.children.insert(self.rank(bit), child);
        self.present |= bit;
    }

    /// Takes away an entry that lies right below.
    fn pluck(&mut self, which: &Which<'_, K>) -> Option<(K, V)> {
        let index = self.which(which)?;
        match &mut self.children[index] {
            Tree::Ties(map) => {
                let entry = which.of(map)?;
                self.children[index].simplify();
                return Some(entry);
            }
            Tree::Leaf(key, _) if !which.is(key) => return None,
            Tree::Leaf(..) | Tree::Branch(_) => {}
        }
        self.present &= !match which {
            Which::First => self.present & self.present.wrapping_neg(),
            Which::At(digits, _) => self.bit(*digits),
        };
        self.children.remove(index).into_leaf()
    }
}

/// The bits below `shift`.
fn below(shift: u32) -> u64 {
    1u64.checked_shl(shift).map_or(u64::MAX, |bit| bit - 1)
}

/// The longest path: a branch for each group of bits, and what hangs from the last.
const DEPTH: usize = u64::BITS.div_ceil(BITS) as usize + 1;

/// The entries of a [`Trie`] in order.
pub struct Iter<'a, K, V> {
    /// Entries with smaller numbers are passed over; zero as soon as there are none.
    least: u64,
    /// What lies ahead on each level of the path.
    ahead: [Option<core::slice::Iter<'a, Tree<K, V>>>; DEPTH],
    depth: usize,
    ties: Option<alloc::collections::btree_map::Iter<'a, K, V>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn push(&mut self, trees: &'a [Tree<K, V>]) {
        self.ahead[self.depth] = Some(trees.iter());
        self.depth += 1;
    }
}

impl<'a, K: Digits, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ties.as_mut().and_then(Iterator::next) {
                return Some(entry);
            }
            let level = self.depth.checked_sub(1)?;
            let Some(tree) = self.ahead[level].as_mut().and_then(Iterator::next) else {
                self.depth = level;
                continue;
            };
            match tree {
                Tree::Leaf(key, value) if self.least == 0 || key.digits() >= self.least => {
                    self.least = 0;
                    return Some((key, value));
                }
                Tree::Ties(map) if tree.digits() >= self.least => {
                    self.least = 0;
                    self.ties = Some(map.iter());
                }
                Tree::Leaf(..) | Tree::Ties(_) => {}
                Tree::Branch(branch) if self.least <= branch.prefix() => {
                    self.least = 0;
                    self.push(&branch.children);
                }
                Tree::Branch(branch) if branch.covers(self.least) => {
                    self.push(&branch.children[branch.rank(branch.bit(self.least))..]);
                }
                // All of it is smaller.
                Tree::Branch(_) => {}
            }
        }
    }
}

impl<K: Digits + fmt::Debug, V: fmt::Debug> fmt::Debug for Trie<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::{Hash, Hasher};
    use core::ops::Bound;
    use proptest::collection::vec as vec_of;
    use proptest::prelude::*;

    /// A key of which many share a number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    struct Key(u64, u8);

    impl Digits for Key {
        fn digits(&self) -> u64 {
            self.0
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Insert(Key, u32),
        Remove(Key),
        Change(Key, u32),
        PopFirst,
    }

    /// Numbers that are near each other, far apart, equal, and at both ends.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..200u64,
            (0..64u32, 0..3u64).prop_map(|(shift, x)| x << shift),
            (0..4u64).prop_map(|x| u64::MAX - x),
            any::<u64>(),
        ]
    }

    fn key() -> impl Strategy<Value = Key> {
        (number(), 0..3u8).prop_map(|(number, tie)| Key(number, tie))
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (key(), any::<u32>()).prop_map(|(key, value)| Act::Insert(key, value)),
            3 => key().prop_map(Act::Remove),
            1 => (key(), any::<u32>()).prop_map(|(key, value)| Act::Change(key, value)),
            1 => Just(Act::PopFirst),
        ]
    }

    /// FNV-1a, so that two hashes can be compared at all.
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

    fn hash(trie: &Trie<Key, u32>) -> u64 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        trie.hash(&mut hasher);
        hasher.finish()
    }

    fn depth(tree: &Tree<Key, u32>) -> usize {
        match tree {
            Tree::Leaf(..) | Tree::Ties(_) => 0,
            Tree::Branch(branch) => 1 + branch.children.iter().map(depth).max().unwrap_or(0),
        }
    }

    #[test]
    fn no_path_is_longer_than_the_number_has_groups_of_bits() {
        let mut trie = Trie::default();
        // Each differs from zero in one bit, so they part ways at every level.
        for number in (0..64).map(|bit| 1u64 << bit).chain([0]) {
            trie.insert(Key(number, 0), 0);
            trie.insert(Key(number, 1), 0);
        }
        assert_eq!(depth(trie.root.as_ref().unwrap()), 11);
        assert_eq!(trie.iter().count(), 130);
    }

    proptest! {
        #[test]
        fn it_does_what_an_ordered_map_does(acts in vec_of(act(), 0..300), probes in vec_of(key(), 20)) {
            let mut trie = Trie::default();
            let mut map = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Insert(key, value) => prop_assert_eq!(trie.insert(key, value), map.insert(key, value)),
                    Act::Remove(key) => prop_assert_eq!(trie.remove(&key), map.remove(&key)),
                    Act::Change(key, value) => {
                        let (ours, theirs) = (trie.get_mut(&key), map.get_mut(&key));
                        prop_assert_eq!(&ours, &theirs);
                        if let (Some(ours), Some(theirs)) = (ours, theirs) {
                            *ours = value;
                            *theirs = value;
                        }
                    }
                    Act::PopFirst => prop_assert_eq!(trie.pop_first(), map.pop_first()),
                }
                prop_assert_eq!(trie.len(), map.len());
                prop_assert_eq!(trie.first(), map.first_key_value());
            }
            prop_assert!(trie.iter().eq(map.iter()));
            prop_assert!(trie.after(None).eq(map.iter()));
            for probe in probes {
                prop_assert_eq!(trie.get(&probe), map.get(&probe));
                let after = map.range((Bound::Excluded(probe), Bound::Unbounded));
                prop_assert!(trie.after(Some(&probe)).eq(after), "after {probe:?}");
                prop_assert!(trie.from(probe.0).eq(map.range(Key(probe.0, 0)..)), "from {probe:?}");
            }
        }

        #[test]
        fn what_is_in_it_decides_equality_hash_and_order_however_it_came_there(
            entries in vec_of((key(), any::<u32>()), 0..60),
            passing in vec_of(key(), 0..60),
            seed in any::<u64>(),
        ) {
            let map: BTreeMap<Key, u32> = entries.into_iter().collect();
            let mut straight = Trie::default();
            for (key, value) in &map {
                straight.insert(*key, *value);
            }
            let mut shuffled: Vec<(Key, u32)> = map.iter().map(|(k, v)| (*k, *v)).collect();
            shuffled.sort_by_key(|(key, value)| crate::time::mix(seed ^ key.0 ^ u64::from(*value)));
            let mut roundabout = Trie::default();
            for key in &passing {
                roundabout.insert(*key, 7);
            }
            for (key, value) in shuffled {
                roundabout.insert(key, value);
            }
            for key in passing.iter().filter(|key| !map.contains_key(key)) {
                roundabout.remove(key);
            }
            prop_assert_eq!(&straight, &roundabout);
            prop_assert_eq!(hash(&straight), hash(&roundabout));
            prop_assert!(straight.iter().eq(roundabout.iter()));
        }
    }

    #[test]
    fn tries_that_differ_are_not_equal() {
        let of = |entries: &[(Key, u32)]| {
            let mut trie = Trie::default();
            for (key, value) in entries {
                trie.insert(*key, *value);
            }
            trie
        };
        let one = of(&[(Key(1, 0), 1), (Key(2, 0), 2)]);
        for other in [
            of(&[]),
            of(&[(Key(1, 0), 1)]),
            of(&[(Key(1, 0), 1), (Key(2, 0), 3)]),
            of(&[(Key(1, 0), 1), (Key(3, 0), 2)]),
            of(&[(Key(1, 0), 1), (Key(2, 1), 2)]),
        ] {
            assert_ne!(one, other);
            assert_ne!(hash(&one), hash(&other), "{other:?}");
        }
        assert_eq!(alloc::format!("{one:?}"), "{Key(1, 0): 1, Key(2, 0): 2}");
    }
}
