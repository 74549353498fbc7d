//! Nothing changes by itself: before its deadline a machine can be woken as often as one likes, and nothing
//! comes of it; and what it was woken for at its deadline, it does not want to be woken for again.

use crate::flawed::{Flaw, Flawed};
use crate::history::{EXACT, Happening, History, Lawful, Subject, Verdict, every_machine, fails, play_one};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use proptest::prelude::*;

every_machine!(law: keeper, pulls, registry, node, replica);

fn law<S: Subject, M: Lawful<S>>(fresh: impl Fn(&Settings) -> M, history: History<S::Input>) -> Verdict {
    let mut machine = fresh(&EXACT);
    for (now, happening) in history {
        let is_wake = happening == Happening::Wake;
        play_one(&mut machine, now, happening);
        let deadline = machine.poll_timeout().map(|(at, _)| at);
        if is_wake {
            prop_assert!(
                deadline.is_none_or(|at| at > now),
                "woken at {now:?}, it wants to be woken again"
            );
        }
        for early in times_before(now, deadline) {
            let mut woken = machine.clone();
            let outputs = play_one(&mut woken, early, Happening::Wake);
            prop_assert_eq!(outputs, vec![], "woken at {:?}, before {:?}", early, deadline);
            prop_assert_eq!(&woken, &machine, "woken at {:?}, before {:?}", early, deadline);
        }
    }
    Ok(())
}

/// Some instants from `now` on at which nothing is due.
fn times_before(now: Instant, deadline: Option<Instant>) -> Vec<Instant> {
    match deadline {
        None => vec![now, now.plus(Duration::from_secs(1_000_000))],
        Some(at) if at <= now => vec![],
        Some(at) => vec![
            now,
            now.plus(at.since(now) / 2),
            at.minus(Duration::from_micros(1)),
        ],
    }
}

#[test]
fn a_machine_that_counts_its_wake_ups_breaks_it() {
    type S = crate::keeper::Subject;
    fails::<S>(|history| law::<S, _>(|s| Flawed::new(S::fresh(s), Flaw::Counting), history));
}

#[test]
fn a_machine_that_does_not_come_to_rest_breaks_it() {
    type S = crate::keeper::Subject;
    fails::<S>(|history| law::<S, _>(|s| Flawed::new(S::fresh(s), Flaw::Restless), history));
}
