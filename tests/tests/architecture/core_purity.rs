//! The core is pure: the same inputs give the same outputs, on every platform, and nothing else happens.

use crate::code::{starts_with, tokens, without_tests, without_text};
use crate::{Source, assert_none, rust_sources};

/// Words that have no place in the core, and why.
const FORBIDDEN: [(&[&str], &str); 18] = [
    (&["std", ":", ":"], "use core:: or alloc::"),
    (&["extern", "crate", "std"], "the core is no_std"),
    (&["SystemTime"], "take `now` as an argument"),
    (&["UNIX_EPOCH"], "take `now` as an argument"),
    (&["HashMap"], "its order differs from run to run: use BTreeMap"),
    (&["HashSet"], "its order differs from run to run: use BTreeSet"),
    (&["RandomState"], "it is seeded by the host"),
    (&["rand", ":", ":"], "randomness is an argument"),
    (&["getrandom", ":", ":"], "randomness is an argument"),
    (&["f32"], "platforms round differently: use integers"),
    (&["f64"], "platforms round differently: use integers"),
    (
        &["async", "fn"],
        "a machine is polled by its driver, not by a runtime",
    ),
    (
        &["async", "move"],
        "a machine is polled by its driver, not by a runtime",
    ),
    (
        &[".", "await"],
        "a machine is polled by its driver, not by a runtime",
    ),
    (&["unsafe"], "the core forbids it"),
    (&["static", "mut"], "state belongs to a machine"),
    (&["thread_local"], "state belongs to a machine"),
    (&["AtomicU64"], "state belongs to a machine"),
];

#[test]
fn the_core_reads_no_clock_draws_no_randomness_and_has_no_effects() {
    let mut violations = Vec::new();
    for source in core_sources() {
        violations.extend(impurities(&source));
    }
    assert_none("impure code in the core", &violations);
}

#[test]
fn the_core_is_no_std_and_forbids_unsafe_code() {
    let sources = core_sources();
    let library = sources
        .iter()
        .find(|source| source.path == "core/src/lib.rs")
        .expect("core/src/lib.rs");
    let code: String = without_text(&library.text).split_whitespace().collect();
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(code.contains(attribute), "core/src/lib.rs lacks {attribute}");
    }
}

fn core_sources() -> Vec<Source> {
    let mut sources = rust_sources();
    sources.retain(|source| source.path.starts_with("core/src/") && !is_test(&source.path));
    sources
}

/// A module that holds only tests is a file `tests.rs` or lies in a directory `tests`.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn impurities(source: &Source) -> Vec<String> {
    let code = without_tests(&without_text(&source.text));
    let tokens = tokens(&code);
    let mut violations = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        for (words, reason) in FORBIDDEN {
            if starts_with(&tokens[at..], words) {
                violations.push(format!("{}:{line}: {}: {reason}", source.path, words.concat()));
            }
        }
        let is_number = |token: &str| token.starts_with(|c: char| c.is_ascii_digit());
        // In `x.0.1` the digits are names of fields.
        let after_dot = at.checked_sub(1).is_some_and(|before| tokens[before].1 == ".");
        if is_number(token)
            && !after_dot
            && let [(_, "."), (_, fraction), ..] = &tokens[at + 1..]
            && is_number(fraction)
        {
            violations.push(format!(
                "{}:{line}: {token}.{fraction}: use integers",
                source.path
            ));
        }
    }
    violations
}

#[cfg(test)]
fn found(text: &str) -> usize {
    impurities(&Source {
        path: "core/src/x.rs".into(),
        text: text.into(),
    })
    .len()
}

#[test]
fn impure_code_is_found() {
    for text in [
        "use std::time::Instant;",
        "extern crate std;",
        "let map = HashMap::new();",
        "fn f(x: f64) {}",
        "let x = 1.5;",
        "async fn f() {}",
        "x.await",
        "let x = unsafe { y };",
    ] {
        assert_eq!(found(text), 1, "{text}");
    }
}

#[test]
fn pure_code_and_words_about_impure_code_are_not() {
    for text in [
        "/// Not a HashMap, see std::time.",
        "let text = \"std::time 1.5\";",
        "for i in 0..10 { x.0.1 += i; }",
        "#[cfg(test)]\nmod tests { use std::time::Instant; }",
        "use core::time::Duration; let standard = my_std::x;",
    ] {
        assert_eq!(found(text), 0, "{text}");
    }
}
