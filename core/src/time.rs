//! Points in time on one machine's monotonic clock.
//!
//! The core never reads a clock: every entry point takes `now`. An [`Instant`] counts microseconds
//! from an origin that means something only to the clock that produced it, so two instants may be
//! compared only when the same machine handed them out.

use core::fmt;
pub use core::time::Duration;

/// A point on one machine's monotonic clock, in microseconds since that clock's own origin.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's origin.
    pub const ORIGIN: Instant = Instant(0);

    /// The instant `micros` microseconds after the clock's origin.
    pub const fn from_micros(micros: u64) -> Self {
        Instant(micros)
    }

    /// Microseconds since the clock's origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The instant `after` later; the last representable instant when that lies beyond it.
    #[must_use]
    pub fn plus(self, after: Duration) -> Instant {
        Instant(self.0.saturating_add(micros(after)))
    }

    /// The instant `before` earlier; the origin when that lies before it.
    #[must_use]
    pub fn minus(self, before: Duration) -> Instant {
        Instant(self.0.saturating_sub(micros(before)))
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

const fn micros(d: Duration) -> u64 {
    saturated(d.as_micros())
}

const fn saturated(number: u128) -> u64 {
    if number > u64::MAX as u128 {
        u64::MAX
    } else {
        number as u64
    }
}

/// `d * part / whole` without losing precision or overflowing; `whole` must not be zero.
pub(crate) const fn fraction(d: Duration, part: u64, whole: u64) -> Duration {
    assert!(whole > 0, "a fraction of nothing");
    Duration::from_micros(saturated(micros(d) as u128 * part as u128 / whole as u128))
}

/// `d` more or less, between three quarters and five quarters of it, spread by `seed`: machines that
/// failed together do not try again together.
pub(crate) fn jittered(d: Duration, seed: u64) -> Duration {
    let spread = mix(seed) % 512;
    fraction(d, 768 + spread, 1024)
}

/// A well-spread function of `x`, for spreading only: not random, not secret.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The pause before try number `failures + 1`: doubles from `from`, never above `to`, jittered.
pub(crate) fn backoff(from: Duration, to: Duration, failures: u32, seed: u64) -> Duration {
    let doubled = from
        .saturating_mul(1u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX))
        .min(to);
    jittered(doubled, seed ^ u64::from(failures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let late = Instant::from_micros(u64::MAX);
        assert_eq!(late.plus(Duration::from_secs(1)), late);
        assert_eq!(Instant::ORIGIN.minus(Duration::from_secs(1)), Instant::ORIGIN);
        assert_eq!(Instant::ORIGIN.since(late), Duration::ZERO);
    }

    #[test]
    fn a_duration_that_no_clock_can_count_is_the_longest_that_one_can() {
        assert_eq!(
            Instant::ORIGIN.plus(Duration::MAX),
            Instant::from_micros(u64::MAX)
        );
        assert_eq!(fraction(Duration::MAX, 1, 1), Duration::from_micros(u64::MAX));
        assert_eq!(fraction(Duration::MAX, 3, 2), Duration::from_micros(u64::MAX));
    }

    #[test]
    fn an_instant_is_shown_in_seconds() {
        assert_eq!(
            alloc::format!("{:?}", Instant::from_micros(12_000_345)),
            "12.000345s"
        );
    }

    #[test]
    fn one_percent_of_thirty_seconds_is_three_hundred_milliseconds() {
        assert_eq!(
            fraction(Duration::from_secs(30), 10_000, 1_000_000),
            Duration::from_millis(300)
        );
    }
}
