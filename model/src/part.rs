//! Parts of states, each kept once.
//!
//! A state of the world is a tuple of parts: this replica, that node, what is on its way. A step changes
//! one or two of them, and the same few parts come back in very many states. So each distinct part is
//! kept once and named by a number, and a state is a handful of numbers: cheap to copy, exact to compare.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// A part that is kept in [`Parts`]. Two parts of the same `Parts` are equal if and only if their
/// numbers are.
pub struct Part<T> {
    number: u32,
    value: Rc<T>,
}

impl<T> Part<T> {
    /// Names the value among the values of its kind.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Part {
            number: self.number,
            value: self.value.clone(),
        }
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Part<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Part<T> {}

impl<T> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}

/// Every distinct value of one kind.
pub struct Parts<T> {
    known: HashMap<Rc<T>, u32, Quick>,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Parts {
            known: HashMap::default(),
        }
    }
}

impl<T: Eq + Hash> Parts<T> {
    /// The one part that has this value.
    pub fn part(&mut self, value: T) -> Part<T> {
        if let Some((value, number)) = self.known.get_key_value(&value) {
            return Part {
                number: *number,
                value: value.clone(),
            };
        }
        let number = u32::try_from(self.known.len()).expect("fewer parts than a u32 can number");
        let value = Rc::new(value);
        self.known.insert(value.clone(), number);
        Part { number, value }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

/// A part that a step may change: copied when it is first written to.
pub struct Draft<T> {
    before: Part<T>,
    after: Option<T>,
}

impl<T: Clone + Eq + Hash> Draft<T> {
    /// The part as it was before the step.
    pub fn open(before: &Part<T>) -> Draft<T> {
        Draft {
            before: before.clone(),
            after: None,
        }
    }

    /// The part as the step leaves it.
    pub fn close(self, parts: &mut Parts<T>) -> Part<T> {
        match self.after {
            Some(value) => parts.part(value),
            None => self.before,
        }
    }
}

impl<T> Deref for Draft<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.after.as_ref().unwrap_or(&self.before)
    }
}

impl<T: Clone> DerefMut for Draft<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.after.get_or_insert_with(|| (*self.before).clone())
    }
}

/// Hashes with [`Mixer`].
pub type Quick = BuildHasherDefault<Mixer>;

/// A fast hash without protection against chosen keys: nobody chooses ours. Equality is always compared
/// in full, so a bad hash costs time and nothing else.
#[derive(Default)]
pub struct Mixer(u64);

impl Mixer {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
        let mut word = [0; 8];
        word[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.add(u64::from_le_bytes(word) ^ bytes.len() as u64);
    }

    fn write_u8(&mut self, n: u8) {
        self.add(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.add(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.add(n as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its bits from both ends; the product's lower ones are the weaker.
        self.0 ^ (self.0 >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_part_and_different_values_are_two() {
        let mut parts = Parts::default();
        let a = parts.part(String::from("a"));
        let b = parts.part(String::from("b"));
        assert_eq!(a, parts.part(String::from("a")));
        assert!(a != b);
        assert_eq!((a.as_str(), b.as_str(), parts.count()), ("a", "b", 2));
    }

    #[test]
    fn a_draft_that_nobody_wrote_to_is_the_same_part() {
        let mut parts = Parts::default();
        let a = parts.part(vec![1]);
        assert_eq!(Draft::open(&a).close(&mut parts), a);
        let mut draft = Draft::open(&a);
        draft.push(2);
        assert_eq!((draft.len(), a.len()), (2, 1));
        assert!(draft.close(&mut parts) != a);
    }
}
