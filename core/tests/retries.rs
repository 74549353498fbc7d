//! Workflows that try again: under one name as long as it is the same thing, elsewhere only when nothing can follow
//! them, and never for ever.

mod hand;

use hand::{Cluster, actor_key, failure, sighting, template, worker_key};
use holdfast_core::actor::{self, Actor, Assignment, Boot, Claim, Snapshot, State, Status};
use holdfast_core::catalog::Selector;
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::plan::{CallOf, Facts, Goal, Next, WishedChange, next};
use holdfast_core::registry::Fact;
use holdfast_core::replica::{Input, Replica};
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// A replica whose workflows may take half an hour, which the settings allow.
fn with_patience(c: &mut Cluster) {
    let mut settings = Settings::DEFAULT;
    settings.workflow.deadline = Duration::from_secs(1800);
    settings.check().expect("a legal configuration");
    c.replicas[0].machine = Replica::new(ReplicaId(9), settings, hand::catalog(Some(template())));
    c.input(0, Input::Start);
    c.run(0);
}

/// Nodes that came back without their pods, and rows that nobody has dropped yet.
#[test]
fn a_resume_survives_a_pool_whose_workers_are_all_gone() {
    let names: Vec<String> = (0..130).map(|number| format!("w{number}")).collect();
    let workers: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut c = Cluster::new(1, &workers);
    let key = c.asleep("a", Some("mem://1"));
    let id = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    let mut tried = 0;
    while !c.is_told(0, id) {
        let reply = match c.call(0).verb {
            Verb::Stop => Ok(()),
            _ => {
                tried += 1;
                failure(Code::NotFound, NodeFailureKind::SandboxGone)
            }
        };
        c.answer(0, reply);
    }
    assert_eq!(tried, 32, "as many as the verdict names");
    let told = c.verdict(0, id).as_ref().expect_err("there is no worker");
    assert_eq!(told.code, Code::Unavailable);
    assert!(
        told.message.starts_with("32 workers in a row"),
        "{}",
        told.message
    );
    assert!(told.retry_after.is_some());
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
    assert!(c.store.leases.is_empty(), "whoever asks next need not wait");
}

/// Its node is at another session than this replica has heard of. It is not asked again and again without a pause, and
/// not given up either: as soon as the session has been heard of, the actor serves there.
#[test]
fn a_resume_survives_a_node_whose_new_session_it_has_not_heard_of() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let id = c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    let over = || failure(Code::Unavailable, NodeFailureKind::SessionOver);
    for _ in 0..3 {
        c.answer(0, over());
        assert_eq!(c.call(0).verb, Verb::Stop);
        c.answer(0, Ok(()));
        assert!(c.replicas[0].calls.is_empty(), "it rests");
        c.pass(0, Duration::from_secs(2));
    }
    c.answer(0, over());
    c.answer(0, Ok(()));
    c.session = 2;
    c.report(0, vec![sighting("w1", 1 << 40, None)]);
    c.pass(0, Duration::from_secs(2));
    assert_eq!(c.call(0).worker.as_ref().map(|target| target.session), Some(2));
    c.answer(0, Ok(()));
    assert!(c.verdict(0, id).is_ok());
}

#[test]
fn a_resume_whose_node_has_begun_another_session_goes_on_at_the_next_worker_at_once() {
    let mut c = Cluster::new(1, &["w1", "w2"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    let first = c.call(0).worker.clone();
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::SessionOver));
    c.answer(0, Ok(()));
    let second = c.call(0);
    assert!(matches!(second.verb, Verb::Restore { .. }));
    assert_ne!(second.worker.as_ref().unwrap().pod_uid, first.unwrap().pod_uid);
}

/// Half an hour of tries are tries of one operation: a node that has it under way lets each of them join.
#[test]
fn a_workflow_with_a_long_deadline_survives_a_node_that_cannot_be_reached() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let actor = c.store.actors.get_mut(&key).unwrap();
    actor.state = State::Paused;
    actor.latest = Some(Snapshot::Local {
        name: "s1".into(),
        nodes: vec!["node".into()],
    });
    with_patience(&mut c);
    let id = c.ask(0, Request::Suspend(key));
    c.run(0);
    let mut tries = Vec::new();
    while !c.is_told(0, id) {
        while !c.replicas[0].calls.is_empty() {
            tries.push(c.call(0).clone());
            c.answer(0, failure(Code::Unavailable, NodeFailureKind::Unreachable));
        }
        c.pass(0, Duration::from_secs(1));
    }
    assert!(c.verdict(0, id).is_err());
    assert!(tries.len() > 300);
    assert!(tries.iter().all(|call| *call == tries[0]));
}

/// Each session is thawed under a name of its own. When they are used up nobody is harmed: the next who looks has others.
#[test]
fn a_node_that_begins_ever_new_sessions_is_followed_by_one_workflow_after_another() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let fence = c.store.workers[&worker_key("w1")].version.0;
    with_patience(&mut c);
    let (mut tokens, mut called_at, mut longest_gap) = (Vec::new(), 2, 0);
    for session in 2..700 {
        c.session = session;
        c.report(0, vec![sighting("w1", fence, Some(&key))]);
        c.pass(0, Duration::from_secs(6));
        if let Some((_, call)) = c.replicas[0].calls.front() {
            assert_eq!(call.verb, Verb::Thaw);
            tokens.push(call.op.seq / 256);
            longest_gap = longest_gap.max(session - called_at);
            called_at = session;
            c.answer(0, failure(Code::Unavailable, NodeFailureKind::SessionOver));
        }
    }
    let by_first = tokens.iter().filter(|token| **token == tokens[0]).count();
    assert!(by_first < tokens.len() && by_first == 255, "{tokens:?}");
    // The next sweep finds it, and not the end of the first workflow's time.
    assert!(longest_gap <= 5, "{longest_gap} reports went by without a call");
    assert_eq!(c.store.actors[&key].status(), Status::Running);
}

/// I2: "Before an actor goes elsewhere from a worker that may still have an order on its way, the promise there is
/// taken back with a Stop."
#[test]
fn an_actor_that_leaves_an_occupied_worker_takes_the_promise_back_if_an_earlier_order_may_still_arrive() {
    let mut c = Cluster::new(1, &["w1", "w2"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    let first = c.call(0).clone();
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Unreachable));
    c.pass(0, Duration::from_secs(1));
    assert_eq!(c.call(0).worker, first.worker, "the same order once more");
    // Its worker does not answer its node at the moment.
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Occupied));
    let second = c.call(0);
    assert!(
        second.verb == Verb::Stop && second.worker == first.worker,
        "the first order may still be on its way to {:?}, and the actor is booted at {:?}",
        first.worker,
        second.worker
    );
    c.answer(0, Ok(()));
    let third = c.call(0);
    assert!(matches!(third.verb, Verb::Restore { .. }));
    assert_ne!(third.worker, first.worker);
}

#[test]
fn an_actor_that_has_been_ordered_once_leaves_an_occupied_worker_at_once() {
    let mut c = Cluster::new(1, &["w1", "w2"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    let first = c.call(0).clone();
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Occupied));
    let second = c.call(0);
    assert!(matches!(second.verb, Verb::Restore { .. }));
    assert_ne!(second.worker, first.worker);
}

/// Whoever takes over does not know how often the dead owner has ordered it.
#[test]
fn an_actor_that_was_inherited_takes_the_promise_back_from_an_occupied_worker() {
    let mut c = Cluster::new(2, &["w1", "w2"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    let first = c.call(0).clone();
    c.store.sessions.retain(|replica| *replica != ReplicaId(1));
    c.watch_by(1);
    c.ask(1, Request::Resume(key, Boot::Golden));
    c.run(1);
    assert_eq!(c.call(1).op, first.op);
    c.answer(1, failure(Code::Unavailable, NodeFailureKind::Occupied));
    assert_eq!(c.call(1).verb, Verb::Stop);
    assert_eq!(c.call(1).worker, first.worker);
}

/// "The node's memory wins ... and the workflow claims above it", also when it thaws: what the plan wishes for can be
/// written. Otherwise the caller is told Internal.
#[test]
fn a_thaw_that_is_stale_is_claimed_above() {
    let me = LeaseToken {
        replica: ReplicaId(1),
        seq: 1,
    };
    let mut actor = Actor::create(actor_key("a"), Incarnation(7), template(), Selector::default());
    let on = Assignment {
        worker: worker_key("w1"),
        pod_uid: "uid".into(),
        incarnation: "run".into(),
        ip: "ip".into(),
        node: "node".into(),
        fence: Fence(3),
        session: 2,
    };
    actor.state = State::Running { on };
    actor.latest = Some(Snapshot::External("latest".into()));
    actor.claim = Some(Claim {
        token: me,
        fence: Fence(1),
    });
    let stale = NodeFailureKind::StaleFence {
        of: Fenced::Actor,
        highest: Fence(9),
    };
    let outcome = (CallOf::Thaw(2), failure(Code::FailedPrecondition, stale));
    let facts = Facts {
        token: me,
        template: actor.pinned.as_deref(),
        golden: None,
        worker: Fact::Frozen(2),
        promised: None,
        leaving: None,
        outcome: Some((&outcome.0, &outcome.1)),
        is_undoing: false,
        is_sole: false,
    };
    let wish = next(&Goal::Resume(Boot::Golden), &actor, &facts);
    let Next::Write {
        change: WishedChange::ClaimAbove(_),
        ..
    } = wish
    else {
        panic!("{wish:?}");
    };
    let written = actor.after(&actor::Change::Claim, Some(me), Version(10));
    assert!(written.is_ok(), "{written:?}");
}

/// The same as operators see it, and whoever resumes that actor.
#[test]
fn the_thaw_of_a_frozen_actor_whose_node_knows_a_higher_fence_is_not_an_internal_error() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let fence = c.store.workers[&worker_key("w1")].version;
    c.session = 2;
    c.report(0, vec![sighting("w1", fence.0, Some(&key))]);
    let stale = NodeFailureKind::StaleFence {
        of: Fenced::Actor,
        highest: Fence(100),
    };
    c.answer(0, failure(Code::FailedPrecondition, stale));
    for event in &c.replicas[0].events {
        let text = format!("{event:?}");
        assert!(!text.contains("Internal"), "{text}");
    }
    let again = c.call(0);
    assert_eq!(again.verb, Verb::Thaw);
    assert!(again.fence > Fence(100), "{:?}", again.fence);
    c.answer(0, Ok(()));
    assert_eq!(c.store.actors[&key].status(), Status::Running);
    assert!(c.store.leases.is_empty());
}
