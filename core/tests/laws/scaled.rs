//! No duration is hidden: a machine all of whose settings are several times as long, in a world that is as
//! many times as slow, does the same on a timeline as many times as long.
//!
//! Two durations are meant for whoever reads a verdict, and stay as they are: the advice when to retry, and
//! what texts quote.

use crate::flawed::{Flaw, Flawed};
use crate::history::{
    EXACT, Happening, History, Lawful, START, Subject, Verdict, every_machine, fails, play,
};
use holdfast_core::settings::*;
use holdfast_core::time::Instant;
use proptest::prelude::*;

every_machine!(law: keeper, pulls, registry, node, replica);

fn law<S: Subject, M: Lawful<S>>(fresh: impl Fn(&Settings) -> M, history: History<S::Input>) -> Verdict {
    let as_it_was = play(fresh(&EXACT), history.clone());
    for times in [2, 3, 10] {
        let history = history.0.iter().cloned().map(|(at, what)| match what {
            Happening::Wake => (slowed(at, times), Happening::Wake),
            Happening::Input(input) => (slowed(at, times), Happening::Input(S::stretched(input, times))),
        });
        let slow = play(fresh(&stretched(&EXACT, times)), history.collect());
        for ((at, outputs, wake), (slow_at, slow_outputs, slow_wake)) in as_it_was.iter().zip(slow) {
            let expected: Vec<_> = outputs
                .iter()
                .map(|o| S::stretched_gist(o.clone(), times))
                .collect();
            let slow_outputs: Vec<_> = slow_outputs
                .into_iter()
                .map(|o| S::stretched_gist(o, 1))
                .collect();
            prop_assert_eq!(slow_outputs, expected, "{} times as slow, at {:?}", times, at);
            prop_assert_eq!(slow_at, slowed(*at, times));
            prop_assert_eq!(
                slow_wake,
                wake.map(|wake| slowed(wake, times)),
                "{} times as slow, at {:?}",
                times,
                at
            );
        }
    }
    Ok(())
}

fn slowed(at: Instant, times: u32) -> Instant {
    START.plus(at.since(START) * times)
}

fn stretched(s: &Settings, times: u32) -> Settings {
    Settings {
        lease: LeaseSettings {
            ttl: s.lease.ttl * times,
            renew_every: s.lease.renew_every * times,
            retry_from: s.lease.retry_from * times,
            drift_ppm: s.lease.drift_ppm,
            margin: s.lease.margin * times,
        },
        session: SessionSettings {
            ttl: s.session.ttl * times,
            renew_every: s.session.renew_every * times,
        },
        node: NodeSettings {
            heartbeat_every: s.node.heartbeat_every * times,
            session_ttl: s.node.session_ttl * times,
            ..s.node
        },
        pull: PullSettings {
            stall_after: s.pull.stall_after * times,
            retry_after: s.pull.retry_after * times,
            abandon_grace: s.pull.abandon_grace * times,
            ..s.pull
        },
        workflow: WorkflowSettings {
            deadline: s.workflow.deadline * times,
            retry_from: s.workflow.retry_from * times,
            retry_to: s.workflow.retry_to * times,
            settle_after: s.workflow.settle_after * times,
            sweep_every: s.workflow.sweep_every * times,
            collect_after: s.workflow.collect_after * times,
        },
    }
}

#[test]
fn the_settings_under_which_it_is_exact_hold_together() {
    assert_eq!(EXACT.check(), Ok(()));
    assert_eq!(stretched(&EXACT, 10).check(), Ok(()));
}

#[test]
fn a_machine_with_a_duration_of_its_own_breaks_it() {
    type S = crate::pulls::Subject;
    fails::<S>(|history| law::<S, _>(|s| Flawed::new(S::fresh(s), Flaw::Padded), history));
}
