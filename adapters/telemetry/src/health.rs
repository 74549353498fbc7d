//! Whether a process is alive, and whether it is ready for requests.
//!
//! Alive is what a restart would mend: a machine that does not move any more. Ready is what waiting or another
//! replica mends: not begun yet, the store away, on the way out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_core::time::Instant;
use holdfast_runtime::tokio::sync::watch;

/// Whether requests are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has not begun.
    Starting,
    /// It serves.
    Ready,
    /// It serves, and its store does not answer.
    StoreAway,
    /// It takes no more requests.
    Leaving,
}

impl Readiness {
    /// In words, for whoever asks why not.
    pub fn describe(self) -> &'static str {
        match self {
            Readiness::Starting => "starting: the store has not been read yet",
            Readiness::Ready => "ok",
            Readiness::StoreAway => "the store does not answer",
            Readiness::Leaving => "stopping",
        }
    }
}

/// The health of a process. Clones are the same.
#[derive(Clone)]
pub struct Health {
    readiness: watch::Sender<Readiness>,
    moves: Arc<Moves>,
}

#[derive(Default)]
struct Moves {
    /// When the machine last moved, in microseconds of its clock.
    last: AtomicU64,
    /// Within how many microseconds it moves at least once. Zero until it has begun.
    within: AtomicU64,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            readiness: watch::Sender::new(Readiness::Starting),
            moves: Arc::default(),
        }
    }
}

impl Health {
    /// It is so from now on. Who leaves stays gone.
    pub fn set(&self, readiness: Readiness) {
        self.readiness.send_if_modified(|current| {
            let is_new = *current != readiness && *current != Readiness::Leaving;
            if is_new {
                *current = readiness;
            }
            is_new
        });
    }

    /// Whether requests are of use.
    pub fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }

    /// Every change of it.
    pub fn changes(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// From `now` on the machine moves at least once in so long a time.
    pub fn expect_moves(&self, now: Instant, within: Duration) {
        self.moved(now);
        let within = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
        self.moves.within.store(within, Ordering::Relaxed);
    }

    /// The machine has moved.
    pub fn moved(&self, now: Instant) {
        self.moves.last.store(now.as_micros(), Ordering::Relaxed);
    }

    /// For how long the machine has not moved, if that is too long.
    pub fn stuck(&self, now: Instant) -> Option<Duration> {
        let still = now.since(Instant::from_micros(self.moves.last.load(Ordering::Relaxed)));
        let within = self.moves.within.load(Ordering::Relaxed);
        (within > 0 && still > Duration::from_micros(within)).then_some(still)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.readiness()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn what_has_not_begun_is_not_stuck_and_what_does_not_move_is() {
        let health = Health::default();
        assert_eq!(health.stuck(at(1000)), None);
        health.expect_moves(at(1000), Duration::from_secs(10));
        assert_eq!(health.stuck(at(1010)), None);
        assert_eq!(health.stuck(at(1011)), Some(Duration::from_secs(11)));
        health.moved(at(1011));
        assert_eq!(health.stuck(at(1021)), None);
    }

    #[test]
    fn who_leaves_does_not_become_ready_again() {
        let health = Health::default();
        for (set, is) in [
            (Readiness::Ready, Readiness::Ready),
            (Readiness::StoreAway, Readiness::StoreAway),
            (Readiness::Ready, Readiness::Ready),
            (Readiness::Leaving, Readiness::Leaving),
            (Readiness::Ready, Readiness::Leaving),
        ] {
            health.set(set);
            assert_eq!(health.readiness(), is);
        }
    }
}
