//! Pulls: their surroundings, and what holds of them alone.

use crate::history::{EXACT, Happening, History, Recorder, gaps, holds, play_one};
use holdfast_core::failure::Code;
use holdfast_core::id::Name;
use holdfast_core::pull::{Attempt, Input, Output, PullFailure, Pulls, Retry, Waiter};
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub struct Subject;

impl crate::history::Subject for Subject {
    type Input = Input;
    type Output = Output;
    type Machine = Pulls;

    fn fresh(settings: &Settings) -> Pulls {
        Pulls::new(settings.pull)
    }

    fn histories(settings: Settings) -> BoxedStrategy<History<Input>> {
        vec(act(), 1..60)
            .prop_map(move |acts| record(&settings, acts))
            .boxed()
    }

    fn is_idempotent(_: &Input) -> bool {
        true
    }

    /// That one more waits, although he waited before, is told to those who watch.
    fn is_reminder(output: &Output) -> bool {
        matches!(output, Output::Moved(..))
    }

    fn stretched_gist(output: Output, _: u32) -> Output {
        gist(output)
    }
}

/// An output without its text, which quotes durations.
pub fn gist(output: Output) -> Output {
    match output {
        Output::Failed(waiter, image, failure) => {
            let message = String::new();
            Output::Failed(waiter, image, PullFailure { message, ..failure })
        }
        Output::Retrying(image, _) => Output::Retrying(image, String::new()),
        other => other,
    }
}

#[derive(Clone, Debug)]
enum Act {
    Want(u8, u64),
    Unwant(u64),
    /// One of the running attempts moves so many bytes.
    Move(usize, u64),
    End(usize, Result<(), PullFailure>),
    Pass(Duration),
    Wild(Input),
}

fn result() -> impl Strategy<Value = Result<(), PullFailure>> {
    let failure = |retry| PullFailure {
        code: Code::Unavailable,
        message: "no".into(),
        retry,
    };
    prop_oneof![
        2 => Just(Ok(())),
        2 => Just(Err(failure(Retry::Helps))),
        1 => Just(Err(failure(Retry::Useless))),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3u8, 0..5u64).prop_map(|(image, waiter)| Act::Want(image, waiter)),
        2 => (0..5u64).prop_map(Act::Unwant),
        4 => (any::<usize>(), 0..100u64).prop_map(|(n, bytes)| Act::Move(n, bytes)),
        2 => (any::<usize>(), result()).prop_map(|(n, result)| Act::End(n, result)),
        6 => gaps().prop_map(Act::Pass),
        1 => (0..9u64, result()).prop_map(|(n, result)| Act::Wild(Input::Ended(Attempt(n), result))),
        1 => (0..9u64, 0..100u64).prop_map(|(n, bytes)| Act::Wild(Input::Progress(Attempt(n), bytes))),
    ]
}

fn record(settings: &Settings, acts: Vec<Act>) -> History<Input> {
    let mut r = Recorder::new(Pulls::new(settings.pull));
    let mut running: Vec<Attempt> = Vec::new();
    let mut bytes = BTreeMap::new();
    for act in acts {
        let input = match act {
            Act::Pass(gap) => {
                note(&mut running, r.pass(gap));
                continue;
            }
            Act::Want(image, waiter) => Input::Want(format!("image-{image}").into(), Waiter(waiter)),
            Act::Unwant(waiter) => Input::Unwant(Waiter(waiter)),
            Act::Wild(input) => input,
            Act::Move(..) | Act::End(..) if running.is_empty() => continue,
            Act::Move(n, more) => {
                let attempt = running[n % running.len()];
                let sum = bytes.entry(attempt).or_insert(0);
                *sum += more;
                Input::Progress(attempt, *sum)
            }
            Act::End(n, result) => Input::Ended(running.remove(n % running.len()), result),
        };
        note(&mut running, r.input(input));
    }
    r.history
}

fn note(running: &mut Vec<Attempt>, outputs: Vec<Output>) {
    for output in outputs {
        match output {
            Output::Start(_, attempt) => running.push(attempt),
            Output::Cancel(attempt) => running.retain(|a| *a != attempt),
            Output::Ready(..) | Output::Failed(..) | Output::Retrying(..) | Output::Moved(..) => {}
        }
    }
}

/// At most one attempt per image is under way; whoever waits is told once; and whoever does not, never.
#[test]
fn one_pull_per_image_and_one_answer_per_wait() {
    holds::<Subject>(|history| {
        let mut pulls = Pulls::new(EXACT.pull);
        let mut running: BTreeMap<Attempt, Name> = BTreeMap::new();
        let mut waiting: BTreeSet<(Waiter, Name)> = BTreeSet::new();
        for (now, happening) in history {
            match &happening {
                Happening::Input(Input::Want(image, waiter)) => {
                    waiting.insert((*waiter, image.clone()));
                }
                Happening::Input(Input::Unwant(waiter)) => waiting.retain(|(w, _)| w != waiter),
                Happening::Input(Input::Ended(attempt, _)) => {
                    running.remove(attempt);
                }
                Happening::Input(Input::Progress(..)) | Happening::Wake => {}
            }
            for output in play_one(&mut pulls, now, happening) {
                match output {
                    Output::Start(image, attempt) => {
                        prop_assert!(
                            !running.values().any(|other| *other == image),
                            "two pulls of {image}"
                        );
                        prop_assert!(running.insert(attempt, image).is_none(), "an attempt twice");
                    }
                    Output::Cancel(attempt) => prop_assert!(running.remove(&attempt).is_some()),
                    Output::Ready(waiter, image) | Output::Failed(waiter, image, _) => {
                        prop_assert!(
                            waiting.remove(&(waiter, image)),
                            "told what was not asked, or twice"
                        );
                    }
                    Output::Retrying(..) | Output::Moved(..) => {}
                }
            }
            let under_way: BTreeSet<&Name> = pulls.under_way().map(|(image, _)| image).collect();
            for (_, image) in &waiting {
                prop_assert!(
                    under_way.contains(image),
                    "{image} is waited for, and nothing is done about it"
                );
            }
        }
        Ok(())
    });
}

/// A pull of which no byte moves is over after the time that the protocol's bounds give, whoever waits.
#[test]
fn every_hung_pull_ends_within_its_bound() {
    holds::<Subject>(|history| {
        let s = EXACT.pull;
        let mut recorder = Recorder::new(Pulls::new(s));
        for (now, happening) in history {
            play_one(&mut recorder.machine, now, happening);
            recorder.now = now;
        }
        let bound = s.stall_after * s.attempts + s.retry_after * 5 / 4 * (s.attempts - 1);
        recorder.pass(bound);
        let left: Vec<_> = recorder.machine.under_way().collect();
        prop_assert_eq!(left, vec![]);
        Ok(())
    });
}
