//! An acquisition of a lease.

use super::{Walk, Walked};
use holdfast_core::lease::*;
use holdfast_core::machine::Machine;
use holdfast_core::settings::Settings;
use holdfast_core::table::{Kind, Moved};
use holdfast_core::time::Instant;

/// Everything that may happen to an acquisition, six in a row, in time and too late.
pub fn walk() -> Walk {
    super::walk(Lease::default(), 6)
}

/// A keeper with its clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    keeper: Keeper,
    now: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    /// At once.
    Soon(Input),
    /// When the lease has run out, and nobody was woken.
    Late(Input),
    /// Woken at the next deadline.
    Wake,
    /// Woken by mistake.
    Spurious,
}

impl Default for Lease {
    fn default() -> Lease {
        Lease {
            keeper: Keeper::new(Settings::DEFAULT.lease, 7),
            now: Instant::from_micros(0),
        }
    }
}

impl Walked for Lease {
    type Deed = Deed;
    type Event = Event;

    fn deeds() -> Vec<Deed> {
        let inputs = [
            Input::Acquire,
            Input::Granted,
            Input::Renewed,
            Input::NotOwner,
            Input::Failed,
            Input::Release,
        ];
        let soon = inputs.map(Deed::Soon);
        let late = inputs.map(Deed::Late);
        let woken = [Deed::Wake, Deed::Spurious];
        soon.into_iter().chain(late).chain(woken).collect()
    }

    fn phase(&self) -> &'static str {
        self.keeper.phase().name()
    }

    fn suffer(&mut self, deed: Deed) -> Vec<Event> {
        match deed {
            Deed::Soon(input) => {
                self.keeper.handle(self.now, input);
                vec![input.event()]
            }
            Deed::Late(input) => {
                self.now = self.now.plus(Settings::DEFAULT.lease.ttl);
                self.keeper.handle(self.now, input);
                vec![input.event()]
            }
            Deed::Wake => {
                let Some((at, timer)) = self.keeper.poll_timeout() else {
                    // No deadline: time may pass for as long as it likes.
                    self.now = self.now.plus(Settings::DEFAULT.lease.ttl);
                    self.keeper.handle_timeout(self.now);
                    return vec![Event::Renew, Event::Expiry];
                };
                self.now = self.now.max(at);
                self.keeper.handle_timeout(self.now);
                match timer {
                    Timer::Renew => vec![Event::Renew],
                    Timer::Expiry => vec![Event::Expiry],
                }
            }
            Deed::Spurious => {
                let is_renewing = self.keeper.phase() == Phase::Renewing;
                self.keeper.handle_timeout(self.now);
                // Its deadline is behind it, so this would be the time to renew.
                is_renewing.then_some(Event::Renew).into_iter().collect()
            }
        }
    }

    fn moves(&mut self) -> Vec<Moved> {
        let outputs = std::iter::from_fn(|| self.keeper.poll_output());
        let moved = |output| match output {
            Output::Moved(moved) => Some(moved),
            Output::Acquire | Output::Renew | Output::Granted | Output::Lost(_) => None,
        };
        outputs.filter_map(moved).collect()
    }

    fn is_same(&self, other: &Lease) -> bool {
        self.keeper == other.keeper
    }
}
