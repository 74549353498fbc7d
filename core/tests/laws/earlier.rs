//! Earlier is never later: who was heard, asked or moved earlier is given up no later; and when an answer
//! arrives does not matter to how long it is believed.

use crate::history::{EXACT, START, Verdict, runner};
use crate::registry::{Rows, node_row};
use holdfast_core::lease::{self, Keeper};
use holdfast_core::machine::Machine;
use holdfast_core::pull::{self, Attempt, Pulls, Waiter};
use holdfast_core::registry::Registry;
use holdfast_core::time::{Duration, Instant};
use proptest::collection::vec;
use proptest::prelude::*;

/// When a node is given up that is heard at these instants.
fn silence(heard: &[Instant]) -> Option<Instant> {
    let mut rows = Rows(Registry::new(EXACT));
    for (sequence, at) in (1..).zip(heard) {
        rows.0.handle_timeout(*at);
        rows.0.heard(*at, node_row(0, sequence));
    }
    rows.poll_timeout().map(|(at, ())| at)
}

/// When a pull has stalled whose one attempt moves at these instants.
fn stall(moves: &[Instant]) -> Option<Instant> {
    let mut pulls = Pulls::new(EXACT.pull);
    pulls.handle(START, pull::Input::Want("image".into(), Waiter(1)));
    for (bytes, at) in (1..).zip(moves) {
        pulls.handle(*at, pull::Input::Progress(Attempt(1), bytes));
    }
    pulls.poll_timeout().map(|(at, _)| at)
}

/// What is renewed, when, and how long each answer takes: renewals are sent as late as they happen to be
/// after they fall due, and answered before the belief ends.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    late: Duration,
    answer: Duration,
}

/// Until when a lease is believed in that is renewed like this.
fn belief<M: Machine<Input = lease::Input>>(mut keeper: M, renewals: &[Renewal]) -> Option<Instant> {
    let mut now = START;
    for (count, renewal) in renewals.iter().enumerate() {
        if count == 0 {
            now = now.plus(renewal.late);
            keeper.handle(now, lease::Input::Acquire);
        } else {
            let (due, _) = keeper.poll_timeout()?;
            now = due.max(now).plus(renewal.late);
            keeper.handle_timeout(now);
        }
        now = now.plus(renewal.answer);
        let answer = if count == 0 {
            lease::Input::Granted
        } else {
            lease::Input::Renewed
        };
        keeper.handle(now, answer);
        while keeper.poll_output().is_some() {}
    }
    // Unanswered from here on, the next deadlines are a renewal and then the end.
    let (due, _) = keeper.poll_timeout()?;
    keeper.handle_timeout(due);
    keeper.poll_timeout().map(|(at, _)| at)
}

fn instants() -> impl Strategy<Value = Vec<Instant>> {
    vec(0..80_000_000u64, 1..8).prop_map(|gaps| {
        let times = gaps.iter().scan(START, |now, gap| {
            *now = now.plus(Duration::from_micros(*gap));
            Some(*now)
        });
        times.collect()
    })
}

/// The same instants with one of them earlier, but not before the one before it.
fn one_earlier(times: &[Instant], which: usize, share: u32) -> Vec<Instant> {
    let mut times = times.to_vec();
    let which = which % times.len();
    let before = if which == 0 { START } else { times[which - 1] };
    times[which] = times[which].minus(times[which].since(before) / 100 * share);
    times
}

fn law(expiry: impl Fn(&[Instant]) -> Option<Instant>) -> Result<(), String> {
    let cases = (instants(), any::<usize>(), 0..100u32);
    let checked = runner(2_000).run(&cases, |(times, which, share)| {
        let earlier = one_earlier(&times, which, share);
        prop_assert!(
            expiry(&earlier) <= expiry(&times),
            "{earlier:?} against {times:?}"
        );
        Ok(())
    });
    checked.map_err(|why| why.to_string())
}

#[test]
fn a_node_that_was_heard_earlier_is_given_up_no_later() {
    law(silence).unwrap();
}

#[test]
fn a_pull_that_moved_earlier_has_stalled_no_later() {
    law(stall).unwrap();
}

#[test]
fn a_count_of_heartbeats_would_break_it() {
    // As long as the pauses between the last two were: a guess that many monitors make.
    let guess = |times: &[Instant]| {
        let (last, before) = (
            times.last().copied()?,
            times.iter().rev().nth(1).copied().unwrap_or(START),
        );
        Some(last.plus(last.since(before) * 3))
    };
    assert!(law(guess).is_err(), "a flaw that the law does not see");
}

fn renewals() -> impl Strategy<Value = Vec<Renewal>> {
    let late = (0..3_000_000u64).prop_map(Duration::from_micros);
    let answer = (0..9_000_000u64).prop_map(Duration::from_micros);
    vec(
        (late, answer).prop_map(|(late, answer)| Renewal { late, answer }),
        1..6,
    )
}

/// Asking less late and hearing sooner never lengthens belief; and how soon the last answer came does not
/// even shorten it.
fn belief_law<M: Machine<Input = lease::Input>>(keeper: impl Fn() -> M) -> Result<(), String> {
    let cases = (renewals(), any::<usize>(), 0..100u32);
    let checked = runner(2_000).run(&cases, |(renewals, which, share)| -> Verdict {
        let until = belief(keeper(), &renewals);
        let which = which % renewals.len();
        let mut earlier = renewals.clone();
        earlier[which].late = earlier[which].late / 100 * (100 - share);
        prop_assert!(
            belief(keeper(), &earlier) <= until,
            "{earlier:?} against {renewals:?}"
        );
        let mut sooner = renewals.clone();
        if let Some(last) = sooner.last_mut() {
            last.answer = last.answer / 100 * (100 - share);
        }
        prop_assert_eq!(
            belief(keeper(), &sooner),
            until,
            "{:?} against {:?}",
            sooner,
            renewals
        );
        Ok(())
    });
    checked.map_err(|why| why.to_string())
}

#[test]
fn a_lease_that_was_asked_for_earlier_is_believed_in_no_longer() {
    belief_law(|| Keeper::new(EXACT.lease, 7)).unwrap();
}

#[test]
fn a_keeper_that_counts_from_the_answer_would_break_it() {
    assert!(belief_law(|| FromTheAnswer(Keeper::new(EXACT.lease, 7))).is_err());
}

/// A keeper that believes in a grant from when it arrives.
struct FromTheAnswer(Keeper);

impl Machine for FromTheAnswer {
    type Input = lease::Input;
    type Output = lease::Output;
    type Timer = lease::Timer;

    fn handle(&mut self, now: Instant, input: lease::Input) {
        if input == lease::Input::Granted {
            self.0.handle(now, lease::Input::Acquire);
        }
        self.0.handle(now, input);
    }

    fn poll_output(&mut self) -> Option<lease::Output> {
        self.0.poll_output()
    }

    fn poll_timeout(&self) -> Option<(Instant, lease::Timer)> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }
}
