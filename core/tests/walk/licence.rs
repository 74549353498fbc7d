//! A worker's licence to let its actor run.

use super::{Walk, Walked};
use holdfast_core::licence::*;
use holdfast_core::machine::Machine;
use holdfast_core::table::{Kind, Moved};
use holdfast_core::time::{Duration, Instant};

/// Everything that may happen to a licence, four in a row, in time and too late.
pub fn walk() -> Walk {
    super::walk(Papers::default(), 4)
}

/// A licence with its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Papers {
    licence: Licence,
    now: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Booted(Option<Until>),
    Extended(Until),
    Freeze,
    Thaw(Option<Until>),
    Ended,
    /// Woken when it wants to be.
    Wake,
    /// Woken by mistake.
    Spurious,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Past,
    Soon,
}

impl Papers {
    fn at(&self, until: Until) -> Instant {
        match until {
            Until::Past => self.now,
            Until::Soon => self.now.plus(Duration::from_secs(10)),
        }
    }
}

impl Walked for Papers {
    type Deed = Deed;
    type Event = Event;

    fn deeds() -> Vec<Deed> {
        use Until::{Past, Soon};
        vec![
            Deed::Booted(None),
            Deed::Booted(Some(Soon)),
            Deed::Booted(Some(Past)),
            Deed::Extended(Soon),
            Deed::Extended(Past),
            Deed::Freeze,
            Deed::Thaw(None),
            Deed::Thaw(Some(Soon)),
            Deed::Thaw(Some(Past)),
            Deed::Ended,
            Deed::Wake,
            Deed::Spurious,
        ]
    }

    fn phase(&self) -> &'static str {
        self.licence.phase().name()
    }

    fn suffer(&mut self, deed: Deed) -> Vec<Event> {
        let at = |until: Option<Until>| until.map(|until| self.at(until));
        let input = match deed {
            Deed::Booted(until) => Licensed::Booted(at(until)),
            Deed::Extended(until) => Licensed::Extended(self.at(until)),
            Deed::Freeze => Licensed::Freeze,
            Deed::Thaw(until) => Licensed::Thaw(at(until)),
            Deed::Ended => Licensed::Ended,
            Deed::Wake => {
                let Some((at, Expiry)) = self.licence.poll_timeout() else {
                    // No deadline: time may pass for as long as it likes.
                    self.now = self.now.plus(Duration::from_secs(100));
                    self.licence.handle_timeout(self.now);
                    return match self.licence.phase() {
                        Phase::Running => vec![],
                        Phase::Empty | Phase::Frozen => vec![Event::Expiry],
                    };
                };
                self.now = self.now.max(at);
                self.licence.handle_timeout(self.now);
                return vec![Event::Expiry];
            }
            Deed::Spurious => {
                self.licence.handle_timeout(self.now);
                return vec![];
            }
        };
        self.licence.handle(self.now, input);
        // A thaw that comes too late thaws nothing.
        let is_late = matches!(deed, Deed::Thaw(Some(Until::Past)));
        (!is_late).then_some(input.event()).into_iter().collect()
    }

    fn moves(&mut self) -> Vec<Moved> {
        let outputs = std::iter::from_fn(|| self.licence.poll_output());
        let moved = |output| match output {
            Do::Moved(moved) => Some(moved),
            Do::Freeze | Do::Thaw => None,
        };
        outputs.filter_map(moved).collect()
    }

    fn is_same(&self, other: &Papers) -> bool {
        self.licence == other.licence
    }
}
