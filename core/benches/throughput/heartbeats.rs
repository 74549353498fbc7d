//! Leases that are renewed, and nodes that report: what a control plane does when nothing happens.
//!
//! Answers are made while the clock runs; what that takes is a place in a queue.

use crate::driver::{Calls, Driver};
use crate::world::{PER_NODE, actor, actor_key};
use crate::{Measured, STRETCHES};
use holdfast_core::actor::Boot;
use holdfast_core::registry::Report;
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};

/// A stretch has at least so many inputs, and at least one heartbeat interval.
const INPUTS_MIN: usize = 300_000;

/// Nothing here ends, so nothing may run into a deadline; and nodes stay alive when they are left out.
fn settings() -> Settings {
    let mut settings = Settings::DEFAULT;
    settings.workflow.deadline = Duration::from_secs(30 * 24 * 3600);
    settings.node.stale_after = 100_000;
    settings
}

/// Leases and nodes together, as often as the settings say.
pub fn both(size: usize) -> [Measured; STRETCHES] {
    let mut driver = with_leases(size);
    let inputs_per_round = 2 * 3 * size + 2 * size / PER_NODE;
    measure(&mut driver, rounds(inputs_per_round))
}

/// Leases alone: nodes say nothing.
pub fn renewals(size: usize) -> [Measured; STRETCHES] {
    let mut driver = with_leases(size);
    driver.nodes.clear();
    measure(&mut driver, rounds(2 * 3 * size))
}

/// Nodes alone, with workers that are free.
pub fn reports(size: usize) -> [Measured; STRETCHES] {
    let mut driver = Driver::new(settings(), size, Calls::Hang);
    measure(&mut driver, rounds(2 * size / PER_NODE).div_ceil(4))
}

/// How many heartbeat intervals a stretch has.
fn rounds(inputs_per_round: usize) -> usize {
    INPUTS_MIN.div_ceil(inputs_per_round)
}

/// `size` workflows, each in the middle of a node call that takes for ever. They began one after the other
/// within one renewal interval, so their renewals are spread over it.
fn with_leases(size: usize) -> Driver {
    let mut driver = Driver::new(settings(), size, Calls::Hang);
    let begun = driver.now;
    for index in 0..size {
        let made = actor(index);
        driver.store.actors.insert(made.key.clone(), made);
        driver.ask(Request::Resume(actor_key(index), Boot::Golden));
        drive(
            &mut driver,
            begun.plus(share(settings().lease.renew_every, index + 1, size)),
        );
    }
    assert_eq!(driver.machine.workflows().count(), size);
    driver
}

/// Goes through heartbeat intervals, in which every node reports once. The first one is not measured.
fn measure(driver: &mut Driver, rounds: usize) -> [Measured; STRETCHES] {
    round(driver, &mut Measured::default());
    [(); STRETCHES].map(|()| {
        let mut measured = Measured::default();
        for _ in 0..rounds {
            round(driver, &mut measured);
        }
        measured
    })
}

/// One heartbeat interval. Reports are made while the clock stands still, some at a time, and consist of
/// names of their own, as if each had just been decoded.
fn round(driver: &mut Driver, measured: &mut Measured) {
    const AT_A_TIME: usize = 8;
    let (begun, every) = (driver.now, settings().node.heartbeat_every);
    let nodes = driver.nodes.len();
    if nodes == 0 {
        return measured.time(|| drive(driver, begun.plus(every)));
    }
    for first in (0..nodes).step_by(AT_A_TIME) {
        let some = first..nodes.min(first + AT_A_TIME);
        let reports: Vec<Report> = some
            .clone()
            .map(|index| driver.nodes[index].report_afresh())
            .collect();
        measured.time(|| {
            let mut inputs = 0;
            for (index, report) in some.zip(reports) {
                driver.ask(Request::Heartbeat(report));
                inputs += 1 + drive(driver, begun.plus(share(every, index + 1, nodes)));
            }
            inputs
        });
    }
}

/// Goes on until `until`, whatever the verdicts, and says how many inputs that took.
fn drive(driver: &mut Driver, until: Instant) -> u64 {
    let before = driver.inputs;
    while driver.now < until {
        driver.run(until);
        while let Some((id, verdict)) = driver.verdicts.pop_front() {
            assert!(verdict.is_ok(), "{id}: {verdict:?}");
        }
    }
    driver.inputs - before
}

/// `part` of `whole` parts of `time`.
fn share(time: Duration, part: usize, whole: usize) -> Duration {
    Duration::from_nanos((time.as_nanos() * part as u128 / whole as u128) as u64)
}
