//! A worker's licence: until when it may let its actor run.
//!
//! It is what enforces the end of a node's [session](crate::session), in the worker itself, so that it holds
//! while the node daemon is dead.

use crate::machine::Machine;
use crate::table::{Moved, Row, Table, kinds, moves, stays};
use crate::time::Instant;
use alloc::collections::VecDeque;

/// A worker's licence to let its actor run, kept by the worker itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Licence {
    hold: Hold,
    outputs: VecDeque<Do>,
}

/// Whether the actor runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hold {
    /// There is none.
    #[default]
    Empty,
    /// It runs, until then if anything bounds it.
    Running(Option<Instant>),
    /// It is held still.
    Frozen,
}

/// What happens to a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Licensed {
    /// An actor has been booted or restored, and may run until then.
    Booted(Option<Instant>),
    /// What runs may do so until then. What is frozen stays so.
    Extended(Instant),
    /// The actor shall be held still.
    Freeze,
    /// The actor shall go on, until then if anything bounds it.
    Thaw(Option<Instant>),
    /// The actor is gone.
    Ended,
}

/// What is to be done to the actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Do {
    /// Hold it still.
    Freeze,
    /// Let it go on.
    Thaw,
    /// This happened: for those who watch.
    Moved(Moved),
}

/// Why a licence wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry;

kinds! {
    /// Where a licence stands, without until when.
    pub enum Phase {
        /// There is no actor.
        Empty,
        /// The actor runs.
        Running,
        /// The actor is held still.
        Frozen,
    }
}

kinds! {
    /// What may befall a licence.
    pub enum Event {
        /// An actor has been booted or restored.
        Booted,
        /// It may run for longer.
        Extended,
        /// It shall be held still.
        Freeze,
        /// It shall go on.
        Thaw,
        /// It is gone.
        Ended,
        /// Its time is over.
        Expiry,
    }
}

/// Everything that may become of a licence. An event for which there is no row changes nothing.
pub const TABLE: Table<Phase, Event> = {
    use Event as E;
    use Phase as P;
    const ROWS: &[Row<P, E>] = &[
        moves(
            &[P::Empty, P::Running, P::Frozen],
            E::Booted,
            &[P::Running],
            "until then, if anything bounds it; what has booted too late is frozen at once",
        ),
        stays(&[P::Running], E::Extended, "until then, and never shorter"),
        moves(&[P::Running], E::Freeze, &[P::Frozen], "held still"),
        moves(
            &[P::Frozen],
            E::Thaw,
            &[P::Running],
            "goes on until then, unless that is past",
        ),
        stays(&[P::Running], E::Thaw, "until then, and never shorter"),
        moves(
            &[P::Empty, P::Running, P::Frozen],
            E::Ended,
            &[P::Empty],
            "nothing is licensed",
        ),
        moves(
            &[P::Running],
            E::Expiry,
            &[P::Frozen],
            "held still, without being told",
        ),
    ];
    Table::new("licence", ROWS)
};

impl Licensed {
    /// What befalls the licence.
    pub fn event(self) -> Event {
        match self {
            Licensed::Booted(_) => Event::Booted,
            Licensed::Extended(_) => Event::Extended,
            Licensed::Freeze => Event::Freeze,
            Licensed::Thaw(_) => Event::Thaw,
            Licensed::Ended => Event::Ended,
        }
    }
}

impl Hold {
    fn phase(self) -> Phase {
        match self {
            Hold::Empty => Phase::Empty,
            Hold::Running(_) => Phase::Running,
            Hold::Frozen => Phase::Frozen,
        }
    }
}

impl Licence {
    /// Whether the actor runs.
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// Where it stands in the [`TABLE`].
    pub fn phase(&self) -> Phase {
        self.hold.phase()
    }

    /// The one way from one state to another.
    fn enter(&mut self, event: Event, hold: Hold) {
        let moved = TABLE.made(Some(self.phase()), event, Some(hold.phase()));
        self.hold = hold;
        self.outputs.push_back(Do::Moved(moved));
    }

    fn freeze(&mut self, event: Event) {
        self.enter(event, Hold::Frozen);
        self.outputs.push_back(Do::Freeze);
    }
}

impl Machine for Licence {
    type Input = Licensed;
    type Output = Do;
    type Timer = Expiry;

    fn handle(&mut self, now: Instant, input: Licensed) {
        let event = input.event();
        match (self.hold, input) {
            (_, Licensed::Booted(until)) => {
                self.enter(event, Hold::Running(until));
                self.handle_timeout(now);
            }
            (_, Licensed::Ended) => self.enter(event, Hold::Empty),
            (Hold::Running(before), Licensed::Extended(until)) => {
                // The first bound may come after the boot; a later word never shortens an earlier one.
                let until = before.map_or(until, |before| before.max(until));
                self.enter(event, Hold::Running(Some(until)));
                self.handle_timeout(now);
            }
            (Hold::Running(_), Licensed::Freeze) => self.freeze(event),
            (Hold::Frozen, Licensed::Thaw(until)) if until.is_none_or(|until| now < until) => {
                self.enter(event, Hold::Running(until));
                self.outputs.push_back(Do::Thaw);
            }
            (Hold::Running(before), Licensed::Thaw(until)) => {
                self.enter(event, Hold::Running(before.max(until)));
            }
            (Hold::Empty | Hold::Frozen, _) => {}
        }
    }

    fn poll_output(&mut self) -> Option<Do> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, Expiry)> {
        match self.hold {
            Hold::Running(Some(until)) => Some((until, Expiry)),
            Hold::Running(None) | Hold::Frozen | Hold::Empty => None,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.hold, Hold::Running(Some(until)) if now >= until) {
            self.freeze(Event::Expiry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn drain(licence: &mut Licence) -> Vec<Do> {
        core::iter::from_fn(|| licence.poll_output())
            .filter(|output| !matches!(output, Do::Moved(_)))
            .collect()
    }

    #[test]
    fn a_first_bound_that_is_past_freezes_at_once() {
        let mut licence = Licence::default();
        licence.handle(at(0), Licensed::Booted(None));
        licence.handle(at(5), Licensed::Extended(at(6)));
        assert_eq!(
            (licence.hold(), drain(&mut licence)),
            (Hold::Running(Some(at(6))), [].into())
        );
        let mut licence = Licence::default();
        licence.handle(at(0), Licensed::Booted(None));
        licence.handle(at(5), Licensed::Extended(at(5)));
        assert_eq!(
            (licence.hold(), drain(&mut licence)),
            (Hold::Frozen, [Do::Freeze].into())
        );
    }

    #[test]
    fn a_worker_freezes_at_the_end_of_its_licence_and_only_a_thaw_lets_it_go_on() {
        let mut licence = Licence::default();
        licence.handle(at(0), Licensed::Booted(Some(at(10))));
        licence.handle(at(5), Licensed::Extended(at(20)));
        licence.handle(at(6), Licensed::Extended(at(15)));
        assert_eq!(licence.poll_timeout(), Some((at(20), Expiry)));
        licence.handle_timeout(at(19));
        assert_eq!(drain(&mut licence), []);
        licence.handle_timeout(at(20));
        assert_eq!(drain(&mut licence), [Do::Freeze]);
        licence.handle(at(21), Licensed::Extended(at(40)));
        assert_eq!((licence.hold(), drain(&mut licence)), (Hold::Frozen, [].into()));
        licence.handle(at(41), Licensed::Thaw(Some(at(41))));
        assert_eq!(
            drain(&mut licence),
            [],
            "a thaw that comes too late thaws nothing"
        );
        licence.handle(at(41), Licensed::Thaw(Some(at(50))));
        assert_eq!(drain(&mut licence), [Do::Thaw]);
    }

    #[test]
    fn a_boot_that_ends_after_its_licence_is_frozen_at_once() {
        let mut licence = Licence::default();
        licence.handle(at(11), Licensed::Booted(Some(at(10))));
        assert_eq!(drain(&mut licence), [Do::Freeze]);
        licence.handle(at(12), Licensed::Ended);
        licence.handle(at(12), Licensed::Freeze);
        assert_eq!((licence.hold(), drain(&mut licence)), (Hold::Empty, [].into()));
    }

    #[test]
    fn what_no_session_bounds_runs_until_it_is_told_otherwise() {
        let mut licence = Licence::default();
        licence.handle(at(0), Licensed::Booted(None));
        assert_eq!(licence.poll_timeout(), None);
        licence.handle(at(1), Licensed::Freeze);
        licence.handle(at(2), Licensed::Freeze);
        assert_eq!(drain(&mut licence), [Do::Freeze]);
        licence.handle(at(3), Licensed::Thaw(None));
        assert_eq!(
            (licence.hold(), drain(&mut licence)),
            (Hold::Running(None), [Do::Thaw].into())
        );
    }
}
