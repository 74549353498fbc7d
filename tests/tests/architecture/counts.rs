//! Versions and fences that come from outside are read with `try_from`, which refuses what nobody can have
//! counted up to. So the core, which counts on from them, is never handed such a number.

use crate::code::{tokens, without_tests, without_text};
use crate::{Source, assert_none, rust_sources};

const COUNTS: [&str; 2] = ["Fence", "Version"];

#[test]
fn no_number_from_outside_becomes_a_version_or_a_fence_unchecked() {
    let ships = |source: &&Source| {
        (source.path.starts_with("adapters/") || source.path.starts_with("bins/"))
            && source.path.contains("/src/")
            && !source.path.contains("/conformance")
            && !source.path.ends_with("/tests.rs")
    };
    let sources = rust_sources();
    let violations: Vec<_> = sources.iter().filter(ships).flat_map(unchecked).collect();
    assert_none(
        "a number that becomes a Version or a Fence without try_from",
        &violations,
    );
}

/// Where the constructor is given anything but a literal, or given away.
fn unchecked(source: &Source) -> Vec<String> {
    let code = without_tests(&without_text(&source.text));
    let tokens = tokens(&code);
    let word = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    let is_literal = |token: &str| token.starts_with(|c: char| c.is_ascii_digit());
    // Of another enum that has a variant of that name.
    let is_type = |token: &str| matches!(token, "u32" | "u64");
    let found = (1..tokens.len()).filter(|&at| {
        let is_path = word(at - 1) == ":" && at > 1 && word(at - 2) == ":";
        let is_own = !is_path || at > 2 && word(at - 3) == "id";
        let is_called = word(at + 1) == "(" && !is_literal(word(at + 2)) && !is_type(word(at + 2));
        let is_passed = word(at - 1) == "(" && word(at + 1) == ")";
        COUNTS.contains(&word(at)) && is_own && (is_called || is_passed)
    });
    found
        .map(|at| format!("{}:{}: {}", source.path, tokens[at].0, word(at)))
        .collect()
}

#[test]
fn a_number_that_is_not_checked_is_found() {
    let found = |text: &str| {
        unchecked(&Source {
            path: "x.rs".into(),
            text: text.into(),
        })
        .len()
    };
    for unchecked in [
        "f(Fence(message.fence))",
        "let v = id::Version(n);",
        "number.map(Fence)",
        "let f = Fence (x);",
    ] {
        assert_eq!(found(unchecked), 1, "{unchecked}");
    }
    for checked in [
        "f(Fence(0))",
        "Fence::try_from(message.fence)?",
        "fn f(fence: Fence) -> Option<Version>",
        "use holdfast_core::id::{Fence, Version};",
        "DecodeError::Version(version)",
        "enum DecodeError { Version(u32) }",
        "type Life = (Incarnation, Fence, u8);",
        "f(Fence::MAX)",
        "#[cfg(test)]\nmod tests { fn x() { Fence(n); } }",
    ] {
        assert_eq!(found(checked), 0, "{checked}");
    }
}
