//! Whether a history is linearizable: whether its calls can be put in one order, each at some point between its
//! beginning and its end, in which every answer is right.
//!
//! The search is Wing's and Gong's, with Lowe's memory of what has been tried. A call without an answer may have
//! taken effect at any time after it was made, or never. Of several such calls that would do the same the one that was
//! made first is taken first: whatever can be explained by another can be explained by that.

use std::collections::BTreeSet;

/// What calls do.
pub(super) trait Model: Clone + Ord {
    /// One thing that can be done, with its answer if there was one.
    type Deed: PartialEq;

    /// What comes of it; none if the answer is wrong.
    fn after(&self, deed: &Self::Deed) -> Option<Self>;
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call<D> {
    pub deed: D,
    /// When it was made.
    pub made: u64,
    /// When it was answered.
    pub answered: Option<u64>,
}

/// Looks for an order; if there is none, the answer is the number of the first call, by the time of its answer,
/// up to which there is none.
pub(super) fn check<M: Model>(first: &M, calls: &[Call<M::Deed>]) -> Result<(), usize> {
    let mut tried: BTreeSet<(Vec<u64>, M)> = BTreeSet::new();
    let mut stack = vec![(vec![0; calls.len().div_ceil(64)], first.clone())];
    let mut furthest: Option<(u64, usize)> = None;
    let twins = twins(calls);
    while let Some((done, state)) = stack.pop() {
        let open = |number: &usize| done[number / 64] >> (number % 64) & 1 == 0;
        let next = (0..calls.len())
            .filter(open)
            .filter_map(|n| calls[n].answered.map(|at| (at, n)))
            .min();
        let Some((first_answer, number)) = next else {
            return Ok(());
        };
        furthest = furthest.max(Some((first_answer, number)));
        let may_be_next = |number: &usize| {
            calls[*number].made <= first_answer && !twins[*number].is_some_and(|twin| open(&twin))
        };
        for number in (0..calls.len()).rev().filter(open).filter(may_be_next) {
            let Some(state) = state.after(&calls[number].deed) else {
                continue;
            };
            let mut done = done.clone();
            done[number / 64] |= 1 << (number % 64);
            if tried.insert((done.clone(), state.clone())) {
                stack.push((done, state));
            }
        }
    }
    match furthest {
        Some((_, number)) => Err(number),
        None => Ok(()),
    }
}

/// Of each call without an answer the one before it, by when they were made, that would do the same.
fn twins<D: PartialEq>(calls: &[Call<D>]) -> Vec<Option<usize>> {
    let mut unanswered: Vec<usize> = (0..calls.len())
        .filter(|n| calls[*n].answered.is_none())
        .collect();
    unanswered.sort_by_key(|number| calls[*number].made);
    let mut twins = vec![None; calls.len()];
    for (place, number) in unanswered.iter().enumerate() {
        let is_like = |other: &&usize| calls[**other].deed == calls[*number].deed;
        twins[*number] = unanswered[..place].iter().rev().find(is_like).copied();
    }
    twins
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: what is read is what was written last.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Register(u64);

    #[derive(PartialEq)]
    enum Deed {
        Write(u64),
        Read(u64),
    }

    impl Model for Register {
        type Deed = Deed;

        fn after(&self, deed: &Deed) -> Option<Self> {
            match deed {
                Deed::Write(value) => Some(Register(*value)),
                Deed::Read(value) => (self.0 == *value).then_some(Register(*value)),
            }
        }
    }

    fn call(made: u64, answered: impl Into<Option<u64>>, deed: Deed) -> Call<Deed> {
        Call {
            deed,
            made,
            answered: answered.into(),
        }
    }

    #[test]
    fn what_overlaps_may_be_in_either_order_and_what_does_not_may_not() {
        let writes = |then: u64| {
            [
                call(1, 4, Deed::Write(1)),
                call(2, 5, Deed::Write(2)),
                call(6, 7, Deed::Read(then)),
            ]
        };
        assert_eq!(check(&Register(0), &writes(1)), Ok(()));
        assert_eq!(check(&Register(0), &writes(2)), Ok(()));
        assert_eq!(check(&Register(0), &writes(0)), Err(2));
        let stale = [
            call(1, 2, Deed::Write(1)),
            call(3, 4, Deed::Write(2)),
            call(5, 6, Deed::Read(1)),
        ];
        assert_eq!(check(&Register(0), &stale), Err(2));
    }

    #[test]
    fn what_had_no_answer_may_have_happened_later_or_never() {
        let lost = |first: u64, second: u64| {
            [
                call(1, None, Deed::Write(1)),
                call(2, 3, Deed::Read(first)),
                call(4, 5, Deed::Read(second)),
            ]
        };
        assert_eq!(check(&Register(0), &lost(0, 0)), Ok(()));
        assert_eq!(check(&Register(0), &lost(0, 1)), Ok(()));
        assert_eq!(check(&Register(0), &lost(1, 1)), Ok(()));
        assert_eq!(
            check(&Register(0), &lost(1, 0)),
            Err(2),
            "what has been seen stays"
        );
    }

    #[test]
    fn many_calls_without_an_answer_that_do_the_same_are_one_question() {
        let mut calls: Vec<Call<Deed>> = (0..60).map(|n| call(n, None, Deed::Write(n % 2))).collect();
        calls.push(call(100, 101, Deed::Read(7)));
        assert_eq!(check(&Register(0), &calls), Err(60));
        calls[60] = call(100, 101, Deed::Read(1));
        assert_eq!(check(&Register(0), &calls), Ok(()));
        calls[60] = call(0, 0, Deed::Read(1));
        assert_eq!(
            check(&Register(0), &calls),
            Err(60),
            "the only one that was made by then writes 0"
        );
    }
}
