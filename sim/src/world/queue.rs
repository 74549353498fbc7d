//! What is to happen, in order: by time, and what is due at the same moment in the order in which it was put
//! there.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A queue of events.
#[derive(Clone, Debug)]
pub(super) struct Queue<E> {
    heap: BinaryHeap<Due<E>>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Due<E> {
    at: u64,
    seq: u64,
    event: Box<E>,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Queue<E> {
        Queue {
            heap: BinaryHeap::new(),
            next: 0,
        }
    }

    /// The answer is the number of the event.
    pub(super) fn put(&mut self, at: u64, event: E) -> u64 {
        self.next += 1;
        self.heap.push(Due {
            at,
            seq: self.next,
            event: Box::new(event),
        });
        self.next
    }

    /// When the next event is due.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|due| due.at)
    }

    /// The next event, when it is due, and its number.
    pub(super) fn take(&mut self) -> Option<(u64, u64, Box<E>)> {
        self.heap.pop().map(|due| (due.at, due.seq, due.event))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Everything in it, in no order.
    pub(super) fn events(&self) -> impl Iterator<Item = &E> {
        self.heap.iter().map(|due| &*due.event)
    }

    /// What is like this does not happen.
    pub(super) fn drop_all(&mut self, is_like: impl Fn(&E) -> bool) {
        self.heap.retain(|due| !is_like(&due.event));
    }
}

impl<E> Due<E> {
    fn rank(&self) -> (u64, u64) {
        (self.at, self.seq)
    }
}

/// The heap has its greatest on top: the earliest is the greatest.
impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<E> Eq for Due<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first_and_at_one_moment_what_was_put_first() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b'), (5, 'x')] {
            queue.put(at, event);
        }
        queue.drop_all(|event| *event == 'x');
        assert_eq!(queue.next_at(), Some(1));
        let order: String = std::iter::from_fn(|| queue.take().map(|(_, _, event)| *event)).collect();
        assert_eq!(order, "abcd");
    }
}
