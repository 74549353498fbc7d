//! Which names are allowed, in the words of the original (compat.md section 2.1).

use crate::catalog::Selector;
use crate::failure::{Code, Failure};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const DNS_LABEL_MAX: usize = 63;
const DNS_SUBDOMAIN_MAX: usize = 253;
const SELECTOR_MAX: usize = 10;

/// The most that stands behind a template's location in the URI of a snapshot, in bytes:
/// `/<atespace>/<actor>-<version>-<operation>`, see `snapshot_uri` in `workflow/acts.rs`.
pub const SNAPSHOT_PATH_MAX: usize = "/".len()
    + DNS_LABEL_MAX
    + "/".len()
    + DNS_LABEL_MAX
    + "-18446744073709551615".len()
    + "-ffffffffffffffff-18446744073709551615".len();

/// Checks an actor's name.
///
/// # Errors
/// `InvalidArgument` with the rule it breaks.
pub fn check_actor_id(id: &str) -> Result<(), Failure> {
    check_label("actor_id", id)
}

/// Checks an atespace's name.
///
/// # Errors
/// `InvalidArgument` with the rule it breaks.
pub fn check_atespace(name: &str) -> Result<(), Failure> {
    check_label("atespace", name)
}

/// Checks an actor's worker selector.
///
/// # Errors
/// `InvalidArgument` with the first rule it breaks, in the order of its keys.
pub fn check_selector(selector: &Selector) -> Result<(), Failure> {
    let count = selector.match_labels.len();
    if count > SELECTOR_MAX {
        return Err(invalid(format!(
            "worker_selector has {count} match_labels entries, exceeding the limit of {SELECTOR_MAX}"
        )));
    }
    for (key, value) in &selector.match_labels {
        let wrong = qualified_name_faults(key.as_str());
        if !wrong.is_empty() {
            return Err(invalid(format!(
                "invalid worker_selector label key \"{key}\": {}",
                wrong.join("; ")
            )));
        }
        let wrong = label_value_faults(value.as_str());
        if !wrong.is_empty() {
            return Err(invalid(format!(
                "invalid worker_selector label value \"{value}\" for key \"{key}\": {}",
                wrong.join("; ")
            )));
        }
    }
    Ok(())
}

/// Whether `text` is a DNS label: lower-case letters, digits and inner hyphens, at most 63.
pub fn is_dns_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= DNS_LABEL_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether `text` is a DNS subdomain: DNS labels joined by dots, at most 253 bytes.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= DNS_SUBDOMAIN_MAX
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn check_label(field: &str, text: &str) -> Result<(), Failure> {
    if text.len() > DNS_LABEL_MAX {
        return Err(invalid(format!(
            "invalid {field}: must be no more than {DNS_LABEL_MAX} characters"
        )));
    }
    if !is_dns_label(text) {
        return Err(invalid(format!(
            "invalid {field}: must start and end with a lower case alphanumeric character, and consist only of lower \
             case alphanumeric characters or '-'"
        )));
    }
    Ok(())
}

/// A name of letters, digits, `-`, `_` and `.`, that begins and ends with a letter or digit.
fn is_label_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else {
        return false;
    };
    first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && text.bytes().all(inner)
}

const NAME_PART_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
     an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn qualified_name_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_string());
            } else {
                if prefix.len() > DNS_SUBDOMAIN_MAX {
                    faults.push(format!(
                        "prefix part must be no more than {DNS_SUBDOMAIN_MAX} bytes"
                    ));
                }
                if !is_dns_subdomain(prefix) && prefix.len() <= DNS_SUBDOMAIN_MAX {
                    faults.push(
                        "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                         characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                         'example.com', regex used for validation is \
                         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                            .to_string(),
                    );
                }
            }
            name
        }
        _ => {
            return alloc::vec![format!(
                "a valid label key {NAME_PART_RULE} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_string());
    } else if name.len() > DNS_LABEL_MAX {
        faults.push(format!("name part must be no more than {DNS_LABEL_MAX} bytes"));
    }
    if !is_label_text(name) {
        faults.push(format!("name part {NAME_PART_RULE}"));
    }
    faults
}

fn label_value_faults(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        faults.push(format!("must be no more than {DNS_LABEL_MAX} bytes"));
    }
    if !value.is_empty() && !is_label_text(value) {
        faults.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
             for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .to_string(),
        );
    }
    faults
}

fn invalid(message: String) -> Failure {
    Failure::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Name;

    #[test]
    fn actor_ids_are_dns_labels() {
        for good in ["a", "a-b", "0", &"x".repeat(63)] {
            assert_eq!(check_actor_id(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a:b", "a.b", "ä"] {
            let message = check_actor_id(bad).unwrap_err().message;
            assert!(
                message.starts_with("invalid actor_id: must start and end with"),
                "{bad}: {message}"
            );
        }
        let long = check_actor_id(&"x".repeat(64)).unwrap_err();
        assert_eq!(
            long.message,
            "invalid actor_id: must be no more than 63 characters"
        );
    }

    #[test]
    fn selectors_are_bounded_and_spelled_like_kubernetes_labels() {
        let of = |k: &str, v: &str| Selector {
            match_labels: [(Name::from(k), Name::from(v))].into(),
        };
        for (key, value) in [("a", "1"), ("example.com/Tier_1", ""), ("a.b", "X-1")] {
            assert_eq!(check_selector(&of(key, value)), Ok(()), "{key}={value}");
        }
        for (key, part) in [
            ("", "name part must be non-empty; name part must consist"),
            ("/x", "prefix part must be non-empty"),
            ("A/x", "prefix part a lowercase RFC 1123 subdomain"),
            ("a/b/c", "a valid label key must consist"),
            ("-x", "name part must consist"),
        ] {
            let message = check_selector(&of(key, "v")).unwrap_err().message;
            assert!(message.contains(part), "{key}: {message}");
        }
        let message = check_selector(&of("k", "-")).unwrap_err().message;
        assert!(
            message.starts_with("invalid worker_selector label value \"-\" for key \"k\": a valid label")
        );

        let many = (0..11)
            .map(|i| (Name::from(format!("k{i}")), Name::from("v")))
            .collect();
        let message = check_selector(&Selector { match_labels: many })
            .unwrap_err()
            .message;
        assert_eq!(
            message,
            "worker_selector has 11 match_labels entries, exceeding the limit of 10"
        );
    }
}
