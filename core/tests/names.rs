//! Names at their limits: the longest that is allowed, and the one that is a byte longer.

use holdfast_core::catalog::Selector;
use holdfast_core::id::Name;
use holdfast_core::name::{check_actor_id, check_atespace, check_selector, is_dns_label, is_dns_subdomain};

/// What is wrong with a selector that asks for this label; nothing if it is allowed.
fn fault(key: &str, value: &str) -> String {
    let match_labels = [(Name::from(key), Name::from(value))].into();
    match check_selector(&Selector { match_labels }) {
        Ok(()) => String::new(),
        Err(failure) => failure.message,
    }
}

#[test]
fn a_label_has_at_most_63_bytes() {
    let (longest, longer) = ("a".repeat(63), "a".repeat(64));
    for name in [longest.as_str(), "a", "a-b", "7"] {
        assert!(is_dns_label(name), "{name}");
        assert_eq!(check_atespace(name), Ok(()));
        assert_eq!(check_actor_id(name), Ok(()));
    }
    for name in [longer.as_str(), "", "-a", "a-", "a.b", "A", "a_b"] {
        assert!(!is_dns_label(name), "{name}");
        let message = check_atespace(name).unwrap_err().message;
        assert!(message.starts_with("invalid atespace: must"), "{message}");
    }
}

#[test]
fn a_subdomain_has_at_most_253_bytes_in_labels_of_any_length() {
    let longest = "a.".repeat(126) + "a";
    assert_eq!(longest.len(), 253);
    for name in [longest.as_str(), "a", "a.b", "7-b.c", &"a".repeat(253)] {
        assert!(is_dns_subdomain(name), "{name}");
    }
    let longer = longest.clone() + "a";
    for name in [
        longer.as_str(),
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a.b",
        "a.b-",
        "A.b",
        "a_b",
    ] {
        assert!(!is_dns_subdomain(name), "{name}");
    }
}

#[test]
fn a_label_key_is_told_everything_that_is_wrong_with_it() {
    let (name, prefix) = ("n".repeat(63), "p".repeat(253));
    assert_eq!(fault(&name, ""), "");
    assert_eq!(fault(&format!("{prefix}/{name}"), &name), "");

    let long = fault(&format!("{name}n"), "");
    assert!(
        long.ends_with(": name part must be no more than 63 bytes"),
        "{long}"
    );
    let long = fault(&format!("{prefix}p/x"), "");
    assert!(
        long.ends_with(": prefix part must be no more than 253 bytes"),
        "{long}"
    );
    let long = fault("x", &format!("{name}n"));
    assert!(long.ends_with(": must be no more than 63 bytes"), "{long}");

    let wrong = fault(&format!("{}P/x", "p".repeat(252)), "");
    assert!(
        wrong.contains("prefix part a lowercase RFC 1123 subdomain"),
        "{wrong}"
    );

    let both = fault("/", "");
    assert!(
        both.contains("prefix part must be non-empty; name part must be non-empty; name part must consist"),
        "{both}"
    );
    for (key, value) in [
        ("a-", ""),
        ("_a", ""),
        ("a b", ""),
        ("x", "a-"),
        ("x", ".a"),
        ("x", "a b"),
    ] {
        assert!(
            fault(key, value).contains("must start and end with an alphanumeric character"),
            "{key}={value}"
        );
    }
    for (key, value) in [("a.b-c_D", "a.b-c_D"), ("A", "7")] {
        assert_eq!(fault(key, value), "");
    }
}

#[test]
fn a_selector_has_at_most_ten_labels() {
    let labels = |count: usize| {
        let labels = (0..count).map(|index| (Name::from(format!("k{index}")), Name::from("v")));
        Selector {
            match_labels: labels.collect(),
        }
    };
    assert_eq!(check_selector(&labels(10)), Ok(()));
    assert!(check_selector(&labels(11)).is_err());
}
