//! A node's session.

use super::{Walk, Walked};
use holdfast_core::session::*;
use holdfast_core::settings::Settings;
use holdfast_core::table::{Kind, Moved};
use holdfast_core::time::Instant;

/// Everything that may happen to the session of a node that freezes, and of one that does not.
pub fn walk() -> Walk {
    let mut walk = super::walk(Sitting::of(OnLapse::Freeze), 5);
    let keeps = super::walk(Sitting::of(OnLapse::Keep), 3);
    assert!(
        keeps.made.is_empty(),
        "what no session bounds has none: {keeps:?}"
    );
    walk.made.extend(keeps.made);
    walk
}

/// A session with its clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sitting {
    session: Session,
    now: Instant,
    moved: Option<Moved>,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A report that was sent just now is answered.
    Granted,
    /// A report that was sent a whole session ago is answered.
    GrantedLate,
    /// It is told to be over, up to this number.
    Over(u64),
    /// Its end comes.
    Ends,
    /// Woken by mistake.
    Spurious,
}

impl Sitting {
    fn of(on_lapse: OnLapse) -> Sitting {
        Sitting {
            session: Session::new(on_lapse, 0),
            now: Instant::from_micros(0),
            moved: None,
        }
    }
}

impl Walked for Sitting {
    type Deed = Deed;
    type Event = Event;

    fn deeds() -> Vec<Deed> {
        vec![
            Deed::Granted,
            Deed::GrantedLate,
            Deed::Over(1),
            Deed::Over(2),
            Deed::Ends,
            Deed::Spurious,
        ]
    }

    fn phase(&self) -> &'static str {
        self.session.phase().name()
    }

    fn suffer(&mut self, deed: Deed) -> Vec<Event> {
        let settings = Settings::DEFAULT;
        let believed = settings.session_believed_for(settings.node.session_ttl);
        match deed {
            Deed::Granted => self.moved = self.session.granted(self.now, self.now, believed),
            Deed::GrantedLate => {
                let sent_at = self.now;
                self.now = self.now.plus(believed);
                self.moved = self.session.expire(self.now);
                assert_eq!(self.session.granted(self.now, sent_at, believed), None);
            }
            Deed::Over(lapsed) => {
                self.moved = self.session.over(lapsed);
                assert!(self.session.number() == 0 || self.session.number() > lapsed);
            }
            Deed::Ends => {
                let is_bounded = self.session.ends().is_some();
                self.now = self.session.ends().unwrap_or(self.now).max(self.now);
                self.moved = self.session.expire(self.now);
                return (!is_bounded).then_some(Event::Expiry).into_iter().collect();
            }
            Deed::Spurious => {
                self.moved = self.session.expire(self.now);
            }
        }
        vec![]
    }

    fn moves(&mut self) -> Vec<Moved> {
        self.moved.take().into_iter().collect()
    }

    fn is_same(&self, other: &Sitting) -> bool {
        self.session == other.session
    }
}
