//! A short queue that needs no memory elsewhere.

/// At most `N` things, first in, first out. Equal to any other with the same things in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Few<T, const N: usize>([Option<T>; N]);

impl<T: Copy, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Few([None; N])
    }
}

impl<T: Copy, const N: usize> Few<T, N> {
    /// Puts something at the end.
    ///
    /// # Panics
    /// If there are `N` things in it: whoever fills it has a bound, and this is it.
    pub fn push(&mut self, thing: T) {
        let place = self.0.iter_mut().find(|place| place.is_none());
        *place.expect("a queue with room for what its owner may say at once") = Some(thing);
    }

    /// Takes what is first.
    pub fn pop(&mut self) -> Option<T> {
        let first = self.0.first_mut()?.take();
        self.0.rotate_left(1);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_goes_first_and_leaves_nothing_behind() {
        let mut few: Few<u8, 3> = Few::default();
        assert_eq!(few.pop(), None);
        for round in 0..5 {
            few.push(round);
            few.push(round + 100);
            assert_eq!(few.pop(), Some(round));
            few.push(round + 200);
            assert_eq!(
                [few.pop(), few.pop(), few.pop()],
                [Some(round + 100), Some(round + 200), None]
            );
            assert_eq!(few, Few::default());
        }
    }

    #[test]
    #[should_panic = "a queue with room"]
    fn more_than_its_bound_is_a_defect_of_its_owner() {
        let mut few: Few<u8, 2> = Few::default();
        for thing in 0..3 {
            few.push(thing);
        }
    }
}
