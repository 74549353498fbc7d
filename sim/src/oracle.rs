//! What must be true, one file each (design section 10).

mod able;
mod by_the_table;
mod i01_fence_order;
mod i02_one_sandbox;
mod i03_one_actor;
mod i04_latest_complete;
mod i05_state_kept;
mod i06_one_believer;
mod i07_failover;
mod i08_settled;
mod i09_in_time;
mod i10_crash_cause;
mod i11_bounded;
mod i12_one_verdict;

use crate::clock;
use crate::fact::Fact;
use crate::fact::Still;
use crate::plan::Plan;
use holdfast_core::bounds::Bound;
use holdfast_core::table::Moved;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use by_the_table::ByTheTable;
pub use i01_fence_order::FenceOrder;
pub use i02_one_sandbox::OneSandbox;
pub use i03_one_actor::OneActor;
pub use i04_latest_complete::LatestComplete;
pub use i05_state_kept::StateKept;
pub use i06_one_believer::OneBeliever;
pub use i07_failover::{Failover, FailoverOfNodes};
pub use i08_settled::Settled;
pub use i09_in_time::InTime;
pub use i10_crash_cause::CrashCause;
pub use i11_bounded::Bounded;
pub use i12_one_verdict::OneVerdict;

/// One thing that must be true.
pub trait Oracle: Fork {
    /// Takes note of a fact that came about at `now`, in microseconds of true time; the error says what is
    /// wrong with it.
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String>;

    /// The run is over.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// How near the run came to the bounds that it watches.
    fn nearness(&self) -> Vec<(Bound, Nearness)> {
        Vec::new()
    }
}

/// How near a run came to a bound: of what was seen, the worst beside what may be at most. For what may not be
/// shorter than a bound, the bound beside the shortest that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nearness {
    /// The lesser of the two, if all is well, in microseconds.
    pub worst_us: u64,
    /// The greater, in microseconds.
    pub bound_us: u64,
}

impl Nearness {
    /// Of these bounds, by the worst that was seen and what is allowed, those that were put to the test.
    fn of_tested<const N: usize>(bounds: [(Bound, u64, u64); N]) -> Vec<(Bound, Nearness)> {
        let tested = bounds.into_iter().filter(|(_, worst_us, _)| *worst_us > 0);
        let near = |(bound, worst_us, bound_us)| (bound, Nearness { worst_us, bound_us });
        tested.map(near).collect()
    }

    /// The one by the other, in thousandths.
    pub fn thousandths(self) -> u64 {
        self.worst_us.saturating_mul(1000) / self.bound_us.max(1)
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
        write!(f, "{} at {}: {}", self.invariant, moment(self.at), self.what)
    }
}

/// All oracles, and the first violation that one of them saw.
pub struct Oracles {
    all: Vec<(&'static str, Box<dyn Oracle>)>,
    /// Those that see what is known to be wrong and not mended yet: `sim/corpus/open` has it. What they find is told
    /// apart, so that nothing else goes unseen behind it.
    open: Vec<(&'static str, Box<dyn Oracle>)>,
    table: ByTheTable,
    verdicts: BTreeMap<String, u64>,
    now: u64,
    violation: Option<Violation>,
    known: Option<Violation>,
}

impl Clone for Oracles {
    fn clone(&self) -> Self {
        let fork = |oracles: &Vec<(&'static str, Box<dyn Oracle>)>| {
            let forks = oracles.iter().map(|(name, oracle)| (*name, oracle.fork()));
            forks.collect()
        };
        Oracles {
            all: fork(&self.all),
            open: fork(&self.open),
            table: self.table.clone(),
            verdicts: self.verdicts.clone(),
            now: self.now,
            violation: self.violation.clone(),
            known: self.known.clone(),
        }
    }
}

impl Oracles {
    /// All of them, for a world like this.
    pub fn new(plan: &Plan) -> Self {
        let settings = &plan.settings.settings();
        let clocks = &plan.clocks();
        let assumed = Assumed {
            drift: clock::are_within_drift(clocks, settings),
        };
        let world = &plan.world;
        let workers: usize = world.nodes.iter().map(|node| node.workers).sum();
        let things = world.nodes.len() + workers + world.actors + world.callers;
        Oracles {
            all: vec![
                ("I1", Box::new(FenceOrder::default())),
                ("I2", Box::new(OneSandbox::new(assumed))),
                ("I3", Box::new(OneActor::default())),
                ("I4", Box::new(LatestComplete::default())),
                ("I5", Box::new(StateKept::default())),
                ("I6", Box::new(OneBeliever::new(assumed, settings, clocks))),
                ("I7", Box::new(Failover::new(settings, clocks, workers))),
                ("I8", Box::new(Settled::default())),
                ("I9", Box::new(InTime::new(settings, clocks))),
                ("I10", Box::new(CrashCause::new(assumed))),
                ("I11", Box::new(Bounded::new(things, settings, clocks))),
                ("I12", Box::new(OneVerdict::default())),
            ],
            open: vec![("I7", Box::new(FailoverOfNodes::new(settings, clocks, workers)))],
            table: ByTheTable::default(),
            verdicts: BTreeMap::new(),
            now: 0,
            violation: None,
            known: None,
        }
    }

    /// How near it came to each bound that was put to the test.
    pub fn nearness(&self) -> BTreeMap<Bound, Nearness> {
        let all = self.all.iter().chain(&self.open);
        let all = all.flat_map(|(_, oracle)| oracle.nearness());
        all.collect()
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
        let table = self.table.see(now, fact);
        self.note("table", table);
        for number in 0..self.all.len() {
            let (name, oracle) = &mut self.all[number];
            let (name, seen) = (*name, oracle.see(now, fact));
            self.note(name, seen);
        }
        for (invariant, oracle) in &mut self.open {
            if let (Err(what), None) = (oracle.see(now, fact), &self.known) {
                self.known = Some(Violation {
                    at: now,
                    invariant,
                    what,
                });
            }
        }
    }

    /// The run is over.
    pub fn end(&mut self) {
        for number in 0..self.all.len() {
            let (name, oracle) = &mut self.all[number];
            let (name, seen) = (*name, oracle.end());
            self.note(name, seen);
        }
    }

    /// A machine has panicked: an assertion of its own failed, or what no assertion foresaw.
    pub fn panicked(&mut self, now: u64, what: String) {
        self.now = now;
        self.note("assertion", Err(what));
    }

    /// The first violation.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// The first violation that is known to happen and not mended yet.
    pub fn known(&self) -> Option<&Violation> {
        self.known.as_ref()
    }

    /// How many requests were answered how.
    pub fn verdicts(&self) -> &BTreeMap<String, u64> {
        &self.verdicts
    }

    /// The transitions that were made.
    pub fn moves(&self) -> &BTreeSet<Moved> {
        self.table.moves()
    }

    fn note(&mut self, invariant: &'static str, seen: Result<(), String>) {
        if let (Err(what), None) = (seen, &self.violation) {
            self.violation = Some(Violation {
                at: self.now,
                invariant,
                what,
            });
        }
    }
}

/// Whether everything is as it should be when nothing is under way.
pub(crate) fn is_settled(still: &Still) -> bool {
    i03_one_actor::agree(still).is_ok() && i08_settled::look(still, &BTreeSet::new()).is_ok()
}

/// A moment, or a time, as messages have it.
fn moment(micros: u64) -> String {
    format!("{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
}
