//! The reachability ledger: every state of every record with every event, and who makes it happen.
//!
//! It is a text that people read and a test compares. Reasons are written by hand and are kept when the
//! rest is written anew.
//!
//! It may only improve, which takes no history to see. What the text says now is compared with what is seen
//! now: an entry that has become weaker ([`weakened`]) is not written down, it is a failure. And how many weak
//! entries each record may have is a number in the source of the test ([`Ceiling`]), so that new ones need a
//! line that a reader sees.

use holdfast_core::table::{ABSENT, Kind, Moved, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

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
# It may only improve: from never to refused, to walk, to run. How many entries are walk or never, per record,
# has a ceiling in sim/tests/ledger.rs.
#
# REWRITE=1 cargo test -p holdfast-sim --test ledger
# writes it anew and keeps the reasons.
";

/// How well an entry is known, from what is only said to what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// A reason says why it does not happen.
    Never,
    /// It is not in the table, and has been tried.
    Refused,
    /// The record's own test makes it.
    Walk,
    /// A run of the simulator makes it.
    Run,
}

impl Standing {
    /// All of them, the weakest first.
    pub const ALL: [Standing; 4] = [Standing::Never, Standing::Refused, Standing::Walk, Standing::Run];

    /// What stands before its entries.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Never => "never",
            Standing::Refused => "refused",
            Standing::Walk => "walk",
            Standing::Run => "run",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many entries of one record may be weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// So many that only the record's own test makes.
    pub walk: usize,
    /// So many for which only a reason is given.
    pub never: usize,
}

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

/// An entry: record, state, and event or transition.
pub type Entry = (String, String, String);

/// What reason is given for an entry.
pub type Reasons = BTreeMap<Entry, String>;

/// How well each entry is known.
pub type Standings = BTreeMap<Entry, Standing>;

/// The ledger as it is being written.
#[derive(Debug)]
pub struct Ledger {
    text: String,
    counts: BTreeMap<(&'static str, Standing), usize>,
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
                        self.count(table.record(), Standing::Refused);
                        refused.push(event.name());
                    } else {
                        self.count(table.record(), Standing::Never);
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
        let counts = Standing::ALL.map(|standing| {
            let each = self.counts.iter().filter(|((_, of), _)| *of == standing);
            format!("{} {standing}", each.map(|(_, count)| count).sum::<usize>())
        });
        format!("{HEAD}#\n# {}\n{}", counts.join(", "), self.text)
    }

    /// The ceilings that are passed, or left behind.
    pub fn passed(&self, ceilings: &[(&str, Ceiling)]) -> Vec<String> {
        let records: BTreeSet<&str> = self.counts.keys().map(|(record, _)| *record).collect();
        let mut passed = Vec::new();
        for record in records {
            let Some((_, ceiling)) = ceilings.iter().find(|(of, _)| *of == record) else {
                passed.push(format!("{record}: no ceiling"));
                continue;
            };
            let limits = [(Standing::Walk, ceiling.walk), (Standing::Never, ceiling.never)];
            for (standing, limit) in limits {
                let count = self.counts.get(&(record, standing)).copied().unwrap_or_default();
                if count > limit {
                    passed.push(format!(
                        "{record}: {count} {standing}, and no more than {limit} may be"
                    ));
                }
                if count < limit {
                    passed.push(format!(
                        "{record}: {count} {standing}; lower the ceiling from {limit}, so that it stays so"
                    ));
                }
            }
        }
        passed
    }

    fn transition(&mut self, moved: &Moved, seen: &Seen) {
        let what = format!("{} -> {}", moved.event, moved.to);
        let standing = if seen.run.contains(moved) {
            Standing::Run
        } else if seen.walked.contains(moved) {
            Standing::Walk
        } else {
            Standing::Never
        };
        self.count(moved.record, standing);
        let _ = match standing {
            Standing::Run => writeln!(self.text, "  {standing:<5} {what}"),
            _ => {
                let reason = self.reason(moved.record, moved.from, &what);
                writeln!(self.text, "  {standing:<5} {what}: {reason}")
            }
        };
    }

    fn count(&mut self, record: &'static str, standing: Standing) {
        *self.counts.entry((record, standing)).or_default() += 1;
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
    let entries = entries(text).filter_map(|(entry, _, reason)| Some((entry, reason?.to_string())));
    entries.collect()
}

/// How well a ledger knows what is in it.
pub fn standings(text: &str) -> Standings {
    entries(text)
        .map(|(entry, standing, _)| (entry, standing))
        .collect()
}

/// The entries that both have, and that were better known before. An entry that is in only one of the two is
/// about another table.
pub fn weakened(before: &Standings, now: &Standings) -> Vec<String> {
    let both = before
        .iter()
        .filter_map(|(entry, was)| Some((entry, was, now.get(entry)?)));
    both.filter(|(_, was, is)| is < was)
        .map(|((record, state, what), was, is)| format!("{record} {state}, {what}: was {was}, is {is}"))
        .collect()
}

fn entries(text: &str) -> impl Iterator<Item = (Entry, Standing, Option<&str>)> {
    let mut place = ("", "");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(move |line| {
        let mut found = Vec::new();
        match (line.strip_prefix("  "), line.split_once(' ')) {
            (Some(entry), _) => {
                let (word, rest) = entry.split_once(' ').unwrap_or((entry, ""));
                let standing = Standing::ALL.into_iter().find(|standing| standing.name() == word);
                let (whats, reason) = match rest.split_once(": ") {
                    Some((whats, reason)) => (whats, Some(reason)),
                    None => (rest, None),
                };
                for what in whats.split(", ") {
                    let entry = (place.0.into(), place.1.into(), what.trim().into());
                    found.extend(standing.map(|standing| (entry, standing, reason)));
                }
            }
            (None, Some(heading)) => place = heading,
            (None, None) => {}
        }
        found
    })
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
    fn known(standing: Standing) -> Standings {
        let entry = |what: &str| ("lease".into(), "Held".into(), what.into());
        [
            (entry("Renew -> Renewing"), standing),
            (entry("Acquire"), Standing::Refused),
        ]
        .into()
    }

    #[test]
    fn an_entry_that_is_known_less_well_than_before_is_told_and_no_other_is() {
        for (index, was) in Standing::ALL.into_iter().enumerate() {
            for (other, is) in Standing::ALL.into_iter().enumerate() {
                let told = weakened(&known(was), &known(is));
                assert_eq!(told.len(), usize::from(other < index), "{was} to {is}");
            }
        }
        assert_eq!(
            weakened(&known(Standing::Run), &known(Standing::Walk)),
            ["lease Held, Renew -> Renewing: was run, is walk"]
        );
        assert!(weakened(&known(Standing::Run), &Standings::new()).is_empty());
    }

    #[test]
    fn a_ceiling_is_kept_neither_passed_nor_left_behind() {
        let mut ledger = Ledger::new(Reasons::new());
        ledger.count("lease", Standing::Run);
        ledger.count("lease", Standing::Walk);
        let told = |walk, never| ledger.passed(&[("lease", Ceiling { walk, never })]);
        assert_eq!(told(1, 0), [""; 0]);
        let [more] = &told(0, 0)[..] else {
            panic!("one is too many")
        };
        assert_eq!(more, "lease: 1 walk, and no more than 0 may be");
        let [less] = &told(1, 2)[..] else {
            panic!("two may be")
        };
        assert!(
            less.starts_with("lease: 0 never; lower the ceiling from 2"),
            "{less}"
        );
        assert_eq!(ledger.passed(&[]), ["lease: no ceiling"]);
    }
}
