//! Time as the host tells it. Decisions never read it: they are handed an [`Instant`].

use std::time::Duration;

use holdfast_core::time::Instant;

/// A source of time.
///
/// The simulator gives each simulated node a clock of its own, with offset, drift and steps.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds on a clock that never goes back and that keeps counting while the host is suspended.
    /// Comparable only with other readings on the same host since its boot.
    fn now(&self) -> Instant;

    /// Milliseconds since the Unix epoch. May jump either way; for records that people read, never for
    /// measuring how long something took.
    fn wall_ms(&self) -> u64;
}

/// The clock of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(since_boot().as_micros()).unwrap_or(u64::MAX))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    fn wall_ms(&self) -> u64 {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Resolves when `clock` has reached `deadline`, and not before, even where `clock` runs slower than the
/// timers of the runtime.
pub async fn sleep_until(clock: &dyn Clock, deadline: Instant) {
    loop {
        let left = deadline.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

/// A lease must not seem valid to a host that has slept through it, so the clock is the one that counts
/// suspended time; `std::time::Instant` does not.
#[cfg(not(madsim))]
fn since_boot() -> Duration {
    let reading = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(reading.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(reading.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

#[cfg(madsim)]
fn since_boot() -> Duration {
    madsim::time::TimeHandle::current().elapsed()
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn readings_of_the_system_clock_never_go_back() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(first.as_micros() > 0 && second >= first);
        let year_2024_ms = 1_704_067_200_000;
        assert!(SystemClock.wall_ms() > year_2024_ms);
    }

    /// Runs at half the speed of the runtime's timers: each reading finds half the remaining way done.
    struct Slow(AtomicU64);

    impl Clock for Slow {
        fn now(&self) -> Instant {
            Instant::from_micros(self.0.fetch_add(400, Ordering::SeqCst))
        }

        fn wall_ms(&self) -> u64 {
            0
        }
    }

    #[tokio::test]
    async fn sleeping_on_a_slow_clock_ends_only_when_that_clock_has_arrived() {
        let clock = Slow(AtomicU64::new(0));
        sleep_until(&clock, Instant::from_micros(1_000)).await;
        assert!(clock.0.load(Ordering::SeqCst) > 1_000);
    }
}
