//! Workflows that are cut in the middle, each as the crash cuts of the simulator first found it.

mod hand;

use hand::{Cluster, failure, name_of, worker_key};
use holdfast_core::actor::{Boot, Status};
use holdfast_core::effect::{NodeFailureKind, StoreEvent, StoreOp, StoreReply};
use holdfast_core::failure::Code;
use holdfast_core::id::LeaseToken;
use holdfast_core::replica::Input;
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// Performs operations of a replica until the next one is of that name.
fn run_up_to(c: &mut Cluster, index: usize, name: &str) {
    for _ in 0..50 {
        if c.replicas[index].store.front().map(|(_, op)| name_of(op)) == Some(name) {
            return;
        }
        assert!(c.step(index).is_some(), "no {name} comes");
    }
    panic!("no {name} comes");
}

/// The other replica hears of every worker, and sweeps.
fn sweep(c: &mut Cluster, index: usize) {
    for worker in c.store.workers.values().cloned().collect::<Vec<_>>() {
        c.input(index, Input::Watched(StoreEvent::Worker(Box::new(worker))));
    }
    c.run(index);
    c.pass(index, Settings::DEFAULT.workflow.sweep_every * 2);
}

/// The replica is dead, as far as others can see.
fn end_session(c: &mut Cluster, index: usize) {
    let dead = c.replicas[index].machine.id();
    c.store.sessions.retain(|id| *id != dead);
}

#[test]
fn a_crash_that_is_cut_after_its_commit_leaves_a_worker_that_the_next_sweep_frees() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let (effect, _) = c.replicas[0].calls.pop_front().expect("a checkpoint");
    c.input(
        0,
        Input::Called(effect, failure(Code::DataLoss, NodeFailureKind::Crash)),
    );
    run_up_to(&mut c, 0, "PutWorker");
    assert_eq!(c.store.actors[&key].status(), Status::Crashed);

    end_session(&mut c, 0);
    sweep(&mut c, 1);
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);
    assert_eq!(c.store.actors[&key].status(), Status::Crashed);
}

#[test]
fn a_resume_that_slept_after_its_promise_cannot_point_the_actor_at_a_worker_that_was_freed() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    run_up_to(&mut c, 0, "PutActor");

    end_session(&mut c, 0);
    sweep(&mut c, 1);
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);

    c.run(0);
    assert_eq!(c.verdict(0, request).as_ref().unwrap_err().code, Code::Aborted);
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
}

#[test]
fn a_lease_that_is_granted_too_late_is_given_back() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.now = c.now.plus(Settings::DEFAULT.lease.ttl);
    c.run(0);
    assert_eq!(c.names(0), ["AcquireLease", "ReleaseLease"]);
    assert!(c.store.leases.is_empty());
    assert_eq!(c.verdict(0, request).as_ref().unwrap_err().code, Code::Aborted);
}

#[test]
fn a_lease_that_is_granted_after_the_deadline_is_given_back_before_the_caller_is_told() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    let (effect, acquire) = c.replicas[0].store.pop_front().expect("it asks for the lease");
    c.pass(0, Settings::DEFAULT.workflow.deadline);
    assert!(!c.is_told(0, request));
    assert!(
        !c.names(0).contains(&"ReleaseLease"),
        "what may not be held yet is not given back: that would be overtaken"
    );
    let granted = c.store.perform(&acquire);
    c.input(0, Input::Stored(effect, Ok(granted)));
    c.run(0);
    assert!(c.store.leases.is_empty());
    assert_eq!(
        c.verdict(0, request).as_ref().unwrap_err().code,
        Code::DeadlineExceeded
    );
}

#[test]
fn a_lease_that_nobody_heard_of_is_given_back() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    while !c.is_told(0, request) {
        if matches!(
            c.replicas[0].store.front(),
            Some((_, StoreOp::AcquireLease { .. }))
        ) {
            c.step_and_lose_the_answer(0);
        } else if c.step(0).is_none() {
            c.now = c.now.plus(Duration::from_secs(1));
            let now = c.now;
            holdfast_core::machine::Machine::handle_timeout(&mut c.replicas[0].machine, now);
            c.collect(0);
        }
    }
    assert_eq!(
        c.verdict(0, request).as_ref().unwrap_err().code,
        Code::Unavailable
    );
    assert!(c.store.leases.is_empty());
}

#[test]
fn a_lease_left_over_from_a_workflow_that_has_ended_is_taken_over_by_the_next_one() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let left_over = LeaseToken {
        replica: c.replicas[0].machine.id(),
        seq: 999,
    };
    let acquire = StoreOp::AcquireLease {
        key: key.clone(),
        token: left_over,
        ttl: Settings::DEFAULT.lease.ttl,
        steal: None,
    };
    assert!(matches!(c.store.perform(&acquire), StoreReply::Acquired(_)));
    let request = c.ask(0, Request::Suspend(key));
    c.run(0);
    c.answer(0, Ok(()));
    assert!(c.verdict(0, request).is_ok());
}
