//! Where time alone stops giving exclusion: how far clocks may drift apart and how long a process may pause until
//! two keepers act under one lease, as it is measured, beside what the protocol's formula says.
//!
//! Nothing is unsafe beyond it: fences refuse whoever is late (design section 4). What lies within is what leases
//! spare everybody.
//!
//! For each point (TTL, drift, delay of answers) the longest pause is searched for with which no history has an
//! overlap: over how the drift is shared between the clocks, where in the store's millisecond the request
//! arrives, how often the lease is renewed before the holder is cut off, which answers are late, and where the
//! holder pauses ([`duel`]).

mod duel;
pub mod picture;

use crate::clock::Clock;
use duel::{Duel, Nap, Trip};
use holdfast_core::settings::{LeaseSettings, Settings};
use holdfast_core::time::{Duration, Instant};
use serde::Serialize;

pub use duel::Counting;

const MILLION: u64 = 1_000_000;
/// A store that counts whole milliseconds forgets so much too early, at most, in microseconds.
const STORE_TICK_US: u64 = 1_000;

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The lease's settings.
    pub settings: LeaseSettings,
    /// What the store's clock gains on the holder's, in parts per million.
    pub drift_ppm: u64,
    /// How long answers of the store take at most, in microseconds.
    pub delay_us: u64,
    /// How the holder counts.
    pub counting: Counting,
}

impl Point {
    /// The longest pause that is safe by the formula, in microseconds of true time; none if not even the shortest
    /// is.
    ///
    /// The store forgets the holder when its clock has counted the TTL since it granted the lease, which was after
    /// the request was sent; by then the holder's has counted `1 / (1 + drift)` as much. What is left of that when
    /// the belief is over is there for pauses.
    pub fn predicted(&self) -> Option<u64> {
        let ttl = micros(self.settings.ttl) - STORE_TICK_US;
        let forgotten = u128::from(ttl) * u128::from(MILLION) / u128::from(MILLION + self.drift_ppm);
        let counted_late = match self.counting {
            Counting::FromSending => 0,
            Counting::FromAnswer => self.delay_us,
        };
        let believed = micros(self.settings.believed_for()) + counted_late;
        u64::try_from(forgotten).ok()?.checked_sub(believed)
    }

    /// The pause that is promised to be safe, in microseconds: while clocks drift no further than is declared, the
    /// margin less what the store's whole milliseconds take of it.
    pub fn promised(&self) -> Option<u64> {
        let is_declared = self.drift_ppm <= self.settings.drift_ppm;
        let is_ours = self.counting == Counting::FromSending;
        (is_declared && is_ours).then(|| micros(self.settings.margin).saturating_sub(STORE_TICK_US))
    }

    /// The longest pause with which no history has an overlap; none if one has without any pause.
    pub fn measured(&self) -> Option<u64> {
        // The shortest with which one has, so far.
        let mut shortest: Option<u64> = None;
        for history in self.histories() {
            let overlaps = |pause| history.duel(self, pause).play().overlaps();
            let shorter = match shortest {
                None => 2 * micros(self.settings.ttl),
                Some(shortest) => match shortest.checked_sub(1) {
                    Some(shorter) => shorter,
                    None => break,
                },
            };
            if !overlaps(shorter) {
                continue;
            }
            // With `overlap` it does; with less than `clear` it does not.
            let (mut clear, mut overlap) = (0, shorter);
            while clear < overlap {
                let middle = clear + (overlap - clear) / 2;
                if overlaps(middle) {
                    overlap = middle;
                } else {
                    clear = middle + 1;
                }
            }
            shortest = Some(overlap);
        }
        let shortest = shortest.unwrap_or_else(|| panic!("no pause is too long: {self:?}"));
        shortest.checked_sub(1)
    }

    fn histories(&self) -> Vec<History> {
        let late = Trip {
            there: 0,
            back: self.delay_us,
        };
        let slow = Trip {
            there: self.delay_us,
            back: self.delay_us,
        };
        let prompt = Trip { there: 0, back: 0 };
        // The last one is what the holder's belief rests on.
        let trips = [
            vec![prompt],
            vec![late],
            vec![slow],
            vec![prompt, late],
            vec![late, prompt],
            vec![late, late],
            vec![slow, prompt, late],
            vec![late, late, late],
        ];
        let mut histories = Vec::new();
        for (store, holder) in self.clocks() {
            // A fast clock may pass over the last microsecond of a millisecond.
            for phase in [0, 500, 998, 999] {
                for trips in &trips {
                    for nap in [Nap::BeforeActing, Nap::BeforeHearing] {
                        histories.push(History {
                            store,
                            holder,
                            phase,
                            trips: trips.clone(),
                            nap,
                        });
                    }
                }
            }
        }
        histories
    }

    /// Ways to share the drift: the store's clock is fast, the holder's is slow, or each is a little of it.
    fn clocks(&self) -> [(Clock, Clock); 3] {
        let gains = |holder_loses: u64| {
            let pace = MILLION - holder_loses;
            let fastest = pace * (MILLION + self.drift_ppm) / MILLION;
            (fastest.max(MILLION) - MILLION) as i64
        };
        let slowest = self.drift_ppm * MILLION / (MILLION + self.drift_ppm);
        [0, slowest / 2, slowest].map(|loses| {
            let clock = |gain_ppm, offset_us| Clock { offset_us, gain_ppm };
            (clock(gains(loses), 0), clock(-(loses as i64), 77_777))
        })
    }
}

/// What is searched through.
struct History {
    store: Clock,
    holder: Clock,
    phase: u64,
    trips: Vec<Trip>,
    nap: Nap,
}

impl History {
    fn duel(&self, point: &Point, pause: u64) -> Duel<'_> {
        // The moment at which so many microseconds of the store's millisecond have passed.
        let second = Instant::from_micros(MILLION + self.phase);
        Duel {
            settings: point.settings,
            counting: point.counting,
            store: self.store,
            holder: self.holder,
            rival: Clock::TRUE,
            start: self.store.moment(second),
            trips: &self.trips,
            nap: self.nap,
            pause,
        }
    }
}

/// A point, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The lease's TTL.
    pub ttl_us: u64,
    /// How far clocks are declared to drift apart.
    pub declared_ppm: u64,
    /// How far they do.
    pub drift_ppm: u64,
    /// How long answers take at most.
    pub delay_us: u64,
    /// Whether validity counts from the answer, and not from before the request was sent.
    pub counts_from_answer: bool,
    /// The pause that is promised to be safe: what the margin leaves, while clocks drift no further than declared.
    pub promised_us: Option<u64>,
    /// The longest pause that is safe by the formula; none if none is.
    pub predicted_us: Option<u64>,
    /// The longest pause with which no history has an overlap; none if there is no such pause.
    pub measured_us: Option<u64>,
}

impl Answer {
    /// Whether what the formula calls safe is, with the way of counting that it is about.
    pub fn holds(&self) -> bool {
        self.counts_from_answer || self.measured_us >= self.predicted_us
    }
}

/// The points of a frontier: for each TTL, every drift with every delay, counted in both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The TTLs. The other settings of a lease keep their share of it.
    pub ttls: Vec<Duration>,
    /// The drifts, in parts per million.
    pub drifts_ppm: Vec<u64>,
    /// The delays of answers, in 120ths of a TTL.
    pub delays: Vec<u64>,
}

impl Default for Grid {
    fn default() -> Grid {
        Grid {
            ttls: [6, 12, 30, 60].map(Duration::from_secs).into(),
            drifts_ppm: (0..=24).map(|step| step * 2_500).collect(),
            delays: vec![0, 1, 2, 3, 4, 5, 6, 8, 40],
        }
    }
}

impl Grid {
    /// The points, in the order of the grid.
    pub fn points(&self) -> Vec<Point> {
        let mut points = Vec::new();
        for ttl in &self.ttls {
            let settings = Settings::DEFAULT.with_lease_ttl(*ttl).lease;
            for drift_ppm in &self.drifts_ppm {
                for delay in &self.delays {
                    for counting in [Counting::FromSending, Counting::FromAnswer] {
                        points.push(Point {
                            settings,
                            drift_ppm: *drift_ppm,
                            delay_us: micros(*ttl) * delay / 120,
                            counting,
                        });
                    }
                }
            }
        }
        points
    }
}

/// Measures a point.
pub fn answer(point: &Point) -> Answer {
    Answer {
        ttl_us: micros(point.settings.ttl),
        declared_ppm: point.settings.drift_ppm,
        drift_ppm: point.drift_ppm,
        delay_us: point.delay_us,
        counts_from_answer: point.counting == Counting::FromAnswer,
        promised_us: point.promised(),
        predicted_us: point.predicted(),
        measured_us: point.measured(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How near what is measured comes to the formula, in microseconds: moments are whole ones on each clock.
    const TIGHT_US: u64 = 5;

    fn grid() -> Grid {
        Grid {
            ttls: [1, 6, 30].map(Duration::from_secs).into(),
            drifts_ppm: vec![
                0, 1, 9_999, 10_000, 10_001, 30_000, 40_000, 45_000, 46_000, 60_000,
            ],
            delays: vec![0, 1, 6, 40, 119],
        }
    }

    #[test]
    fn the_measured_frontier_is_nowhere_inside_the_formula_and_touches_it_everywhere() {
        for point in grid().points() {
            if point.counting == Counting::FromAnswer {
                continue;
            }
            match (point.predicted(), point.measured()) {
                (Some(predicted), measured) => {
                    let measured = measured.unwrap_or_else(|| panic!("{point:?}: not even {predicted}"));
                    assert!(
                        measured >= predicted,
                        "{point:?}: {measured} is below {predicted}"
                    );
                    assert!(
                        measured - predicted <= TIGHT_US,
                        "{point:?}: {measured}, {predicted}"
                    );
                }
                (None, measured) => assert!(measured.is_none_or(|some| some <= TIGHT_US), "{point:?}"),
            }
        }
    }

    #[test]
    fn what_is_promised_is_safe_however_late_answers_are() {
        for point in grid().points() {
            assert!(point.measured() >= point.promised(), "{point:?}");
        }
        let declared = grid().points().into_iter().filter_map(|point| point.promised());
        assert_eq!(declared.max(), Some(999_000));
    }

    #[test]
    fn who_counts_from_the_answer_loses_as_much_as_answers_are_late() {
        for point in grid().points() {
            let measured = point.measured();
            if point.counting == Counting::FromAnswer {
                let sent = Point {
                    counting: Counting::FromSending,
                    ..point
                };
                let lost = sent.measured().map(|safe| safe.checked_sub(point.delay_us));
                let lost = lost.flatten().filter(|safe| *safe > 0);
                let (safe, expected) = (measured.unwrap_or(0), lost.unwrap_or(0));
                assert!(
                    safe.abs_diff(expected) <= TIGHT_US,
                    "{point:?}: {safe}, {expected}"
                );
            }
        }
    }
}
