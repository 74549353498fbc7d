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
//! A worker enforces its own end ([`Licence`](crate::licence::Licence)), so that it holds while the node daemon is dead.

use crate::id::{Fence, PodUid};
use crate::table::{Moved, Row, Table, kinds, moves, stays};
use crate::time::{Duration, Instant};
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

kinds! {
    /// Where a session stands, without until when.
    pub enum Phase {
        /// Nobody has granted one yet, or nobody ever will: the node keeps its sandboxes whatever happens.
        Ungranted,
        /// What came under it may run.
        Granted,
        /// What came under it is held still.
        Lapsed,
    }
}

kinds! {
    /// What may befall a session.
    pub enum Event {
        /// A report was answered in time.
        Grant,
        /// A report was answered: it has been declared over.
        Over,
        /// It was not renewed in time.
        Expiry,
    }
}

/// Everything that may become of a node's session. An event for which there is no row changes nothing.
pub const TABLE: Table<Phase, Event> = {
    use Event as E;
    use Phase as P;
    const ROWS: &[Row<P, E>] = &[
        moves(
            &[P::Ungranted, P::Lapsed],
            E::Grant,
            &[P::Granted],
            "counts from when the report was sent; an answer that comes after that end is none",
        ),
        stays(&[P::Granted], E::Grant, "now from there, and never shorter"),
        moves(
            &[P::Ungranted, P::Granted],
            E::Over,
            &[P::Lapsed],
            "goes on under a higher number, and what came under this one only by agreement",
        ),
        stays(&[P::Lapsed], E::Over, "the same"),
        moves(
            &[P::Granted],
            E::Expiry,
            &[P::Lapsed],
            "keeps its number: granted again, everything goes on by itself",
        ),
    ];
    Table::new("session", ROWS)
};

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

    /// Where it stands in the [`TABLE`].
    pub fn phase(&self) -> Phase {
        match self.term {
            Term::Ungranted => Phase::Ungranted,
            Term::Until(_) => Phase::Granted,
            Term::Lapsed => Phase::Lapsed,
        }
    }

    /// The one way from one state to another.
    fn enter(&mut self, event: Event, term: Term) -> Option<Moved> {
        let from = self.phase();
        self.term = term;
        Some(TABLE.made(Some(from), event, Some(self.phase())))
    }

    /// It was renewed by a report sent at `sent_at`, for `believed` from then. An answer that comes too
    /// late renews nothing.
    #[must_use]
    pub fn granted(&mut self, now: Instant, sent_at: Instant, believed: Duration) -> Option<Moved> {
        let until = match self.term {
            Term::Until(before) => before.max(sent_at.plus(believed)),
            Term::Ungranted | Term::Lapsed => sent_at.plus(believed),
        };
        if self.number == 0 || now >= until {
            return None;
        }
        self.enter(Event::Grant, Term::Until(until))
    }

    /// It and every one up to `lapsed` has been declared over.
    #[must_use]
    pub fn over(&mut self, lapsed: u64) -> Option<Moved> {
        if self.number == 0 {
            return None;
        }
        self.number = self.number.max(lapsed.saturating_add(1));
        self.enter(Event::Over, Term::Lapsed)
    }

    /// Time has passed: it may just have lapsed.
    #[must_use]
    pub fn expire(&mut self, now: Instant) -> Option<Moved> {
        if self.ends().is_none_or(|until| now < until) {
            return None;
        }
        self.enter(Event::Expiry, Term::Lapsed)
    }

    /// When it ends unless it is renewed.
    pub fn ends(&self) -> Option<Instant> {
        match self.term {
            Term::Until(until) => Some(until),
            Term::Ungranted | Term::Lapsed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_session_counts_from_when_its_report_was_sent_and_a_late_answer_renews_nothing() {
        let mut session = Session::new(OnLapse::Freeze, 0);
        let ttl = Duration::from_secs(10);
        assert!(session.granted(at(5), at(1), ttl).is_some());
        assert_eq!(session.covers(1, at(10)), Some(at(11)));
        assert_eq!(session.covers(1, at(11)), None);
        assert!(session.expire(at(11)).is_some() && session.expire(at(12)).is_none());
        assert_eq!(session.granted(at(20), at(9), ttl), None);
        assert_eq!(session.term(), Term::Lapsed);
        assert!(session.granted(at(20), at(12), ttl).is_some());
        assert_eq!(session.covers(1, at(20)), Some(at(22)));
    }

    #[test]
    fn a_session_lapses_when_one_looks_at_its_end_or_later_and_no_earlier() {
        for (looked_at, lapses) in [(10, false), (11, true), (12, true)] {
            let mut session = Session::new(OnLapse::Freeze, 0);
            assert!(session.granted(at(1), at(1), Duration::from_secs(10)).is_some());
            assert_eq!(session.expire(at(looked_at)).is_some(), lapses, "{looked_at}");
        }
    }

    #[test]
    fn what_was_declared_over_goes_on_under_the_next_number_only() {
        let mut session = Session::new(OnLapse::Freeze, 3);
        assert!(session.granted(at(0), at(0), Duration::from_secs(10)).is_some());
        assert!(session.over(7).is_some());
        assert_eq!((session.number(), session.covers(3, at(1))), (8, None));
        assert!(session.granted(at(1), at(1), Duration::from_secs(10)).is_some());
        assert_eq!(session.covers(3, at(1)), None);
        assert_eq!(session.covers(8, at(1)), Some(at(11)));
    }

    #[test]
    fn a_node_that_keeps_its_sandboxes_has_no_session() {
        let mut session = Session::new(OnLapse::Keep, 3);
        assert_eq!(session.granted(at(0), at(0), Duration::from_secs(10)), None);
        assert_eq!(session.over(5), None);
        assert_eq!((session.number(), session.ends()), (0, None));
    }
}
