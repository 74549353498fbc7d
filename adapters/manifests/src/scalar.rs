//! What a scalar without quotes means, in the dialect that Kubernetes tools read.

/// The type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarType {
    Null,
    Boolean(bool),
    Number,
    Text,
}

/// The type of an unquoted scalar.
///
/// Kubernetes reads YAML 1.1, where `yes`, `on` and `y` are booleans; taking them for text here would
/// accept manifests that the API server refuses, and the other way round.
pub(crate) fn plain(text: &str) -> ScalarType {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarType::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            ScalarType::Boolean(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            ScalarType::Boolean(false)
        }
        _ if is_number(text) => ScalarType::Number,
        _ => ScalarType::Text,
    }
}

/// The whole number that `text` spells in decimal digits, if it is one and fits.
pub(crate) fn whole_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let octal = digits.len() > 1 && digits.starts_with('0');
    if decimal && !octal {
        text.parse().ok()
    } else {
        None
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let with_radix = |prefix: &str, radix: u32| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c == '_' || c.is_digit(radix)))
    };
    with_radix("0x", 16) || with_radix("0o", 8) || with_radix("0b", 2) || is_decimal(unsigned)
}

/// `12`, `1_000`, `1.`, `.5`, `1.5e-3`: digits with at most one point and at most one exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let some_digit = [whole, fraction]
        .iter()
        .any(|part| part.bytes().any(|b| b.is_ascii_digit()));
    let exponent_is_whole = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && exponent.bytes().all(|b| b.is_ascii_digit())
    });
    some_digit && digits(whole) && digits(fraction) && !whole.starts_with('_') && exponent_is_whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_scalars_have_the_types_that_kubernetes_gives_them() {
        for text in ["", "~", "null"] {
            assert_eq!(plain(text), ScalarType::Null, "{text:?}");
        }
        for (text, value) in [
            ("true", true),
            ("yes", true),
            ("On", true),
            ("n", false),
            ("OFF", false),
        ] {
            assert_eq!(plain(text), ScalarType::Boolean(value), "{text:?}");
        }
        for text in [
            "0", "-1", "+80", "1_000", "0x1F", "0o17", "0b1", "1.", ".5", "1.5e-3", "1e3", ".inf", "-.NaN",
            "007",
        ] {
            assert_eq!(plain(text), ScalarType::Number, "{text:?}");
        }
        for text in [
            "a",
            "1a",
            "_1",
            ".",
            "e3",
            "1e",
            "1.2.3",
            "0xg",
            "0x",
            "-",
            "1:30",
            "2026-06-30",
            "truE",
            "tRUE",
        ] {
            assert_eq!(plain(text), ScalarType::Text, "{text:?}");
        }
    }

    #[test]
    fn whole_numbers_are_decimal_and_fit() {
        for (text, number) in [("0", 0), ("80", 80), ("-3", -3), ("+3", 3)] {
            assert_eq!(whole_number(text), Some(number), "{text}");
        }
        for text in ["", "-", "1.0", "0x10", "010", "1_0", "9223372036854775808"] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}
