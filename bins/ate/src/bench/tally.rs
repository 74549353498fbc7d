//! What was measured: times and errors per kind of call.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tonic::Code;

use super::mix::Kind;

/// Three digits: a figure is at most a thousandth beside what was measured.
const DIGITS: u8 = 3;
/// What takes longer than a day is not told from that.
const MICROS_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// The times of many calls, in microseconds.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Times {
    fn new() -> Times {
        Times(Histogram::new(DIGITS).expect("a histogram can have three digits"))
    }

    fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros())
            .unwrap_or(MICROS_MAX)
            .min(MICROS_MAX);
        self.0
            .record(micros)
            .expect("a histogram grows to what a day needs");
    }

    /// The time within which this share of the calls was answered.
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    pub fn max(&self) -> u64 {
        self.0.max()
    }

    pub fn mean(&self) -> f64 {
        self.0.mean()
    }
}

/// One answered call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub kind: Kind,
    /// Since it should have been made.
    pub latency: Duration,
    /// Since it was made.
    pub service: Duration,
    pub code: Code,
}

/// Calls of one kind.
#[derive(Clone, Debug)]
pub struct Calls {
    pub count: u64,
    /// Since they should have been made, those that failed included: their callers have waited too.
    pub latency: Times,
    /// Since they were made.
    pub service: Times,
    pub errors: BTreeMap<String, u64>,
}

impl Calls {
    fn new() -> Calls {
        Calls {
            count: 0,
            latency: Times::new(),
            service: Times::new(),
            errors: BTreeMap::new(),
        }
    }

    fn add(&mut self, call: &Call) {
        self.count += 1;
        self.latency.record(call.latency);
        self.service.record(call.service);
        if call.code != Code::Ok {
            *self.errors.entry(format!("{:?}", call.code)).or_default() += 1;
        }
    }

    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// All calls.
#[derive(Clone, Debug)]
pub struct Tally {
    pub kinds: BTreeMap<Kind, Calls>,
    pub total: Calls,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            kinds: BTreeMap::new(),
            total: Calls::new(),
        }
    }

    pub fn add(&mut self, call: &Call) {
        self.total.add(call);
        self.kinds.entry(call.kind).or_insert_with(Calls::new).add(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_calls() {
        let mut tally = Tally::new();
        for millis in 1..=1000 {
            tally.add(&Call {
                kind: Kind::Get,
                latency: Duration::from_millis(2 * millis),
                service: Duration::from_millis(millis),
                code: if millis > 990 { Code::Aborted } else { Code::Ok },
            });
        }
        let calls = &tally.kinds[&Kind::Get];
        for (share, millis) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            let near = |found: u64, millis: u64| found.abs_diff(millis * 1000) <= millis;
            assert!(near(calls.service.quantile(share), millis), "{share}");
            assert!(near(calls.latency.quantile(share), 2 * millis), "{share}");
        }
        assert_eq!(calls.errors, BTreeMap::from([("Aborted".to_owned(), 10)]));
        assert_eq!((calls.count, calls.failed()), (1000, 10));
        assert_eq!(tally.total.count, 1000);
    }
}
