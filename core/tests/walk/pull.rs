//! The pull of one image.

use super::{Walk, Walked};
use holdfast_core::failure::Code;
use holdfast_core::machine::Machine;
use holdfast_core::pull::*;
use holdfast_core::settings::{PullSettings, Settings};
use holdfast_core::table::{ABSENT, Kind, Moved};
use holdfast_core::time::{Duration, Instant};
use std::collections::BTreeSet;

/// Everything that may happen to a pull, seven in a row.
pub fn walk() -> Walk {
    super::walk(Pulling::default(), 7)
}

/// The pulls of a node at which one image is wanted, by up to two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pulling {
    pulls: Pulls,
    now: Instant,
    attempt: Attempt,
    bytes: u64,
    waiting: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Want(u64),
    Unwant(u64),
    Progress,
    Done,
    Fail(Retry),
    /// Something happens to an attempt that was never made.
    Stray,
    /// Woken at the next deadline.
    Wake,
    /// Woken by mistake.
    Spurious,
}

impl Default for Pulling {
    fn default() -> Pulling {
        let settings = PullSettings {
            attempts: 2,
            ..Settings::DEFAULT.pull
        };
        Pulling {
            pulls: Pulls::new(settings),
            now: Instant::from_micros(0),
            attempt: Attempt(0),
            bytes: 0,
            waiting: BTreeSet::new(),
        }
    }
}

impl Walked for Pulling {
    type Deed = Deed;
    type Event = Event;

    fn deeds() -> Vec<Deed> {
        vec![
            Deed::Want(1),
            Deed::Want(2),
            Deed::Unwant(1),
            Deed::Unwant(2),
            Deed::Progress,
            Deed::Done,
            Deed::Fail(Retry::Helps),
            Deed::Fail(Retry::Useless),
            Deed::Stray,
            Deed::Wake,
            Deed::Spurious,
        ]
    }

    fn phase(&self) -> &'static str {
        self.pulls.phase(&"image".into()).map_or(ABSENT, Phase::name)
    }

    fn suffer(&mut self, deed: Deed) -> Vec<Event> {
        let (input, event) = match deed {
            Deed::Want(waiter) => {
                self.waiting.insert(waiter);
                (Input::Want("image".into(), Waiter(waiter)), Some(Event::Want))
            }
            // Who has not wanted it says nothing by not wanting it.
            Deed::Unwant(waiter) => {
                let is_news = self.waiting.is_empty() || self.waiting.remove(&waiter);
                (Input::Unwant(Waiter(waiter)), is_news.then_some(Event::Unwant))
            }
            Deed::Progress => {
                self.bytes += 1;
                self.now = self.now.plus(Duration::from_secs(20));
                (Input::Progress(self.attempt, self.bytes), Some(Event::Progress))
            }
            Deed::Done => (Input::Ended(self.attempt, Ok(())), Some(Event::Done)),
            Deed::Fail(retry) => {
                let failure = PullFailure {
                    code: Code::Unavailable,
                    message: "?".into(),
                    retry,
                };
                (Input::Ended(self.attempt, Err(failure)), Some(Event::Failed))
            }
            Deed::Stray => (Input::Progress(Attempt(u64::MAX), u64::MAX), None),
            Deed::Spurious => {
                self.pulls.handle_timeout(self.now);
                return Vec::new();
            }
            Deed::Wake => {
                let Some((at, timer)) = self.pulls.poll_timeout() else {
                    self.now = self.now.plus(Duration::from_secs(3600));
                    self.pulls.handle_timeout(self.now);
                    return vec![Event::Stall, Event::Retry, Event::Abandon];
                };
                self.now = self.now.max(at);
                self.pulls.handle_timeout(self.now);
                return vec![match timer {
                    Timer::Stall(_) => Event::Stall,
                    Timer::Retry(_) => Event::Retry,
                    Timer::Abandon(_) => Event::Abandon,
                }];
            }
        };
        self.pulls.handle(self.now, input);
        event.into_iter().collect()
    }

    fn moves(&mut self) -> Vec<Moved> {
        let mut moves = Vec::new();
        while let Some(output) = self.pulls.poll_output() {
            match output {
                Output::Moved(_, moved) => {
                    if moved.to == ABSENT {
                        self.waiting.clear();
                    }
                    moves.push(moved);
                }
                Output::Start(_, attempt) => self.attempt = attempt,
                Output::Cancel(_) | Output::Ready(..) | Output::Failed(..) | Output::Retrying(..) => {}
            }
        }
        moves
    }

    fn is_same(&self, other: &Pulling) -> bool {
        self.pulls == other.pulls
    }
}
