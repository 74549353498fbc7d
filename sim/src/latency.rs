//! How long a message takes in the simulated world: what bounds are measured with, in place of a guess.
//!
//! Whatever an oracle allows for messages on their way is a sum of the ends of these spans.

use crate::plan::{MILLI, SECOND};

/// Between so much and so much, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub least: u64,
    /// The longest.
    pub most: u64,
}

impl Span {
    const fn new(least: u64, most: u64) -> Span {
        assert!(least <= most, "a span that ends before it begins");
        Span { least, most }
    }

    /// Such a message there, and such a one back.
    pub const fn round_trip(self) -> u64 {
        2 * self.most
    }
}

/// A replica's operation to the store, or its answer.
pub const STORE: Span = Span::new(300, 3 * MILLI);
/// Until a replica is told that the store does not answer.
pub const STORE_SILENT: Span = Span::new(50 * MILLI, 2 * SECOND);
/// How long a replica waits for the answer to an operation that is no list, and is then told that nobody answers. The
/// shipped adapter's own time.
pub const STORE_PATIENCE: u64 = 3 * SECOND;
/// An operation whose sender has been told so, until it is performed all the same: mostly, and now and then.
pub const STORE_LATE: [Span; 2] = [Span::new(300, 50 * MILLI), Span::new(300, 5 * SECOND)];
/// The store counts the time of leases and sessions in such steps, in microseconds.
pub const STORE_STEP: u64 = MILLI;
/// A change in the store, until a watcher hears of it.
pub const WATCH: Span = Span::new(MILLI, 30 * MILLI);
/// A replica's call to a node, or its answer.
pub const CALL: Span = Span::new(MILLI, 20 * MILLI);
/// A caller's request to a replica, or its verdict.
pub const REQUEST: Span = Span::new(MILLI, 10 * MILLI);
/// A node's report to a replica.
pub const REPORT: Span = Span::new(MILLI, 20 * MILLI);
