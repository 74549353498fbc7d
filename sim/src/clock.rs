//! Clocks: what a process takes for the time.
//!
//! True time is the world's, and no process sees it. A monotonic clock began to count at some other moment,
//! and runs a little fast or slow; it never steps and never goes back. All processes of a node share one.

use crate::rng::Rng;
use holdfast_core::settings::Settings;
use holdfast_core::time::Instant;
use serde::{Deserialize, Serialize};

const MILLION: u128 = 1_000_000;

/// A monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// What it showed when true time began, in microseconds.
    pub offset_us: u64,
    /// How many microseconds it gains in every true second; negative if it loses them. Above -1,000,000.
    pub gain_ppm: i64,
}

impl Clock {
    /// One that is right.
    pub const TRUE: Clock = Clock {
        offset_us: 0,
        gain_ppm: 0,
    };

    /// What it shows at a moment of true time.
    pub fn shows(self, now: u64) -> Instant {
        let counted = if self.gain_ppm == 0 {
            now
        } else {
            saturated(u128::from(now) * self.pace() / MILLION)
        };
        Instant::from_micros(self.offset_us.saturating_add(counted))
    }

    /// The first moment of true time at which it shows this, or more.
    pub fn moment(self, shown: Instant) -> u64 {
        let counted = shown.as_micros().saturating_sub(self.offset_us);
        if self.gain_ppm == 0 {
            return counted;
        }
        saturated((u128::from(counted) * MILLION).div_ceil(self.pace()))
    }

    /// Microseconds that it counts in a million true ones.
    fn pace(self) -> u128 {
        let pace = 1_000_000 + i128::from(self.gain_ppm);
        assert!(pace > 0, "a clock that stands still or goes back: {self:?}");
        pace.unsigned_abs()
    }
}

/// Whether any two of these clocks drift apart by no more than the settings declare (T1 of
/// `docs/protocol.md`).
pub fn are_within_drift(clocks: &[Clock], settings: &Settings) -> bool {
    let paces = || clocks.iter().map(|clock| clock.pace());
    match (paces().min(), paces().max()) {
        (Some(slow), Some(fast)) => fast * MILLION <= slow * (MILLION + u128::from(settings.lease.drift_ppm)),
        _ => true,
    }
}

/// How long it takes in true time, at most, until this much has passed on each of these clocks.
pub fn longest(micros: u64, clocks: &[Clock]) -> u64 {
    let slow = clocks.iter().map(|clock| clock.pace()).min().unwrap_or(MILLION);
    saturated((u128::from(micros) * MILLION).div_ceil(slow.min(MILLION)))
}

/// How long it takes in true time, at least, until this much has passed on any of these clocks.
pub fn shortest(micros: u64, clocks: &[Clock]) -> u64 {
    let fast = clocks.iter().map(|clock| clock.pace()).max().unwrap_or(MILLION);
    saturated(u128::from(micros) * MILLION / fast.max(MILLION))
}

/// How far the clocks of one world are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spread {
    /// They began at different moments, and run alike.
    Apart,
    /// They drift, less than is declared.
    Inside,
    /// Some are as slow, and some as fast, as is declared.
    AtTheBound,
    /// The same, and a little more than that.
    JustOutside,
    /// They drift several times as much as is declared.
    FarOutside,
}

impl Spread {
    /// All of them.
    pub const ALL: [Spread; 5] = [
        Spread::Apart,
        Spread::Inside,
        Spread::AtTheBound,
        Spread::JustOutside,
        Spread::FarOutside,
    ];

    /// One that is spread like this.
    pub fn clock(self, rng: &mut Rng, settings: &Settings) -> Clock {
        let drift = settings.lease.drift_ppm;
        // From here to the fastest is exactly what is declared.
        let slowest = drift / 2 * (1_000_000 - drift / 2) / 1_000_000;
        let fastest = (1_000_000 - slowest) * (1_000_000 + drift) / 1_000_000 - 1_000_000;
        let is_fast = rng.permille(500);
        let extreme = if is_fast { fastest } else { slowest };
        let gain = match self {
            Spread::Apart => 0,
            Spread::Inside => rng.between(0, slowest.min(fastest)),
            Spread::AtTheBound => extreme,
            Spread::JustOutside => extreme + rng.between(1, 1 + drift / 100),
            Spread::FarOutside => rng.between(drift, 20 * drift).min(300_000),
        };
        let gain = i64::try_from(gain).unwrap_or(i64::MAX);
        Clock {
            offset_us: rng.below(1_000_000_000_000),
            gain_ppm: if is_fast { gain } else { -gain },
        }
    }
}

fn saturated(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_first_at_the_moment_that_it_names() {
        for gain_ppm in [-300_000, -10_001, -1, 0, 1, 4_999, 900_000] {
            let clock = Clock {
                offset_us: 7_000_003,
                gain_ppm,
            };
            for micros in [0, 1, 2, 999_999, 1_000_000, 31_536_000_000_001] {
                let shown = Instant::from_micros(clock.offset_us + micros);
                let moment = clock.moment(shown);
                assert!(clock.shows(moment) >= shown, "{clock:?} {micros}");
                assert!(
                    moment == 0 || clock.shows(moment - 1) < shown,
                    "{clock:?} {micros}"
                );
            }
        }
    }

    #[test]
    fn a_time_is_longest_on_a_slow_clock_and_shortest_on_a_fast_one() {
        let gains = |gain_ppm| Clock {
            offset_us: 0,
            gain_ppm,
        };
        let clocks = [gains(250_000), Clock::TRUE, gains(-200_000)];
        assert_eq!((longest(1_000, &clocks), shortest(1_000, &clocks)), (1_250, 800));
        assert_eq!((longest(1_000, &[]), shortest(1_000, &[])), (1_000, 1_000));
    }

    #[test]
    fn clocks_are_spread_as_far_as_they_say() {
        let settings = Settings::DEFAULT;
        for spread in Spread::ALL {
            let clocks = |seed: u64| -> Vec<Clock> {
                let mut rng = Rng::new(seed);
                (0..20).map(|_| spread.clock(&mut rng, &settings)).collect()
            };
            let is_within = (0..20).map(|seed| are_within_drift(&clocks(seed), &settings));
            let is_promised = matches!(spread, Spread::Apart | Spread::Inside | Spread::AtTheBound);
            for is_within in is_within {
                assert_eq!(is_within, is_promised, "{spread:?}");
            }
        }
    }

    #[test]
    fn two_clocks_are_within_the_drift_up_to_exactly_that() {
        let settings = Settings::DEFAULT;
        let with = |gain_ppm| {
            let clock = Clock {
                offset_us: 5,
                gain_ppm,
            };
            are_within_drift(&[Clock::TRUE, clock], &settings)
        };
        assert!(with(10_000));
        assert!(!with(10_001));
        assert!(with(-9_900));
        assert!(!with(-10_000));
    }
}
