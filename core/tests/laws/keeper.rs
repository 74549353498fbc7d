//! The lease keeper: its surroundings, and what holds of it alone.

use crate::history::{EXACT, Happening, History, Recorder, gaps, holds, play_one};
use holdfast_core::lease::{Input, Keeper, Output};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use proptest::collection::vec;
use proptest::prelude::*;

pub struct Subject;

impl crate::history::Subject for Subject {
    type Input = Input;
    type Output = Output;
    type Machine = Keeper;

    fn fresh(settings: &Settings) -> Keeper {
        Keeper::new(settings.lease, 7)
    }

    fn histories(settings: Settings) -> BoxedStrategy<History<Input>> {
        vec(act(), 1..60)
            .prop_map(move |acts| record(&settings, acts))
            .boxed()
    }

    fn is_idempotent(input: &Input) -> bool {
        // To acquire once more is to ask once more.
        *input != Input::Acquire
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// The store answers what it was asked, or the owner asks for the lease.
    GoOn(Answer),
    Pass(Duration),
    Wild(Input),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Yes,
    No,
    Nothing,
}

fn act() -> impl Strategy<Value = Act> {
    let answer = prop_oneof![8 => Just(Answer::Yes), 1 => Just(Answer::No), 4 => Just(Answer::Nothing)];
    let inputs = [
        Input::Acquire,
        Input::Granted,
        Input::Renewed,
        Input::NotOwner,
        Input::Failed,
        Input::Release,
    ];
    prop_oneof![
        6 => answer.prop_map(Act::GoOn),
        8 => gaps().prop_map(Act::Pass),
        1 => prop::sample::select(inputs.to_vec()).prop_map(Act::Wild),
    ]
}

fn record(settings: &Settings, acts: Vec<Act>) -> History<Input> {
    let mut r = Recorder::new(<Subject as crate::history::Subject>::fresh(settings));
    let mut asked = None;
    for act in acts {
        let outputs = match (act, asked) {
            (Act::Pass(gap), _) => r.pass(gap),
            (Act::Wild(input), _) => r.input(input),
            (Act::GoOn(answer), Some(question)) => {
                asked = None;
                r.input(match (answer, question) {
                    (Answer::Yes, Output::Acquire) => Input::Granted,
                    (Answer::Yes, _) => Input::Renewed,
                    (Answer::No, _) => Input::NotOwner,
                    (Answer::Nothing, _) => Input::Failed,
                })
            }
            (Act::GoOn(_), None) => r.input(Input::Acquire),
        };
        asked = outputs
            .into_iter()
            .rfind(|output| matches!(output, Output::Acquire | Output::Renew))
            .or(asked);
    }
    r.history
}

/// Belief rests on a request that was made, and reaches no further from it than the settings say; a loss is
/// told at most once, and nothing is renewed after it or after the release.
#[test]
fn belief_is_bounded_and_its_end_is_final() {
    holds::<Subject>(|history| {
        let mut keeper = Keeper::new(EXACT.lease, 7);
        let mut last_sent: Option<Instant> = None;
        let (mut losses, mut is_over) = (0, false);
        for (now, happening) in history {
            let was_held = keeper.valid_until().is_some();
            let is_release = happening == Happening::Input(Input::Release);
            for output in play_one(&mut keeper, now, happening) {
                match output {
                    Output::Acquire => last_sent = Some(now),
                    Output::Renew => {
                        prop_assert!(!is_over, "renewed after the end");
                        prop_assert!(keeper.is_valid(now), "renewed when it is too late");
                        last_sent = Some(now);
                    }
                    Output::Granted => prop_assert!(keeper.is_valid(now)),
                    Output::Moved(_) => {}
                    Output::Lost(_) => {
                        losses += 1;
                        is_over = true;
                    }
                }
            }
            is_over |= is_release && was_held;
            prop_assert!(losses <= 1);
            if let Some(until) = keeper.valid_until() {
                prop_assert!(!is_over, "held after the end");
                let sent = last_sent.expect("a lease that nobody asked for");
                prop_assert!(until <= sent.plus(EXACT.lease.believed_for()));
                let deadline = keeper
                    .poll_timeout_at()
                    .expect("a lease that is held has a deadline");
                prop_assert!(deadline <= until, "it would be believed in past its end");
            }
        }
        Ok(())
    });
}

/// A store that does not answer is asked a bounded number of times per lease (I11).
#[test]
fn a_blink_of_the_store_costs_few_requests() {
    holds::<Subject>(|history| {
        let mut keeper = Keeper::new(EXACT.lease, 7);
        let mut sent = Vec::new();
        for (now, happening) in history {
            let is_answered = matches!(happening, Happening::Input(Input::Renewed | Input::Granted));
            for output in play_one(&mut keeper, now, happening) {
                if output == Output::Renew {
                    sent.push(now);
                }
            }
            if is_answered {
                sent.clear();
            }
            // The first, and then with pauses of at least three quarters of the shortest.
            let most =
                1 + EXACT.lease.believed_for().as_micros() * 4 / (EXACT.lease.retry_from.as_micros() * 3);
            prop_assert!(
                (sent.len() as u128) <= most,
                "{} renewals without an answer",
                sent.len()
            );
        }
        Ok(())
    });
}

trait Deadline {
    fn poll_timeout_at(&self) -> Option<Instant>;
}

impl Deadline for Keeper {
    fn poll_timeout_at(&self) -> Option<Instant> {
        use holdfast_core::machine::Machine;
        self.poll_timeout().map(|(at, _)| at)
    }
}
