//! How what a machine says is put for people: in full, less what is the same everywhere.

use std::fmt::Debug;

/// Written out again and again, and the same for every actor of a plan.
const SAME_EVERYWHERE: [&str; 2] = ["Template {", "Workload {"];
/// Wrappers that say no more than the field that they stand in.
const TRANSPARENT: [&str; 7] = [
    "Some(",
    "Version(",
    "Fence(",
    "Incarnation(",
    "EffectId(",
    "RequestId(",
    "Ok(",
];
/// The longest that is kept of one text, in bytes: the lists that a replica reads are as long as the world is large.
const TEXT_MAX: usize = 2_000;

/// The name of a variant.
pub(super) fn variant(debug: &str) -> &str {
    let end = debug.find(|c: char| !c.is_ascii_alphanumeric());
    &debug[..end.unwrap_or(debug.len())]
}

/// The name of a variant of this.
pub(super) fn name(of: &impl Debug) -> String {
    variant(&format!("{of:?}")).to_string()
}

/// All of it, to be read.
pub(super) fn full(of: &impl Debug) -> String {
    condensed(&format!("{of:?}"))
}

/// The text of a `Debug` without what is the same everywhere.
pub(super) fn condensed(debug: &str) -> String {
    let mut text = String::with_capacity(debug.len());
    let mut rest = debug;
    // Whether the closing bracket of an open one is to be written.
    let mut open = Vec::new();
    while let Some(next) = rest.chars().next() {
        if text.len() > TEXT_MAX {
            text.push('…');
            return text;
        }
        let begins_word = !text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let is_word = |start: &&&str| begins_word && rest.starts_with(**start);
        if let Some(start) = SAME_EVERYWHERE.iter().find(is_word) {
            text.push_str(start.trim_end_matches('{'));
            text.push('…');
            rest = after_closing(&rest[start.len()..]);
            continue;
        }
        if let Some(start) = TRANSPARENT.iter().find(is_word) {
            open.push(false);
            rest = &rest[start.len()..];
            continue;
        }
        if let Some((shown, after)) = as_displayed(rest).filter(|_| begins_word) {
            text.push_str(&shown);
            rest = after;
            continue;
        }
        if let Some((quoted, after)) = quoted(rest) {
            text.push_str(quoted);
            rest = after;
            continue;
        }
        rest = &rest[next.len_utf8()..];
        match next {
            '(' | '[' | '{' => open.push(true),
            ')' | ']' | '}' if !open.pop().unwrap_or(true) => continue,
            _ => {}
        }
        text.push(next);
    }
    text
}

/// What follows the bracket that closes the one before `text`.
fn after_closing(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    ""
}

/// What everybody writes otherwise than `Debug` does, if a text begins with it, and what follows.
fn as_displayed(text: &str) -> Option<(String, &str)> {
    actor_key(text)
        .or_else(|| scoped(text))
        .or_else(|| replica_id(text))
}

fn actor_key(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix("ActorKey { atespace: ")?;
    let (atespace, rest) = rest.split_once(", name: ")?;
    let (name, rest) = rest.split_once(" }")?;
    Some((format!("{atespace}/{name}"), rest))
}

/// An operation or an acquisition: a number of a replica's own.
fn scoped(text: &str) -> Option<(String, &str)> {
    let rest = text
        .strip_prefix("OpId { replica: ")
        .or_else(|| text.strip_prefix("LeaseToken { replica: "))?;
    let (replica, rest) = replica_id(rest)?;
    let (seq, rest) = rest.strip_prefix(", seq: ")?.split_once(" }")?;
    Some((format!("{replica}-{seq}"), rest))
}

fn replica_id(text: &str) -> Option<(String, &str)> {
    let (id, rest) = text.strip_prefix("ReplicaId(")?.split_once(')')?;
    Some((format!("{:016x}", id.parse::<u64>().ok()?), rest))
}

/// The quoted text that this begins with, and what follows: brackets in it are no brackets.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut is_escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(text.split_at(at + 2)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;
    use holdfast_core::actor::State;
    use holdfast_core::id::{ActorKey, OpId, ReplicaId};

    #[test]
    fn a_record_is_told_in_full_but_for_its_template() {
        let told = full(&Some(made_up::actor(State::Suspended)));
        assert!(
            told.starts_with("Actor { key: s/a, version: 1, incarnation: 1,"),
            "{told}"
        );
        assert!(told.contains("pinned: Template …,"), "{told}");
        assert!(told.contains("state: Suspended"), "{told}");
        assert!(told.ends_with('}'), "{told}");
    }

    #[test]
    fn brackets_are_dropped_in_pairs() {
        let key = ActorKey::new("s", "a");
        assert_eq!(full(&(Some(1), [Some((key, Some(2)))])), "(1, [(s/a, 2)])");
        assert_eq!(full(&Some(Err::<(), _>("no (\"}"))), r#"Err("no (\"}")"#);
    }

    #[test]
    fn an_operation_is_told_as_everybody_writes_it() {
        let op = OpId {
            replica: ReplicaId(10),
            seq: 7,
        };
        assert_eq!(full(&Some(op)), op.to_string());
    }

    #[test]
    fn a_text_without_end_is_cut_off_and_shows_it() {
        let told = full(&vec!["word"; 10_000]);
        assert!(told.ends_with('…') && told.len() < TEXT_MAX + 10);
    }

    #[test]
    fn a_variant_is_called_by_its_name() {
        assert_eq!(name(&Some(3)), "Some");
        assert_eq!(name(&State::Paused), "Paused");
    }
}
