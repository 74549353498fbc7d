//! The rules of workflows, one test each, on replicas driven by hand.

mod hand;

use hand::{Cluster, actor_key, catalog, failure, name_of, sighting, worker_key};
use holdfast_core::actor::{Boot, Change, Snapshot, State, Status};
use holdfast_core::catalog::Selector;
use holdfast_core::effect::{Fenced, NodeFailureKind, Place, StoreOp, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{Fence, Name, Version};
use holdfast_core::replica::Input;
use holdfast_core::request::{Answer, Request};
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

#[test]
fn resume_of_a_sleeping_actor_takes_five_store_operations_and_one_node_call() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    let call = c.call(0).clone();
    assert!(
        matches!(&call.verb, Verb::Restore { from: Place::External(name), .. } if *name == Name::from("mem://1"))
    );
    assert_eq!(
        call.fence,
        Fence(c.store.actors[&key].version.0),
        "the first write under the lease is the fence"
    );
    c.answer(0, Ok(()));

    assert_eq!(
        c.names(0),
        [
            "GetActor",
            "AcquireLease",
            "PutWorker",
            "PutActor",
            "PutActor+release"
        ]
    );
    assert_eq!(c.store.actors[&key].status(), Status::Running);
    assert!(c.store.workers[&worker_key("w1")].is_promised_to(&key, call.incarnation));
    assert!(c.store.leases.is_empty());
    assert!(matches!(c.verdict(0, request), Ok(Answer::Actor(actor)) if actor.status() == Status::Running));
}

#[test]
fn resume_of_a_running_actor_takes_one_store_operation() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert_eq!(c.names(0), ["GetActor"]);
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn suspend_commits_the_actor_before_it_frees_the_worker() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let Verb::Checkpoint {
        to: Place::External(prefix),
        ..
    } = c.call(0).verb.clone()
    else {
        panic!()
    };
    assert_eq!(
        c.store.actors[&key].latest, None,
        "nothing points at what is not complete"
    );
    c.answer(0, Ok(()));

    assert_eq!(
        c.names(0),
        [
            "AcquireLease",
            "PutActor",
            "PutActor",
            "PutWorker",
            "ReleaseLease"
        ]
    );
    assert_eq!(c.store.actors[&key].latest, Some(Snapshot::External(prefix)));
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn a_second_request_while_the_lease_is_held_is_aborted_at_once() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.replicas[0].performed.clear();

    let here = c.ask(0, Request::Pause(key.clone()));
    assert_eq!(c.verdict(0, here).as_ref().unwrap_err().code, Code::Aborted);
    assert_eq!(c.names(0), [""; 0], "the replica knows it without asking");

    let there = c.ask(1, Request::Suspend(key));
    c.run(1);
    let refused = c.verdict(1, there).as_ref().unwrap_err();
    assert_eq!(
        (refused.code, refused.retry_after.is_some()),
        (Code::Aborted, true)
    );
    assert_eq!(c.names(1), ["AcquireLease", "GetSession"]);
}

#[test]
fn the_lease_of_a_dead_replica_is_taken_over_and_the_same_operation_goes_on() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.asleep("a", None);
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    let before = c.call(0).clone();
    let dead = c.replicas[0].machine.id();
    c.store.sessions.retain(|id| *id != dead);

    let request = c.ask(1, Request::Resume(key.clone(), Boot::Golden));
    c.run(1);
    assert_eq!(
        c.names(1),
        ["GetActor", "AcquireLease", "GetSession", "StealLease", "PutActor"],
        "the last is the claim"
    );
    let after = c.call(1).clone();
    assert_eq!(
        after.op, before.op,
        "a step that may have happened is repeated as the same operation"
    );
    assert!(after.fence > before.fence);
    c.answer(1, Ok(()));
    assert!(c.verdict(1, request).is_ok());

    // The dead one was only slow: what it has to say comes too late.
    c.answer(0, Ok(()));
    assert_eq!(
        c.store.actors[&key].claim.unwrap().token.replica,
        c.replicas[1].machine.id()
    );
}

#[test]
fn a_write_whose_acknowledgement_was_lost_is_recognised_as_ones_own() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    loop {
        let next = c.replicas[0].store.front().map(|(_, op)| name_of(op));
        if next == Some("PutActor") {
            break;
        }
        c.step(0).expect("a PutActor comes");
    }
    c.step_and_lose_the_answer(0);
    let version = c.store.actors[&key].version;
    c.pass(0, Duration::from_secs(1));
    assert_eq!(c.store.actors[&key].version, version, "it is not written twice");
    c.answer(0, Ok(()));
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn a_crash_is_committed_before_the_worker_is_freed_and_keeps_the_last_good_snapshot() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.replicas[0].performed.clear();
    c.answer(0, failure(Code::DataLoss, NodeFailureKind::Crash));

    assert_eq!(c.names(0), ["PutActor", "PutWorker", "ReleaseLease"]);
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);
    let actor = &c.store.actors[&key];
    assert_eq!(actor.status(), Status::Crashed);
    assert_eq!(actor.latest, Some(Snapshot::External("mem://1".into())));
    assert!(actor.in_progress.is_some(), "kept for those who investigate");
    let verdict = c.verdict(0, request).as_ref().unwrap_err();
    assert_eq!((verdict.code, verdict.crashed), (Code::DataLoss, true));

    let refused = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    assert_eq!(
        c.verdict(0, refused).as_ref().unwrap_err().code,
        Code::FailedPrecondition
    );
    let revert = c.ask(0, Request::Revert(key.clone()));
    c.run(0);
    assert!(c.verdict(0, revert).is_ok());
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
}

#[test]
fn suspend_of_an_actor_whose_sandbox_vanished_says_data_loss_and_the_next_resume_restores_the_last_snapshot()
{
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let promise = c.store.workers[&worker_key("w1")].version.0;
    // The node vacated the worker: its fence is above the promise.
    c.report(0, vec![sighting("w1", promise + 1, None)]);
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);

    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    assert_eq!(c.verdict(0, request).as_ref().unwrap_err().code, Code::DataLoss);

    let resume = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    assert!(
        matches!(&c.call(0).verb, Verb::Restore { from: Place::External(name), .. } if *name == Name::from("mem://1"))
    );
    c.answer(0, Ok(()));
    assert!(c.verdict(0, resume).is_ok());
    assert_eq!(c.store.actors[&key].loss, None, "the story of the loss has ended");
}

#[test]
fn a_report_that_overtakes_the_answer_of_a_checkpoint_loses_nothing() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let promise = c.store.workers[&worker_key("w1")].version.0;
    c.report(0, vec![sighting("w1", promise + 1, None)]);
    assert!(!c.is_told(0, request));
    c.answer(0, Ok(()));
    assert!(c.verdict(0, request).is_ok());
    assert!(c.store.actors[&key].latest.is_some());
    assert_eq!(c.store.actors[&key].loss, None);
}

#[test]
fn a_node_that_knows_a_higher_fence_is_moved_past() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let op = c.call(0).op;
    c.answer(
        0,
        failure(
            Code::FailedPrecondition,
            NodeFailureKind::StaleFence {
                of: Fenced::Actor,
                highest: Fence(50),
            },
        ),
    );
    assert!(c.store.actors[&key].version > Version(50));
    assert!(c.call(0).fence > Fence(50));
    assert_eq!(c.call(0).op, op);
    c.answer(0, Ok(()));
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn a_resume_that_failed_is_undone_after_a_while_and_its_worker_is_free_again() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Failed));
    assert_eq!(
        c.verdict(0, request).as_ref().unwrap_err().code,
        Code::Unavailable
    );
    assert_eq!(
        c.store.actors[&key].status(),
        Status::Resuming,
        "the caller may try again"
    );

    for _ in 0..10 {
        if c.replicas[0].calls.is_empty() {
            c.pass(0, Settings::DEFAULT.workflow.settle_after / 2);
        } else if c.call(0).verb == Verb::Stop {
            c.answer(0, Ok(()));
        } else {
            c.answer(0, failure(Code::Unavailable, NodeFailureKind::Failed));
        }
    }
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);
    assert!(c.store.leases.is_empty());
}

#[test]
fn a_suspend_that_finds_a_resume_unfinished_finishes_it_and_then_suspends() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    let resume = c.call(0).op;
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Failed));
    assert_eq!(c.store.actors[&key].status(), Status::Resuming);

    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    assert_eq!(
        c.call(0).op,
        resume,
        "the transition that was begun is finished first"
    );
    c.answer(0, Ok(()));
    assert!(
        matches!(c.call(0).verb, Verb::Checkpoint { .. }),
        "a suspend is not over when the actor runs"
    );
    c.answer(0, Ok(()));
    assert!(matches!(c.verdict(0, request), Ok(Answer::Actor(actor)) if actor.status() == Status::Suspended));
}

#[test]
fn a_burst_on_two_replicas_is_placed_as_long_as_a_worker_is_free() {
    let workers = ["w1", "w2", "w3", "w4", "w5", "w6"];
    let mut c = Cluster::new(2, &workers);
    let mut requests = Vec::new();
    for n in 0..workers.len() {
        let key = c.asleep(&format!("a{n}"), None);
        requests.push((n % 2, c.ask(n % 2, Request::Resume(key, Boot::Golden))));
    }
    // In turns, so that both choose before either hears of the other's choice.
    while c.replicas.iter().any(|seat| !seat.store.is_empty()) {
        for index in 0..2 {
            c.step(index);
        }
    }
    for index in 0..2 {
        while !c.replicas[index].calls.is_empty() {
            c.answer(index, Ok(()));
        }
    }
    for (index, request) in requests {
        assert!(
            c.verdict(index, request).is_ok(),
            "{:?}",
            c.verdict(index, request)
        );
    }
    assert!(c.store.workers.values().all(|w| w.hosts.is_some()));
}

#[test]
fn an_update_of_the_actor_in_the_middle_of_a_resume_disturbs_neither() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    let selector = Selector {
        match_labels: [("tier".into(), "hot".into())].into(),
    };
    c.change(&key, &Change::Select(selector.clone()));
    c.answer(0, Ok(()));
    assert!(c.verdict(0, request).is_ok());
    let actor = &c.store.actors[&key];
    assert_eq!((actor.status(), &actor.selector), (Status::Running, &selector));
}

#[test]
fn an_actor_outlives_its_template() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    c.input(0, Input::Declared(catalog(None)));
    for request in [
        Request::Resume(key.clone(), Boot::Golden),
        Request::Suspend(key.clone()),
    ] {
        let id = c.ask(0, request);
        c.run(0);
        c.answer(0, Ok(()));
        assert!(c.verdict(0, id).is_ok());
    }
    let id = c.ask(0, Request::Delete(key.clone()));
    c.run(0);
    assert!(c.verdict(0, id).is_ok());
    assert!(!c.store.actors.contains_key(&key));
}

#[test]
fn a_paused_actor_stays_paused_until_its_upload_is_done() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let pause = c.ask(0, Request::Pause(key.clone()));
    c.run(0);
    c.answer(0, Ok(()));
    assert!(c.verdict(0, pause).is_ok());

    let failing = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    assert!(matches!(c.call(0).verb, Verb::Upload { .. }));
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Failed));
    assert!(c.verdict(0, failing).is_err());
    assert_eq!(c.store.actors[&key].status(), Status::Paused);

    let suspend = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.answer(0, Ok(()));
    assert!(c.verdict(0, suspend).is_ok());
    assert!(matches!(c.store.actors[&key].latest, Some(Snapshot::External(_))));
}

#[test]
fn an_actor_of_the_same_name_in_another_atespace_is_another_actor() {
    let mut c = Cluster::new(1, &["w1", "w2"]);
    let here = c.running("a", None);
    let mut there = c.store.actors[&here].clone();
    there.key.atespace = "elsewhere".into();
    there.state = State::Suspended;
    let key = there.key.clone();
    c.store.actors.insert(key.clone(), there);
    c.ask(0, Request::Suspend(here));
    c.run(0);
    let request = c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert!(!c.is_told(0, request), "no lease is in the way");
    assert_eq!(c.replicas[0].calls.len(), 2);
}

#[test]
fn a_replica_that_leaves_answers_everybody_and_gives_its_leases_back() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let suspend = c.ask(0, Request::Suspend(key));
    c.run(0);
    let get = c.ask(0, Request::GetActor(actor_key("a")));
    c.input(0, Input::Shutdown);
    c.run(0);
    for request in [suspend, get] {
        assert_eq!(
            c.verdict(0, request).as_ref().unwrap_err().code,
            Code::Unavailable
        );
    }
    assert!(c.store.leases.is_empty());
    assert!(c.store.sessions.is_empty());
    assert!(
        c.replicas[0]
            .performed
            .iter()
            .any(|op| matches!(op, StoreOp::ReleaseLease { .. }))
    );
}

/// Performs store operations up to the one of this name, which waits.
fn step_up_to(c: &mut Cluster, index: usize, name: &str) {
    loop {
        let next = c.replicas[index].store.front().map(|(_, op)| name_of(op));
        match next {
            Some(next) if next == name => return,
            Some(_) => c.step(index),
            None => panic!("{name} does not come"),
        };
    }
}

#[test]
fn a_resume_whose_write_is_late_cannot_point_its_actor_at_a_worker_that_was_freed() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.asleep("a", None);
    c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    step_up_to(&mut c, 0, "PutActor");
    let slow = c.replicas[0].machine.id();
    c.store.sessions.retain(|id| *id != slow);

    c.watch_by(1);
    c.pass(1, Duration::from_secs(20));
    assert_eq!(
        c.store.workers[&worker_key("w1")].hosts,
        None,
        "the sweep frees what nobody is on"
    );
    c.step(0);
    assert_eq!(
        c.store.actors[&key].status(),
        Status::Suspended,
        "a RESUMING that no promised worker leads to would be found by nobody"
    );
}

#[test]
fn a_sweep_that_was_overtaken_does_not_free_the_promise_of_a_newer_owner() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let dead = c.replicas[0].machine.id();
    c.store.sessions.retain(|id| *id != dead);

    // Replica 1 takes the Suspend up, has finished it, and is about to free the worker when its lease ends.
    c.watch_by(1);
    while c.replicas[1].calls.is_empty() {
        c.wake(1);
        c.run(1);
    }
    let (effect, _) = c.replicas[1].calls.pop_front().expect("a Checkpoint");
    c.input(1, Input::Called(effect, Ok(())));
    step_up_to(&mut c, 1, "PutWorker");
    c.store.leases.clear();

    // Replica 2 frees it first, and resumes the actor there.
    c.add_replica(3);
    c.watch_by(2);
    c.pass(2, Duration::from_secs(15));
    let request = c.ask(2, Request::Resume(key.clone(), Boot::Golden));
    c.run(2);
    c.answer(2, Ok(()));
    assert!(c.verdict(2, request).is_ok());

    c.run(1);
    assert!(
        c.store.workers[&worker_key("w1")].is_promised_to(&key, c.store.actors[&key].incarnation),
        "the record by which replica 1 judges is older than that promise"
    );
}

#[test]
fn an_actor_that_its_node_refuses_to_put_to_sleep_serves_on() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    for (request, code) in [
        (Request::Suspend(key.clone()), Code::InvalidArgument),
        (Request::Pause(key.clone()), Code::Unavailable),
    ] {
        let id = c.ask(0, request);
        c.run(0);
        c.answer(0, failure(code, NodeFailureKind::Failed));
        assert_eq!(c.verdict(0, id).as_ref().unwrap_err().code, code);
        let actor = &c.store.actors[&key];
        assert_eq!(actor.status(), Status::Running);
        assert!(actor.in_progress.is_none());
        assert!(c.store.workers[&worker_key("w1")].is_promised_to(&key, actor.incarnation));
        assert!(c.store.leases.is_empty());
    }
}

#[test]
fn an_actor_whose_first_order_may_still_arrive_is_not_said_to_serve_on() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Unreachable));
    c.pass(0, Duration::from_secs(5));
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Failed));
    assert_eq!(c.store.actors[&key].status(), Status::Suspending);

    // The sweep goes on with it; what is asked is refused however often it comes.
    c.pass(0, Duration::from_secs(30));
    c.answer(0, failure(Code::InvalidArgument, NodeFailureKind::Failed));
    assert_eq!(c.store.actors[&key].status(), Status::Running);
}
