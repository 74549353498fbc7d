//! Durations as people write them on a command line, in Go's grammar: `5m`, `1h30m`, `1.5s`, `250ms`.
//!
//! The original's flags are Go's, and manifests that set them must mean the same here.

use std::time::Duration;

use holdfast_core::settings::SHORTEST_PERIOD;

/// The longest that Go can say, some 292 years.
const LONGEST_NANOS: u128 = i64::MAX as u128;

/// Longer names before those they end with, so that `ms` is not read as `m`.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Why a text is no duration. It says what would be right; the text itself is the caller's to quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("a duration is needed, such as 30s, 5m or 1h30m")]
    Empty,
    /// Below zero.
    #[error("a duration cannot be negative")]
    Negative,
    /// Zero, where something longer is needed.
    #[error("must be longer than zero")]
    Zero,
    /// Shorter than what it is for can bear.
    #[error("must be {} or longer", show(*.least))]
    TooShort {
        /// The shortest that would do.
        least: Duration,
    },
    /// A number is missing or malformed.
    #[error("{at:?} does not begin with a number; write a duration such as 30s, 5m or 1h30m")]
    Number {
        /// The rest of the text, from where a number should stand.
        at: String,
    },
    /// A number without a unit.
    #[error("{number} has no unit; write {number}s, {number}m or {number}ms")]
    NoUnit {
        /// The number.
        number: String,
    },
    /// A unit that nobody knows.
    #[error("unknown unit {unit:?}; the units are h, m, s, ms, us and ns")]
    Unit {
        /// What stands in its place.
        unit: String,
    },
    /// More than Go's 64-bit nanoseconds.
    #[error("too long; the longest duration is 292 years")]
    TooLong,
}

/// Reads a duration: numbers, each with a unit (`h`, `m`, `s`, `ms`, `us`, `ns`) and perhaps a decimal
/// fraction, one after the other; or a plain `0`. What is finer than a nanosecond is cut off.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.starts_with('-') {
        return Err(DurationError::Negative);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    match rest {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let mut nanos = 0;
    while !rest.is_empty() {
        let (term, after) = term(rest)?;
        nanos += term;
        if nanos > LONGEST_NANOS {
            return Err(DurationError::TooLong);
        }
        rest = after;
    }
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// Reads a duration that must not be zero.
///
/// # Errors
/// Those of [`parse`], and [`DurationError::Zero`].
pub fn positive(text: &str) -> Result<Duration, DurationError> {
    match parse(text)? {
        Duration::ZERO => Err(DurationError::Zero),
        duration => Ok(duration),
    }
}

/// Reads a duration that must not be shorter than `least`.
///
/// # Errors
/// Those of [`parse`], and [`DurationError::TooShort`].
pub fn at_least(least: Duration, text: &str) -> Result<Duration, DurationError> {
    match parse(text)? {
        duration if duration < least => Err(DurationError::TooShort { least }),
        duration => Ok(duration),
    }
}

/// Reads how often something is to happen: not more often than the core allows.
///
/// # Errors
/// Those of [`at_least`].
pub fn period(text: &str) -> Result<Duration, DurationError> {
    at_least(SHORTEST_PERIOD, text)
}

/// A duration as people write it and [`parse`] reads it: `1h30m`, `2m30s`, `1.5s`, `250ms`.
pub fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let [hour, minute, second] = [3_600_000_000_000, 60_000_000_000, 1_000_000_000_u128];
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < second {
        let (unit, name) = [(1_000_000, "ms"), (1_000, "us"), (1, "ns")]
            .into_iter()
            .find(|(unit, _)| nanos >= *unit)
            .unwrap_or((1, "ns"));
        return format!("{}{name}", decimal(nanos, unit));
    }
    let (hours, minutes, rest) = (nanos / hour, nanos % hour / minute, nanos % minute);
    let mut text = String::new();
    if hours > 0 {
        text += &format!("{hours}h");
    }
    if minutes > 0 {
        text += &format!("{minutes}m");
    }
    if rest > 0 {
        text += &format!("{}s", decimal(rest, second));
    }
    text
}

/// The nanoseconds of the first number and unit of `text`, and what follows them.
fn term(text: &str) -> Result<(u128, &str), DurationError> {
    let no_number = || DurationError::Number { at: text.to_owned() };
    let (whole, after) = digits(text);
    let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(no_number());
    }
    let number = &text[..text.len() - after.len()];
    let unit_ends = after
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(after.len());
    let (unit, rest) = after.split_at(unit_ends);
    if unit.is_empty() {
        return Err(match after {
            "" => DurationError::NoUnit {
                number: number.to_owned(),
            },
            // A second point, as in `1.2.3s`.
            _ => no_number(),
        });
    }
    let unit = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, nanos)| u128::from(*nanos))
        .ok_or_else(|| DurationError::Unit {
            unit: unit.to_owned(),
        })?;
    // Too many digits for the type are too long for a duration as well, unless they are zeros.
    let whole = match whole.trim_start_matches('0') {
        "" => 0,
        digits => digits.parse::<u64>().map_err(|_| DurationError::TooLong)?,
    };
    // An hour has fewer than 10^18 nanoseconds: further digits are finer than one.
    let fraction = &fraction[..fraction.len().min(18)];
    let parts = fraction.parse::<u128>().unwrap_or(0) * unit
        / 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok((u128::from(whole) * unit + parts, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `nanos / unit` with as many decimals as it needs. `unit` is a power of ten.
fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, part) = (nanos / unit, nanos % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let part = format!("{part:0width$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        for (text, expected) in [
            ("0", s(0)),
            ("0s", s(0)),
            ("+5m", s(300)),
            ("5m", s(300)),
            ("1h30m", s(5400)),
            ("1h0m0.5s", ms(3_600_500)),
            ("250ms", ms(250)),
            ("1.5s", ms(1500)),
            (".5s", ms(500)),
            ("1.s", s(1)),
            ("1.5h", s(5400)),
            ("30s5m", s(330)),
            ("100us", Duration::from_micros(100)),
            ("100µs", Duration::from_micros(100)),
            ("100μs", Duration::from_micros(100)),
            ("7ns", Duration::from_nanos(7)),
            ("0.0000000019s", Duration::from_nanos(1)),
            ("0.3333333333333333333h", s(1200) - Duration::from_nanos(1)),
            ("0000000000000000000000001s", s(1)),
            (
                "9223372036854775807ns",
                Duration::from_nanos(9_223_372_036_854_775_807),
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_duration_is_named() {
        for (text, complaint) in [
            ("", "a duration is needed"),
            ("+", "a duration is needed"),
            ("-5m", "cannot be negative"),
            ("5", "5 has no unit; write 5s, 5m or 5ms"),
            ("1h30", "30 has no unit"),
            ("00", "00 has no unit"),
            ("5x", "unknown unit \"x\""),
            ("5 m", "unknown unit \" m\""),
            ("5M", "unknown unit \"M\""),
            ("1d", "unknown unit \"d\""),
            ("5m ", "unknown unit \"m \""),
            ("5s-3s", "unknown unit \"s-\""),
            ("m", "\"m\" does not begin with a number"),
            (".s", "\".s\" does not begin with a number"),
            ("1.2.3s", "\"1.2.3s\" does not begin with a number"),
            ("1e3s", "unknown unit \"e\""),
            ("ﬁve", "does not begin with a number"),
            ("9223372036854775808ns", "too long"),
            ("99999999999999999999999h", "too long"),
            ("2562047h48m", "too long"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn where_zero_makes_no_sense_it_is_refused() {
        assert_eq!(positive("0"), Err(DurationError::Zero));
        assert_eq!(positive("0.0000000001s"), Err(DurationError::Zero));
        assert_eq!(positive("1ns"), Ok(Duration::from_nanos(1)));
        assert_eq!(positive("-1s"), Err(DurationError::Negative));
    }

    #[test]
    fn what_is_too_short_is_told_how_long_it_must_be() {
        let refused = |text| {
            at_least(Duration::from_millis(100), text)
                .expect_err(text)
                .to_string()
        };
        for text in ["0", "1ns", "99ms", "99999us"] {
            assert_eq!(refused(text), "must be 100ms or longer");
        }
        assert!(refused("soon").contains("does not begin with a number"));
        assert_eq!(period("10ms"), Ok(SHORTEST_PERIOD));
        assert_eq!(period("9ms").unwrap_err().to_string(), "must be 10ms or longer");
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for (nanos, shown) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5us"),
            (250_000_000, "250ms"),
            (1_000_000_001, "1.000000001s"),
            (90_000_000_000, "1m30s"),
            (5_400_000_000_000, "1h30m"),
            (3_600_500_000_000, "1h0.5s"),
            (9_223_372_036_854_775_807, "2562047h47m16.854775807s"),
        ] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(show(duration), shown);
            assert_eq!(parse(shown), Ok(duration), "{shown}");
        }
    }
}
