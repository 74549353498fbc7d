//! Sessions of nodes: for how long a node may let its actors run without word from the control plane.
//!
//! Silence proves nothing about sandboxes, so a node that cannot be heard keeps its actors until it is
//! certain that it has frozen them. A session makes it certain:
//!
//! * The node believes in its session from before the report was *sent* that renewed it, for the TTL less
//!   drift and margin. When it ends, every sandbox that came under it is frozen: nothing is lost.
//! * A replica that has heard nothing of a node for the TTL plus drift and margin declares its session
//!   over, by a conditional write that fails if the node was heard meanwhile. From then on actors may be
//!   run elsewhere.
//! * Sessions are numbered. A node whose session was not declared over goes on by itself when it is heard
//!   again. One whose session was goes on under the next number, with each actor only when the control
//!   plane agrees to that actor; and orders given under an old number are refused.
//!
//! A worker enforces its own end ([`Licence`]), so that it holds while the node daemon is dead.

use crate::id::{Fence, PodUid};
use crate::machine::Machine;
use crate::time::{Duration, Instant};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What a node is answered when it reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// Its session goes on.
    Granted(Grant),
    /// Its session, and every one up to this number, has been declared over.
    Over {
        /// The number.
        lapsed: u64,
    },
}

/// A session, renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// For how long, from when the report was sent.
    pub ttl: Duration,
    /// When to report again, if nothing changes.
    pub heartbeat_every: Duration,
    /// Sandboxes that no record knows of, to be ended.
    pub evict: Vec<Eviction>,
}

/// A sandbox that is to be ended, unless its worker has been promised anew since.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Eviction {
    /// The worker.
    pub pod_uid: PodUid,
    /// The worker's fence: a higher one that the node has seen stands in the way.
    pub fence: Fence,
}

/// What becomes of sandboxes whose node's session lapses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnLapse {
    /// They are frozen, and their actors may be run elsewhere.
    Freeze,
    /// They run on; only proof that their pod is gone lets their actors be run elsewhere.
    Keep,
}

/// A node's session as the node itself sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    number: u64,
    term: Term,
}

/// How long a session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// Nobody has granted one yet.
    Ungranted,
    /// Until then.
    Until(Instant),
    /// It is over until it is granted again.
    Lapsed,
}

impl Session {
    /// The session of a node that has just started and remembers this number.
    pub fn new(on_lapse: OnLapse, remembered: u64) -> Session {
        let number = match on_lapse {
            OnLapse::Freeze => remembered.max(1),
            OnLapse::Keep => 0,
        };
        Session {
            number,
            term: Term::Ungranted,
        }
    }

    /// Its number; zero if the node keeps its sandboxes running without any.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How long it lasts.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Until when what came under session `number` may run, as far as is known at `now`.
    pub fn covers(&self, number: u64, now: Instant) -> Option<Instant> {
        match self.term {
            Term::Until(until) if number == self.number && now < until => Some(until),
            Term::Until(_) | Term::Ungranted | Term::Lapsed => None,
        }
    }

    /// It was renewed by a report sent at `sent_at`, for `believed` from then. An answer that comes too
    /// late renews nothing.
    pub(crate) fn granted(&mut self, now: Instant, sent_at: Instant, believed: Duration) {
        let until = match self.term {
            Term::Until(before) => before.max(sent_at.plus(believed)),
            Term::Ungranted | Term::Lapsed => sent_at.plus(believed),
        };
        if self.number > 0 && now < until {
            self.term = Term::Until(until);
        }
    }

    /// It and every one up to `lapsed` has been declared over.
    pub(crate) fn over(&mut self, lapsed: u64) {
        if self.number > 0 {
            self.number = self.number.max(lapsed.saturating_add(1));
            self.term = Term::Lapsed;
        }
    }

    /// Time has passed; whether it has just lapsed.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let is_over = matches!(self.term, Term::Until(until) if now >= until);
        if is_over {
            self.term = Term::Lapsed;
        }
        is_over
    }

    /// When it ends unless it is renewed.
    pub(crate) fn ends(&self) -> Option<Instant> {
        match self.term {
            Term::Until(until) => Some(until),
            Term::Ungranted | Term::Lapsed => None,
        }
    }
}

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
}

/// Why a licence wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry;

impl Licence {
    /// Whether the actor runs.
    pub fn hold(&self) -> Hold {
        self.hold
    }

    fn freeze(&mut self) {
        self.hold = Hold::Frozen;
        self.outputs.push_back(Do::Freeze);
    }
}

impl Machine for Licence {
    type Input = Licensed;
    type Output = Do;
    type Timer = Expiry;

    fn handle(&mut self, now: Instant, input: Licensed) {
        match (self.hold, input) {
            (_, Licensed::Booted(until)) => {
                self.hold = Hold::Running(until);
                self.handle_timeout(now);
            }
            (_, Licensed::Ended) => self.hold = Hold::Empty,
            (Hold::Running(before), Licensed::Extended(until)) => {
                // The first bound may come after the boot; a later word never shortens an earlier one.
                self.hold = Hold::Running(Some(before.map_or(until, |before| before.max(until))));
                self.handle_timeout(now);
            }
            (Hold::Running(_), Licensed::Freeze) => self.freeze(),
            (Hold::Frozen, Licensed::Thaw(until)) if until.is_none_or(|until| now < until) => {
                self.hold = Hold::Running(until);
                self.outputs.push_back(Do::Thaw);
            }
            (Hold::Running(before), Licensed::Thaw(until)) => {
                self.hold = Hold::Running(before.max(until));
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
            self.freeze();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn drain(licence: &mut Licence) -> Vec<Do> {
        core::iter::from_fn(|| licence.poll_output()).collect()
    }

    #[test]
    fn a_session_counts_from_when_its_report_was_sent_and_a_late_answer_renews_nothing() {
        let mut session = Session::new(OnLapse::Freeze, 0);
        let ttl = Duration::from_secs(10);
        session.granted(at(5), at(1), ttl);
        assert_eq!(session.covers(1, at(10)), Some(at(11)));
        assert_eq!(session.covers(1, at(11)), None);
        assert!(session.expire(at(11)) && !session.expire(at(12)));
        session.granted(at(20), at(9), ttl);
        assert_eq!(session.term(), Term::Lapsed);
        session.granted(at(20), at(12), ttl);
        assert_eq!(session.covers(1, at(20)), Some(at(22)));
    }

    #[test]
    fn what_was_declared_over_goes_on_under_the_next_number_only() {
        let mut session = Session::new(OnLapse::Freeze, 3);
        session.granted(at(0), at(0), Duration::from_secs(10));
        session.over(7);
        assert_eq!((session.number(), session.covers(3, at(1))), (8, None));
        session.granted(at(1), at(1), Duration::from_secs(10));
        assert_eq!(session.covers(3, at(1)), None);
        assert_eq!(session.covers(8, at(1)), Some(at(11)));
    }

    #[test]
    fn a_node_that_keeps_its_sandboxes_has_no_session() {
        let mut session = Session::new(OnLapse::Keep, 3);
        session.granted(at(0), at(0), Duration::from_secs(10));
        session.over(5);
        assert_eq!((session.number(), session.ends()), (0, None));
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
