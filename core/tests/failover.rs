//! What a failover leaves, of a node, a replica or the store, comes to rest by itself, and in time.

mod hand;

use hand::{Cluster, failure, sighting, worker_key};
use holdfast_core::actor::{Boot, Status};
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::replica::Input;
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// Its node answers no call any more.
fn nobody_answers(c: &mut Cluster, time: Duration) {
    let step = Duration::from_secs(1);
    let mut left = time;
    while left > Duration::ZERO {
        while !c.replicas[0].calls.is_empty() {
            c.answer(0, failure(Code::Unavailable, NodeFailureKind::Unreachable));
        }
        c.pass(0, step);
        left = left.saturating_sub(step);
    }
}

/// I8, Settled: a node whose last word was that a worker is gone, and that never comes back.
#[test]
fn an_actor_whose_node_died_right_after_it_said_that_its_worker_is_gone_comes_to_rest() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.report(0, Vec::new());
    nobody_answers(&mut c, Duration::from_secs(1000));
    assert!(
        c.store.nodes[&NodeName::from("node")].lapsed > 0,
        "its session is over"
    );
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
}

/// The same while it is being resumed: nobody can be told to stop.
#[test]
fn a_resume_whose_node_died_right_after_it_said_that_the_worker_is_gone_is_undone() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    assert_eq!(c.store.actors[&key].status(), Status::Resuming);
    c.report(0, Vec::new());
    nobody_answers(&mut c, Duration::from_secs(1000));
    assert!(
        c.store.nodes[&NodeName::from("node")].lapsed > 0,
        "its session is over"
    );
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
}

/// I8, and section 4 of the design: a store that goes back does not take a worker away for ever.
#[test]
fn a_worker_whose_promise_the_store_has_lost_is_found_again_by_a_replica_that_knew_it() {
    let mut c = Cluster::new(1, &["w1"]);
    let before = c.store.workers[&worker_key("w1")].clone();
    let key = c.running("a", Some("mem://1"));
    let promise = c.store.workers[&worker_key("w1")].version;
    // A failover loses the promise, and the watch begins anew.
    c.store.workers.insert(worker_key("w1"), before);
    c.input(0, Input::Watched(StoreEvent::Resync));
    c.run(0);
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.answer(0, Ok(()));
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
    for _ in 0..40 {
        c.report(0, vec![sighting("w1", promise.0 + 1, None)]);
        c.pass(0, Duration::from_secs(15));
    }
    let row = c.replicas[0].machine.registry().row(&worker_key("w1"));
    assert_eq!(row.and_then(|row| row.hosts.clone()), None, "after ten minutes");
    let other = c.asleep("b", Some("mem://2"));
    c.ask(0, Request::Resume(other.clone(), Boot::Golden));
    c.run(0);
    assert_eq!(c.store.actors[&other].status(), Status::Resuming);
}

/// FailoverUnasked, 18.5 s: also if a dead replica leaves more workflows than sixteen, and their nodes take their time.
#[test]
fn every_workflow_of_a_dead_replica_is_taken_up_in_time() {
    let names: Vec<String> = (0..20).map(|number| format!("w{number}")).collect();
    let workers: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut c = Cluster::new(2, &workers);
    c.report(1, workers.iter().map(|name| sighting(name, 0, None)).collect());
    c.watch();
    for number in 0..20 {
        let key = c.asleep(&format!("a{number}"), Some("mem://1"));
        c.ask(1, Request::Resume(key, Boot::Golden));
        c.run(1);
    }
    assert_eq!(c.replicas[1].calls.len(), 20);
    c.store.sessions.retain(|replica| *replica != ReplicaId(2));
    c.watch_by(0);
    let settings = Settings::DEFAULT;
    c.pass(
        0,
        settings.session.ttl + settings.workflow.sweep_every * 5 / 4 + Duration::from_secs(1),
    );
    assert_eq!(c.replicas[0].calls.len(), 20);
}
