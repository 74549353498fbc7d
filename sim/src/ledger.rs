//! The reachability ledger: every state of every record with every event, and who makes it happen.
//!
//! It is a text that people read and a test compares. Reasons are written by hand and are kept when the
//! rest is written anew.

use holdfast_core::table::{ABSENT, Kind, Moved, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What stands where a reason is still to be given.
pub const UNEXPLAINED: &str = "?";

/// What the ledger says of itself.
const HEAD: &str = "\
# The reachability ledger: every state of every record with every event.
#
#   run      a run of the simulator makes this transition
#   walk     only the record's own test makes it; why no run does is said
#   never    nothing makes it, or can ask for it; why is said
#   refused  not in the record's table: its own test tries it, and nothing changes
#
# REWRITE=1 cargo test -p holdfast-sim --test ledger
# writes it anew and keeps the reasons.
";

/// What has been seen to happen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Transitions that runs of the simulator have made.
    pub run: BTreeSet<Moved>,
    /// Transitions that the records' own tests have made.
    pub walked: BTreeSet<Moved>,
    /// Record, state and event, of what those tests have tried in vain.
    pub refused: BTreeSet<(&'static str, &'static str, &'static str)>,
}

/// Reasons by record, state, and what they are given for.
pub type Reasons = BTreeMap<(String, String, String), String>;

/// The ledger as it is being written.
#[derive(Debug)]
pub struct Ledger {
    text: String,
    counts: BTreeMap<&'static str, usize>,
    reasons: Reasons,
}

impl Ledger {
    /// An empty ledger that will give these reasons.
    pub fn new(reasons: Reasons) -> Ledger {
        Ledger {
            text: String::new(),
            counts: BTreeMap::new(),
            reasons,
        }
    }

    /// Writes what has been seen of one kind of record.
    pub fn add<S: Kind, E: Kind>(&mut self, table: &Table<S, E>, seen: &Seen) {
        let pairs: Vec<_> = table.pairs().collect();
        for pairs in pairs.chunk_by(|a, b| a.0 == b.0) {
            let from = pairs[0].0;
            let state = from.map_or(ABSENT, S::name);
            let _ = writeln!(self.text, "\n{} {state}", table.record());
            let mut refused = Vec::new();
            let mut never: Vec<(String, Vec<&str>)> = Vec::new();
            for (_, event) in pairs {
                if !table.allows(from, *event) {
                    if seen.refused.contains(&(table.record(), state, event.name())) {
                        self.count("refused");
                        refused.push(event.name());
                    } else {
                        self.count("never");
                        let reason = self.reason(table.record(), state, event.name());
                        match never.iter_mut().find(|(known, _)| *known == reason) {
                            Some((_, events)) => events.push(event.name()),
                            None => never.push((reason, vec![event.name()])),
                        }
                    }
                }
                let targets: BTreeSet<Option<&str>> =
                    table.targets(from, *event).map(|to| to.map(S::name)).collect();
                for to in targets {
                    let moved = Moved {
                        record: table.record(),
                        from: state,
                        event: event.name(),
                        to: to.unwrap_or(ABSENT),
                    };
                    self.transition(&moved, seen);
                }
            }
            for (reason, events) in never {
                let _ = writeln!(self.text, "  never {}: {reason}", events.join(", "));
            }
            if !refused.is_empty() {
                let _ = writeln!(self.text, "  refused {}", refused.join(", "));
            }
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(how, n)| format!("{n} {how}")).collect();
        format!("{HEAD}#\n# {}\n{}", counts.join(", "), self.text)
    }

    fn transition(&mut self, moved: &Moved, seen: &Seen) {
        let what = format!("{} -> {}", moved.event, moved.to);
        let how = if seen.run.contains(moved) {
            "run"
        } else if seen.walked.contains(moved) {
            "walk"
        } else {
            "never"
        };
        self.count(how);
        let _ = match how {
            "run" => writeln!(self.text, "  {how:<5} {what}"),
            _ => {
                let reason = self.reason(moved.record, moved.from, &what);
                writeln!(self.text, "  {how:<5} {what}: {reason}")
            }
        };
    }

    fn count(&mut self, how: &'static str) {
        *self.counts.entry(how).or_default() += 1;
    }

    fn reason(&self, record: &str, state: &str, what: &str) -> String {
        let key = (record.to_string(), state.to_string(), what.to_string());
        self.reasons
            .get(&key)
            .map_or(UNEXPLAINED, String::as_str)
            .to_string()
    }
}

/// The reasons that a ledger gives.
pub fn reasons(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    let mut place = (String::new(), String::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match (line.strip_prefix("  "), line.split_once(' ')) {
            (Some(entry), _) => {
                let given = entry.split_once(' ').and_then(|(_, rest)| rest.split_once(": "));
                let Some((whats, reason)) = given else { continue };
                for what in whats.split(", ") {
                    let key = (place.0.clone(), place.1.clone(), what.trim().to_string());
                    reasons.insert(key, reason.to_string());
                }
            }
            (None, Some((record, state))) => place = (record.to_string(), state.to_string()),
            (None, None) => {}
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::lease::{Event, Phase, TABLE};

    #[test]
    fn what_is_seen_is_told_and_reasons_are_kept() {
        let granted = TABLE.made(Some(Phase::Acquiring), Event::Granted, Some(Phase::Held));
        let late = TABLE.made(Some(Phase::Acquiring), Event::Granted, Some(Phase::Over));
        let seen = Seen {
            run: [granted].into(),
            walked: [granted, late].into(),
            refused: [("lease", "Acquiring", "Release")].into(),
        };
        let reason = |what: &str| ("lease".to_string(), "Acquiring".to_string(), what.to_string());
        let given = Reasons::from([
            (reason("Granted -> Over"), "too fast".to_string()),
            (reason("Renew"), "not held".to_string()),
            (reason("Expiry"), "not held".to_string()),
        ]);
        let mut ledger = Ledger::new(given.clone());
        ledger.add(&TABLE, &seen);
        let text = ledger.text();
        for line in [
            "lease Acquiring",
            "  run   Granted -> Held",
            "  walk  Granted -> Over: too fast",
            "  never Renew, Expiry: not held",
            "  refused Release",
            "  never Acquire -> Acquiring: ?",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let kept = reasons(&text);
        for (what, reason) in &given {
            assert_eq!(kept.get(what), Some(reason), "{what:?}\n{text}");
        }
        let mut again = Ledger::new(kept);
        again.add(&TABLE, &seen);
        assert_eq!(again.text(), text);
    }
}
