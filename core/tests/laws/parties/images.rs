//! Two images that one node pulls.

use super::{Shared, Sharing};
use crate::history::{EXACT, Recorder};
use holdfast_core::failure::Code;
use holdfast_core::id::Name;
use holdfast_core::pull::{Attempt, Input, Output, PullFailure, Pulls, Retry, Waiter};
use holdfast_core::time::Duration;
use proptest::prelude::*;

pub struct Images {
    r: Recorder<Pulls>,
    sharing: Sharing,
    attempts: [Vec<Attempt>; 2],
    bytes: [u64; 2],
    seen: [Vec<String>; 2],
}

#[derive(Clone, Debug)]
pub enum Deed {
    Want(u64),
    Unwant(u64),
    /// The running attempt moves, or ends.
    Move,
    End(bool),
}

impl Images {
    fn image(&self, party: u8) -> Name {
        match self.sharing {
            Sharing::Nothing => format!("image-{party}").into(),
            Sharing::Something => "image-0".into(),
        }
    }

    fn note(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let (party, line) = match &output {
                Output::Start(image, attempt) => {
                    let party = party_of(image);
                    self.attempts[party].push(*attempt);
                    (party, format!("start number {}", self.attempts[party].len()))
                }
                Output::Cancel(attempt) => {
                    let party = usize::from(self.attempts[1].contains(attempt));
                    (party, format!("cancel number {}", self.attempts[party].len()))
                }
                Output::Ready(waiter, image) => {
                    (party_of(image), format!("{} is ready for {}", image, waiter.0))
                }
                Output::Failed(waiter, image, why) => {
                    (party_of(image), format!("{} fails: {}", waiter.0, why.message))
                }
                Output::Retrying(image, why) => (party_of(image), format!("again: {why}")),
                Output::Moved(image, moved) => (party_of(image), format!("{moved:?}")),
            };
            self.seen[party].push(line);
        }
    }
}

fn party_of(image: &Name) -> usize {
    usize::from(image.as_str() == "image-1")
}

impl Shared for Images {
    type Deed = Deed;

    fn deeds() -> BoxedStrategy<Deed> {
        prop_oneof![
            3 => (0..3u64).prop_map(Deed::Want),
            2 => (0..3u64).prop_map(Deed::Unwant),
            3 => Just(Deed::Move),
            1 => any::<bool>().prop_map(Deed::End),
        ]
        .boxed()
    }

    fn new(sharing: Sharing) -> Images {
        Images {
            r: Recorder::new(Pulls::new(EXACT.pull)),
            sharing,
            attempts: [Vec::new(), Vec::new()],
            bytes: [0; 2],
            seen: [Vec::new(), Vec::new()],
        }
    }

    fn act(&mut self, party: u8, deed: &Deed) {
        let running = self.attempts[usize::from(party)].last().copied();
        let input = match (deed, running) {
            (Deed::Want(waiter), _) => Input::Want(self.image(party), Waiter(u64::from(party) * 10 + waiter)),
            (Deed::Unwant(waiter), _) => Input::Unwant(Waiter(u64::from(party) * 10 + waiter)),
            (Deed::Move, Some(attempt)) => {
                self.bytes[usize::from(party)] += 1;
                Input::Progress(attempt, self.bytes[usize::from(party)])
            }
            (Deed::End(true), Some(attempt)) => Input::Ended(attempt, Ok(())),
            (Deed::End(false), Some(attempt)) => {
                let failure = PullFailure {
                    code: Code::Unavailable,
                    message: "no".into(),
                    retry: Retry::Helps,
                };
                Input::Ended(attempt, Err(failure))
            }
            (Deed::Move | Deed::End(_), None) => return,
        };
        let outputs = self.r.input(input);
        self.note(outputs);
    }

    fn pass(&mut self, time: Duration) {
        let outputs = self.r.pass(time);
        self.note(outputs);
    }

    fn seen(&self) -> &[Vec<String>; 2] {
        &self.seen
    }
}
