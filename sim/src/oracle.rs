//! What must be true, one file each (design section 10).

mod by_the_table;
mod crash_cause;
mod fence_order;
mod latest_complete;
mod one_sandbox;
mod one_verdict;
mod settled;
mod state_kept;

use crate::fact::Fact;
use holdfast_core::settings::Settings;
use holdfast_core::table::Moved;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use by_the_table::ByTheTable;
pub use crash_cause::CrashCause;
pub use fence_order::FenceOrder;
pub use latest_complete::LatestComplete;
pub use one_sandbox::OneSandbox;
pub use one_verdict::OneVerdict;
pub use settled::Settled;
pub use state_kept::StateKept;

/// One thing that must be true.
pub trait Oracle: Fork {
    /// Takes note of a fact that came about at `now`, in microseconds of true time; the error says what is
    /// wrong with it.
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String>;

    /// The run is over.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// What lets a world be forked together with those who watch it.
pub trait Fork {
    /// Another one that has seen the same.
    fn fork(&self) -> Box<dyn Oracle>;
}

impl<T: Oracle + Clone + 'static> Fork for T {
    fn fork(&self) -> Box<dyn Oracle> {
        Box::new(self.clone())
    }
}

/// What may be relied on in a world: what is promised depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// No two clocks drift apart further than is declared.
    pub drift: bool,
}

/// Something that must never be, and was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in microseconds.
    pub at: u64,
    /// Which invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// The invariant and the first words of what was seen, without names and numbers: two violations with
    /// the same gist are taken to be one defect.
    pub fn gist(&self) -> String {
        let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == ',');
        let words: Vec<&str> = self.what.split(' ').filter(is_word).take(6).collect();
        format!("{}: {}", self.invariant, words.join(" "))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        write!(f, "{} at {secs}.{micros:06}s: {}", self.invariant, self.what)
    }
}

/// All oracles, and the first violation that one of them saw.
pub struct Oracles {
    all: Vec<(&'static str, Box<dyn Oracle>)>,
    table: ByTheTable,
    verdicts: BTreeMap<String, u64>,
    now: u64,
    violation: Option<Violation>,
}

impl Clone for Oracles {
    fn clone(&self) -> Self {
        Oracles {
            all: self
                .all
                .iter()
                .map(|(name, oracle)| (*name, oracle.fork()))
                .collect(),
            table: self.table.clone(),
            verdicts: self.verdicts.clone(),
            now: self.now,
            violation: self.violation.clone(),
        }
    }
}

impl Oracles {
    /// All of them, for a world with these settings in which this is so.
    pub fn new(settings: &Settings, assumed: Assumed) -> Self {
        Oracles {
            all: vec![
                ("I1", Box::new(FenceOrder::default())),
                ("I2", Box::new(OneSandbox::new(settings, assumed))),
                ("I4", Box::new(LatestComplete::default())),
                ("I5", Box::new(StateKept::default())),
                ("I8", Box::new(Settled)),
                ("I10", Box::new(CrashCause::new(assumed))),
                ("I12", Box::new(OneVerdict::default())),
            ],
            table: ByTheTable::default(),
            verdicts: BTreeMap::new(),
            now: 0,
            violation: None,
        }
    }

    /// Shows a fact to every oracle.
    pub fn see(&mut self, now: u64, fact: &Fact) {
        self.now = now;
        if let Fact::Told(_, result) = fact {
            let name = match result {
                Ok(()) => "Ok".to_string(),
                Err(failure) => format!("{:?}", failure.code),
            };
            *self.verdicts.entry(name).or_default() += 1;
        }
        let table = ("table", self.table.see(now, fact));
        let others = self
            .all
            .iter_mut()
            .map(|(name, oracle)| (*name, oracle.see(now, fact)));
        let seen: Vec<_> = [table].into_iter().chain(others).collect();
        self.note(seen);
    }

    /// The run is over.
    pub fn end(&mut self) {
        let seen: Vec<_> = self
            .all
            .iter_mut()
            .map(|(name, oracle)| (*name, oracle.end()))
            .collect();
        self.note(seen);
    }

    /// The first violation.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// How many requests were answered how.
    pub fn verdicts(&self) -> &BTreeMap<String, u64> {
        &self.verdicts
    }

    /// The transitions that were made.
    pub fn moves(&self) -> &BTreeSet<Moved> {
        self.table.moves()
    }

    fn note(&mut self, seen: Vec<(&'static str, Result<(), String>)>) {
        for (invariant, result) in seen {
            if let (Err(what), None) = (result, &self.violation) {
                self.violation = Some(Violation {
                    at: self.now,
                    invariant,
                    what,
                });
            }
        }
    }
}
