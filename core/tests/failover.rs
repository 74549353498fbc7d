//! What a failover leaves, of a node, a replica or the store, comes to rest by itself, and in time.

mod hand;

use hand::{Cluster, actor_key, failure, sighting, worker_key};
use holdfast_core::actor::{Boot, Status};
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::registry::{Report, Sighting};
use holdfast_core::replica::Input;
use holdfast_core::request::{Answer, Request};
use holdfast_core::session::{Answered, OnLapse, Session};
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

/// The report of an earlier run of atelet.
fn reported(name: &str, run: &str, sequence: u64, workers: Vec<Sighting>) -> Request {
    let node = NodeRow {
        name: name.into(),
        address: name.into(),
        incarnation: run.into(),
        sequence,
        session: 1,
        lapsed: 0,
        version: 0,
    };
    Request::Heartbeat(Report { node, workers })
}

/// Another node goes on reporting to replica 0, which so knows that it hears.
fn others_report(c: &mut Cluster, beats: std::ops::RangeInclusive<u64>) {
    for beat in beats {
        let w2 = Sighting {
            node: "other".into(),
            ..sighting("w2", 0, None)
        };
        c.ask(0, reported("other", "atelet", beat, vec![w2]));
        c.run(0);
        c.pass(0, Duration::from_secs(5));
    }
}

/// I2: two runs of atelet have no order, and a report of the earlier one that is written late covers the newer one,
/// which was granted. Who knows the earlier one and missed the newer one finds the row as it knows it.
#[test]
fn a_session_that_another_run_of_atelet_was_granted_is_not_declared_over_by_a_report_of_the_run_before() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let node = NodeName::from("node");
    let promise = c.store.workers[&worker_key("w1")].version.0;
    let w1 = || sighting("w1", promise, Some(&actor_key("a")));

    // The first run reports to replica 0, whose write is on its way for 20 s.
    c.ask(0, reported("node", "atelet", 100, vec![w1()]));
    let delayed: Vec<_> = c.replicas[0].store.drain(..).collect();
    c.pass(0, Duration::from_secs(20));
    // Meanwhile atelet is restarted, finds the sandbox and reports to replica 1, which grants the session.
    let sent_at = c.now;
    let granted = c.ask(1, reported("node", "atelet-2", 1, vec![w1()]));
    c.run(1);
    assert!(c.verdict(1, granted).is_ok());
    let settings = Settings::DEFAULT;
    let mut session = Session::new(OnLapse::Freeze, 1);
    let believed = settings.session_believed_for(settings.node.session_ttl);
    assert!(session.granted(c.now, sent_at, believed).is_some());
    // From now on nobody hears the node. Replica 0's write arrives; its watch had a gap, and it lists again.
    c.replicas[0].store.extend(delayed);
    c.run(0);
    c.input(0, Input::Watched(StoreEvent::Resync));
    c.run(0);
    others_report(&mut c, 1..=15);
    assert!(session.covers(1, c.now).is_some(), "the sandbox runs, and may");
    assert_eq!(c.store.nodes[&node].lapsed, 0);
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert_eq!(
        c.replicas[0].calls.front().map(|(_, call)| &call.node),
        None,
        "elsewhere"
    );

    // Nothing more is heard, and then it is over.
    others_report(&mut c, 16..=40);
    assert_eq!(session.covers(1, c.now), None);
    assert_eq!(c.store.nodes[&node].lapsed, 1);
}

/// A report whose answer was lost is in the store or not. Both ways its node's session is declared over in time: at once
/// if the store never had it, and otherwise when it has been there for long enough.
#[test]
fn a_report_whose_answer_was_lost_puts_the_end_of_the_session_off_only_if_it_was_stored() {
    let over = Settings::DEFAULT.session_over_after();
    for is_stored in [false, true] {
        let mut c = Cluster::new(1, &["w1"]);
        let node = NodeName::from("node");
        c.ask(0, reported("node", "atelet", 100, vec![sighting("w1", 0, None)]));
        c.run(0);
        c.pass(0, Duration::from_secs(1));
        c.ask(0, reported("node", "atelet", 101, vec![sighting("w1", 0, None)]));
        if is_stored {
            c.step_and_lose_the_answer(0);
        } else {
            let (effect, _) = c.replicas[0].store.pop_front().expect("the report is noted");
            let lost = Err(StoreError::Unavailable("lost".into()));
            c.input(0, Input::Stored(effect, lost));
        }
        let until = |c: &mut Cluster, time: Duration| {
            c.pass(0, time);
            c.run(0);
            c.store.nodes[&node].lapsed
        };
        assert_eq!(until(&mut c, over.saturating_sub(Duration::from_micros(1))), 0);
        assert_eq!(until(&mut c, Duration::from_micros(1)), u64::from(!is_stored));
        assert_eq!(until(&mut c, over), 1);
    }
}

/// A flushed store has no row of a node that is cut off. Its session is over all the same, and it hears so when it comes
/// back: what it holds still does not go on beside its successor.
#[test]
fn a_session_that_the_store_has_forgotten_is_declared_over() {
    let mut c = Cluster::new(1, &["w1"]);
    let node = NodeName::from("node");
    c.ask(0, reported("node", "atelet", 100, vec![sighting("w1", 0, None)]));
    c.run(0);
    c.store = Default::default();
    c.input(0, Input::Watched(StoreEvent::Resync));
    c.run(0);
    c.pass(0, Settings::DEFAULT.session_over_after());
    c.run(0);
    assert_eq!(c.store.nodes.get(&node).map(|row| row.lapsed), Some(1));
    let back = c.ask(0, reported("node", "atelet", 101, vec![sighting("w1", 0, None)]));
    c.run(0);
    assert!(
        matches!(
            c.verdict(0, back),
            Ok(Answer::Reported(_, Answered::Over { lapsed: 1 }))
        ),
        "{:?}",
        c.verdict(0, back)
    );
}
