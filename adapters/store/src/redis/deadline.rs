//! Until when an operation may take, however many servers it has to ask.

use std::time::Duration;

use holdfast_runtime::entropy::fresh_u64;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::time::Instant;

use super::Timing;

/// The end of an operation.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    end: Instant,
    of: Duration,
}

impl Deadline {
    pub(super) fn after(of: Duration) -> Deadline {
        Deadline {
            end: Instant::now() + of,
            of,
        }
    }

    /// The earlier of this one and one so far from now.
    pub(super) fn within(self, of: Duration) -> Deadline {
        let sooner = Deadline::after(of);
        if sooner.end < self.end { sooner } else { self }
    }

    pub(super) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// What is said when it has passed.
    pub(super) fn passed(self) -> String {
        format!("no answer within {:?}", self.of)
    }

    /// Awaits `step`; `None` if the end comes first.
    pub(super) async fn bound<T>(self, step: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.left(), step).await.ok()
    }
}

/// Pauses between attempts: each up to twice as long as the one before, and none of the same length at two
/// replicas, so that they do not come back all at once.
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// Those of attempts to reach a server that is away.
    pub(super) fn of(timing: &Timing) -> Pauses {
        Pauses::new(timing.retry_from, timing.retry_to)
    }

    pub(super) fn new(first: Duration, longest: Duration) -> Pauses {
        Pauses { next: first, longest }
    }

    pub(super) async fn wait(&mut self) {
        let pause = self.next;
        self.next = (2 * pause).min(self.longest);
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Half of `pause` and a random part of the other half.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    half + Duration::from_micros(fresh_u64() % micros.saturating_add(1))
}
