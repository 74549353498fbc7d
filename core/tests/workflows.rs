//! Workflows in the corners: what they do about answers that come late, do not fit, or meet somebody else's write.

mod hand;

use hand::{Cluster, actor_key, catalog, failure, name_of, sighting, template, worker_key};
use holdfast_core::actor::{Actor, Boot, Change, Status};
use holdfast_core::catalog::{Catalog, Selector};
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::plan::Goal;
use holdfast_core::registry::Registry;
use holdfast_core::replica::{Event, Input, Timer};
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{self, Worker};
use holdfast_core::workflow::{self, Lane, Workflow, World};

const SETTINGS: Settings = Settings::DEFAULT;

fn unavailable() -> Result<StoreReply, StoreError> {
    Err(StoreError::Unavailable("away".into()))
}

/// Performs operations until the next one is of that name, and takes that one out.
fn take(c: &mut Cluster, name: &str) -> (EffectId, StoreOp) {
    for _ in 0..100 {
        if c.replicas[0].store.front().map(|(_, op)| name_of(op)) == Some(name) {
            return c.replicas[0].store.pop_front().unwrap();
        }
        assert!(c.step(0).is_some(), "no {name} comes");
    }
    panic!("no {name} comes");
}

fn answer(c: &mut Cluster, effect: EffectId, reply: Result<StoreReply, StoreError>) {
    c.input(0, Input::Stored(effect, reply));
}

fn code(c: &Cluster, request: RequestId) -> Code {
    c.verdict(0, request).as_ref().unwrap_err().code
}

fn words(c: &Cluster, request: RequestId) -> &str {
    &c.verdict(0, request).as_ref().unwrap_err().message
}

/// Wakes the replica for its workflow, and for nothing else, and says how long that took.
fn wake_workflow(c: &mut Cluster) -> Duration {
    let before = c.now;
    while !matches!(c.replicas[0].machine.poll_timeout(), Some((_, Timer::Flow(_)))) {
        c.wake(0);
        c.run(0);
    }
    c.wake(0);
    c.now.since(before)
}

fn last_move(c: &Cluster) -> String {
    let events = c.replicas[0].events.iter().rev();
    let mut moves = events.filter_map(|event| match event {
        Event::Moved { moved, .. } => Some(moved.to_string()),
        _ => None,
    });
    moves.next().unwrap_or_default()
}

#[test]
fn a_lease_is_given_back_once_although_a_write_was_about_to_be_tried_again() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key));
    let mut releases = 0;
    let end = c
        .now
        .plus(SETTINGS.workflow.deadline + SETTINGS.workflow.retry_to * 2);
    while c.now < end {
        while let Some((effect, op)) = c.replicas[0].store.pop_front() {
            match name_of(&op) {
                "PutActor" => answer(&mut c, effect, unavailable()),
                // It stays without an answer.
                "ReleaseLease" => releases += 1,
                _ => {
                    let reply = c.store.perform(&op);
                    answer(&mut c, effect, Ok(reply));
                }
            }
        }
        c.wake(0);
    }
    assert_eq!(releases, 1);
    assert!(!c.is_told(0, request), "the lease is given back first");
}

#[test]
fn a_lease_that_is_granted_in_time_and_after_the_deadline_is_given_back_unused() {
    for is_granted in [true, false] {
        let mut c = Cluster::new(1, &["w1"]);
        let key = c.asleep("a", None);
        let request = c.ask(0, Request::Resume(key, Boot::Golden));
        let (load, op) = take(&mut c, "GetActor");
        c.pass(0, SETTINGS.workflow.deadline - Duration::from_secs(10));
        let loaded = c.store.perform(&op);
        answer(&mut c, load, Ok(loaded));
        let (acquire, op) = take(&mut c, "AcquireLease");
        c.pass(0, Duration::from_secs(11));
        assert!(!c.is_told(0, request));
        c.replicas[0].performed.clear();
        let reply = match is_granted {
            true => c.store.perform(&op),
            false => StoreReply::Held(LeaseToken {
                replica: ReplicaId(9),
                seq: 1,
            }),
        };
        answer(&mut c, acquire, Ok(reply));
        c.run(0);
        let given_back: &[&str] = if is_granted { &["ReleaseLease"] } else { &[] };
        assert_eq!(c.names(0), given_back);
        assert_eq!(code(&c, request), Code::DeadlineExceeded);
        assert!(c.replicas[0].calls.is_empty());
    }
}

#[test]
fn a_worker_that_is_gone_is_noticed_during_the_pause_before_it_is_asked_again() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    c.answer(0, failure(Code::Unavailable, NodeFailureKind::Unreachable));
    assert!(c.replicas[0].calls.is_empty());
    c.report(0, Vec::new());
    assert_eq!(c.call(0).verb, Verb::Stop);
}

#[test]
fn there_is_no_way_back_from_a_stop() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    c.answer(0, failure(Code::NotFound, NodeFailureKind::SandboxGone));
    for _ in 0..4 {
        assert_eq!(c.call(0).verb, Verb::Stop);
        c.answer(0, failure(Code::Unavailable, NodeFailureKind::Unreachable));
        wake_workflow(&mut c);
    }
}

/// The first order may still be on its way, and be carried out after the actor has been told that it serves on.
#[test]
fn an_actor_whose_sleep_others_have_ordered_is_not_called_awake_when_the_repetition_is_refused() {
    // Another replica's workflow, with another number or with the same; another workflow of the same replica.
    for (replica, is_same_number) in [(9, false), (9, true), (1, false)] {
        let mut c = Cluster::new(1, &["w1"]);
        let key = c.running("a", None);
        let request = c.ask(0, Request::Suspend(key.clone()));
        let token = match &c.replicas[0].store[0].1 {
            StoreOp::AcquireLease { token, .. } => *token,
            other => panic!("{other:?}"),
        };
        let workflow = if is_same_number { token.seq } else { token.seq + 1 };
        let op = OpId {
            replica: ReplicaId(replica),
            seq: workflow * 256 + 1,
        };
        let snapshot = "mem://1".into();
        c.change(&key, &Change::Suspend { op, snapshot });
        c.run(0);
        assert_eq!(c.call(0).op, op);
        c.answer(0, failure(Code::Unavailable, NodeFailureKind::Failed));
        assert_eq!(code(&c, request), Code::Unavailable);
        assert_eq!(c.store.actors[&key].status(), Status::Suspending, "{op:?}");
    }
}

#[test]
fn each_worker_that_a_resume_was_pointed_at_is_told_to_stop() {
    let mut c = Cluster::new(1, &["w1", "w2"]);
    let key = c.asleep("a", None);
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    let first = c.call(0).worker.as_ref().unwrap().pod_uid.clone();
    c.answer_unheard(0, failure(Code::NotFound, NodeFailureKind::SandboxGone));
    assert_eq!(c.call(0).verb, Verb::Stop);
    c.answer_unheard(0, Ok(()));
    let (reset, op) = take(&mut c, "PutActor");
    let written = c.store.perform(&op);
    answer(&mut c, reset, Ok(written));
    let (pointed, op) = take(&mut c, "PutActor");
    // The other worker goes while the actor is being pointed at it.
    let left = if first == Name::from("uid-w1") { "w1" } else { "w2" };
    c.report(0, vec![sighting(left, 9 << 40, None)]);
    let written = c.store.perform(&op);
    answer(&mut c, pointed, Ok(written));
    let call = c.call(0);
    assert_eq!(call.verb, Verb::Stop);
    assert_ne!(call.worker.as_ref().unwrap().pod_uid, first);
}

/// A cluster in which nothing is declared any more, and an actor that does not carry its template: as the
/// original's records do not.
fn without_template(c: &mut Cluster, key: &ActorKey) {
    c.store.actors.get_mut(key).unwrap().pinned = None;
    c.input(0, Input::Declared(catalog(None)));
}

#[test]
fn a_template_that_nobody_has_is_said_to_be_missing_at_every_step_that_needs_it() {
    let missing = |step: &str| {
        format!(
            "internal server error: workflow failed at step {step}: while getting ActorTemplate: \
             actortemplate.ate.dev \"counter\" not found"
        )
    };
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    without_template(&mut c, &key);
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    c.run(0);
    assert_eq!(words(&c, request), missing("LoadActorForResume"));

    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    without_template(&mut c, &key);
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    assert_eq!(words(&c, request), missing("LoadActorForSuspend"));
    assert_eq!(c.store.actors[&key].status(), Status::Running);

    // Paused while there was a template, and uploaded when there is none. Once it has a place to go to, it goes.
    for is_missing_first in [true, false] {
        let mut c = Cluster::new(1, &["w1"]);
        let key = paused(&mut c);
        if is_missing_first {
            without_template(&mut c, &key);
        }
        let request = c.ask(0, Request::Suspend(key.clone()));
        c.run(0);
        if is_missing_first {
            assert_eq!(words(&c, request), missing("LoadActorForSuspend"));
        } else {
            assert!(matches!(c.call(0).verb, Verb::Upload { .. }));
            let (effect, _) = c.replicas[0].calls.pop_front().unwrap();
            c.input(0, Input::Declared(catalog(None)));
            let actor = c.store.actors.get_mut(&key).unwrap();
            actor.pinned = None;
            actor.version = actor.version.next();
            c.input(0, Input::Called(effect, Ok(())));
            c.run(0);
            assert!(c.verdict(0, request).is_ok());
        }
        let status = c.store.actors[&key].status();
        assert_eq!(status == Status::Paused, is_missing_first);
    }
}

#[test]
fn a_template_that_is_missing_when_the_node_is_called_is_said_to_be_at_once() {
    // A place for the copy was reserved while there was a template.
    let mut c = Cluster::new(1, &["w1"]);
    let key = paused(&mut c);
    let snapshot = "mem://1".into();
    c.change(&key, &Change::Reserve { snapshot });
    without_template(&mut c, &key);
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    assert!(words(&c, request).contains("while getting ActorTemplate"));
    assert_eq!(c.store.actors[&key].status(), Status::Paused);
}

#[test]
fn a_delete_that_meets_another_writer_reads_again_and_goes_on() {
    let mut c = Cluster::new(1, &[]);
    let key = c.asleep("a", Some("mem://1"));
    let request = c.ask(0, Request::Delete(key.clone()));
    let (effect, op) = take(&mut c, "DeleteActor");
    c.change(&key, &Change::Select(Selector::default()));
    let conflict = c.store.perform(&op);
    assert!(matches!(conflict, StoreReply::ActorConflict(Some(_))));
    answer(&mut c, effect, Ok(conflict));
    c.run(0);
    assert!(c.verdict(0, request).is_ok());
    assert!(!c.store.actors.contains_key(&key));
}

fn paused(c: &mut Cluster) -> ActorKey {
    let key = c.running("a", None);
    c.ask(0, Request::Pause(key.clone()));
    c.run(0);
    c.answer(0, Ok(()));
    assert_eq!(c.store.actors[&key].status(), Status::Paused);
    key
}

#[test]
fn an_actor_that_no_pool_may_run_is_told_so() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let mut declared = Catalog::new();
    declared.add_template((*template()).clone());
    c.input(0, Input::Declared(declared));
    let request = c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert_eq!(code(&c, request), Code::FailedPrecondition);
    assert!(words(&c, request).starts_with("no worker pool matches"));
}

#[test]
fn a_pool_whose_sandbox_files_cannot_be_told_boots_nothing() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let mut declared = Catalog::new();
    declared.add_template((*template()).clone());
    for pool in catalog(None).pools() {
        declared.add_pool(pool.clone());
    }
    c.input(0, Input::Declared(declared));
    let request = c.ask(0, Request::Resume(key, Boot::Fresh));
    c.run(0);
    assert!(c.replicas[0].calls.is_empty());
    assert_eq!(code(&c, request), Code::Internal);
    assert!(words(&c, request).contains("while resolving sandbox assets: no default SandboxConfig"));
}

#[test]
fn a_worker_whose_promise_a_replica_has_not_heard_of_is_read_and_freed() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.running("a", None);
    c.store.sessions.retain(|replica| *replica != ReplicaId(1));
    c.replicas.swap(0, 1);
    let knows = |c: &Cluster| {
        let row = c.replicas[0].machine.registry().row(&worker_key("w1"));
        row.is_some_and(|row| row.hosts.is_some())
    };
    assert!(!knows(&c));
    let request = c.ask(0, Request::Suspend(key));
    c.run(0);
    c.answer_unheard(0, Ok(()));
    let (read, op) = take(&mut c, "GetWorker");
    assert!(!knows(&c));
    let row = c.store.perform(&op);
    answer(&mut c, read, Ok(row));
    assert!(knows(&c), "whoever asked");
    c.run(0);
    assert!(c.verdict(0, request).is_ok());
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);
}

/// A Suspend that is about to free its worker.
fn about_to_free() -> (Cluster, RequestId) {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key));
    c.run(0);
    c.answer_unheard(0, Ok(()));
    while c.replicas[0].store.front().map(|(_, op)| name_of(op)) != Some("PutWorker") {
        c.step(0).expect("it frees the worker");
    }
    c.replicas[0].performed.clear();
    (c, request)
}

#[test]
fn a_row_that_was_written_meanwhile_is_freed_at_its_new_version() {
    let (mut c, request) = about_to_free();
    let row = c.store.workers.get_mut(&worker_key("w1")).unwrap();
    row.version = Version(row.version.0 + 7);
    let written = row.version;
    c.run(0);
    assert_eq!(c.names(0), ["PutWorker", "PutWorker", "ReleaseLease"]);
    let row = &c.store.workers[&worker_key("w1")];
    assert_eq!((&row.hosts, row.version), (&None, written.next()));
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn a_row_that_was_freed_although_nobody_said_so_is_left_as_it_is() {
    let (mut c, request) = about_to_free();
    c.step_and_lose_the_answer(0);
    let freed = c.store.workers[&worker_key("w1")].clone();
    wake_workflow(&mut c);
    c.run(0);
    assert_eq!(c.names(0), ["PutWorker", "PutWorker", "ReleaseLease"]);
    assert_eq!(c.store.workers[&worker_key("w1")], freed);
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn a_row_that_is_promised_to_somebody_else_by_now_is_none_of_its_business() {
    let (mut c, request) = about_to_free();
    let row = &c.store.workers[&worker_key("w1")];
    let free = Worker {
        hosts: None,
        ..row.clone()
    };
    let promise = worker::Change::Promise {
        actor: actor_key("b"),
        incarnation: Incarnation(8),
        template: ("ns".into(), "counter".into()),
        session: 1,
    };
    let theirs = free.after(promise, Version::FIRST).unwrap();
    c.store.workers.insert(theirs.key.clone(), theirs.clone());
    c.run(0);
    assert_eq!(c.names(0), ["PutWorker", "ReleaseLease"]);
    assert_eq!(c.store.workers[&theirs.key], theirs);
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn a_store_whose_answers_do_not_fit_is_asked_four_times() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key, Boot::Golden));
    for attempt in 1..=4 {
        assert!(!c.is_told(0, request), "{attempt}");
        let (effect, _) = take(&mut c, "GetActor");
        answer(&mut c, effect, Ok(StoreReply::NotEmpty));
        if attempt < 4 {
            wake_workflow(&mut c);
        }
    }
    assert_eq!(code(&c, request), Code::Unavailable);
    assert_eq!(words(&c, request), "store unavailable: the answer does not fit");
}

#[test]
fn an_actor_whose_record_vanishes_under_a_workflow_is_not_found_and_not_looked_after() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.store.actors.remove(&key);
    c.answer(0, Ok(()));
    assert_eq!(code(&c, request), Code::NotFound);
    assert!(c.store.leases.is_empty());
    let end = c.now.plus(SETTINGS.workflow.settle_after * 2);
    while let Some((at, why)) = c.replicas[0].machine.poll_timeout().filter(|(at, _)| *at <= end) {
        assert!(!matches!(why, Timer::Settle(_)), "at {at:?}");
        c.wake(0);
        c.run(0);
    }
}

#[test]
fn an_update_between_the_lease_and_the_first_write_disturbs_nobody() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Suspend(key.clone()));
    let (write, op) = take(&mut c, "PutActor");
    c.change(&key, &Change::Select(Selector::default()));
    let conflict = c.store.perform(&op);
    answer(&mut c, write, Ok(conflict));
    c.run(0);
    assert!(matches!(c.call(0).verb, Verb::Checkpoint { .. }));
}

#[test]
fn what_was_meant_for_a_deleted_actor_does_not_touch_the_one_that_was_made_anew() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    let request = c.ask(0, Request::Suspend(key.clone()));
    let (write, op) = take(&mut c, "PutActor");
    // Deleted and made again by others, as asleep as the first one was, and as often written.
    let old = c.store.actors[&key].clone();
    let template = old.pinned.clone().unwrap();
    let new = Actor {
        version: old.version,
        ..Actor::create(key.clone(), Incarnation(8), template, Selector::default())
    };
    c.store.actors.insert(key.clone(), new.clone());
    let conflict = c.store.perform(&op);
    assert_eq!(conflict, StoreReply::ActorConflict(Some(Box::new(new.clone()))));
    answer(&mut c, write, Ok(conflict));
    c.run(0);
    assert_eq!(code(&c, request), Code::Aborted);
    assert_eq!(c.store.actors[&key], new);
}

#[test]
fn what_failed_in_one_step_does_not_count_in_the_next() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key, Boot::Golden));
    let first = SETTINGS.workflow.retry_from * 5 / 4;
    for name in ["GetActor", "AcquireLease"] {
        for failures in 0..3 {
            let (effect, _) = take(&mut c, name);
            answer(&mut c, effect, unavailable());
            let pause = wake_workflow(&mut c);
            assert_eq!(pause <= first, failures == 0, "{pause:?}");
        }
        let (effect, op) = take(&mut c, name);
        let reply = c.store.perform(&op);
        answer(&mut c, effect, Ok(reply));
    }
    c.run(0);
    c.answer(0, Ok(()));
    assert!(c.verdict(0, request).is_ok());
}

#[test]
fn a_node_that_has_answered_something_is_asked_again_as_soon_as_at_first() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let first = SETTINGS.workflow.retry_from * 5 / 4;
    let unreachable = || failure(Code::Unavailable, NodeFailureKind::Unreachable);
    for failures in 0..3 {
        c.answer(0, unreachable());
        assert_eq!(wake_workflow(&mut c) <= first, failures == 0);
    }
    let stale = NodeFailureKind::StaleFence {
        of: Fenced::Actor,
        highest: Fence(c.store.actors[&key].version.0 + 5),
    };
    c.answer(0, failure(Code::FailedPrecondition, stale));
    c.answer(0, unreachable());
    assert!(wake_workflow(&mut c) <= first);
}

/// The row of the one worker, promised to an actor that is not there.
fn promised_to_nobody(c: &Cluster) -> Worker {
    let promise = worker::Change::Promise {
        actor: actor_key("nobody"),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 1,
    };
    let row = &c.store.workers[&worker_key("w1")];
    row.after(promise, Version::FIRST).unwrap()
}

/// Whoever looked after that promise is done, and has given its lease back.
fn assert_nobody_is_settled(c: &Cluster) {
    assert!(c.store.leases.is_empty());
    let settled = Event::Settled {
        actor: actor_key("nobody"),
        failure: None,
    };
    assert_eq!(c.replicas[0].events.last(), Some(&settled));
}

#[test]
fn a_promise_that_is_taken_back_before_it_is_looked_at_needs_nothing() {
    let mut c = Cluster::new(1, &["w1"]);
    let promised = promised_to_nobody(&c);
    let freed = promised.after(worker::Change::Free, Version::FIRST).unwrap();
    c.input(0, Input::Watched(StoreEvent::Worker(Box::new(promised))));
    while c.replicas[0].store.front().map(|(_, op)| name_of(op)) != Some("GetActor") {
        c.run(0);
        c.wake(0);
    }
    let (acquire, op) = take(&mut c, "AcquireLease");
    c.input(0, Input::Watched(StoreEvent::Worker(Box::new(freed))));
    let granted = c.store.perform(&op);
    answer(&mut c, acquire, Ok(granted));
    c.run(0);
    assert_nobody_is_settled(&c);
}

#[test]
fn a_promise_to_nobody_that_is_written_meanwhile_is_left_to_the_next_look() {
    let mut c = Cluster::new(1, &["w1"]);
    let promised = promised_to_nobody(&c);
    c.store.workers.insert(promised.key.clone(), promised.clone());
    c.input(0, Input::Watched(StoreEvent::Worker(Box::new(promised))));
    while c.replicas[0].store.front().map(|(_, op)| name_of(op)) != Some("PutWorker") {
        if c.step(0).is_none() {
            c.wake(0);
        }
    }
    let row = c.store.workers.get_mut(&worker_key("w1")).unwrap();
    row.version = row.version.next();
    c.run(0);
    assert_nobody_is_settled(&c);
}

#[test]
fn what_becomes_of_a_lease_is_told_when_it_happens() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key.clone()));
    take(&mut c, "AcquireLease");
    assert_eq!(last_move(&c), "lease Idle -> Acquiring by Acquire");

    // A node's answer ends it.
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let (effect, _) = c.replicas[0].calls.pop_front().unwrap();
    c.input(
        0,
        Input::Called(effect, failure(Code::Internal, NodeFailureKind::Failed)),
    );
    assert_eq!(last_move(&c), "lease Held -> Over by Release");

    // Its node's silence ends it.
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key));
    c.run(0);
    let (lapse, op) = loop {
        match c.replicas[0].store.front().map(|(_, op)| name_of(op)) {
            Some("LapseNode") => break c.replicas[0].store.pop_front().unwrap(),
            Some(_) => drop(c.step(0)),
            None => c.wake(0),
        }
    };
    assert_ne!(last_move(&c), "lease Held -> Over by Release");
    let lapsed = c.store.perform(&op);
    answer(&mut c, lapse, Ok(lapsed));
    assert_eq!(last_move(&c), "lease Held -> Over by Release");
}

#[test]
fn a_workflow_that_has_told_its_verdict_wants_nothing_more() {
    let (registry, catalog, now) = (Registry::new(SETTINGS), catalog(None), Instant::from_micros(1));
    let world = World {
        registry: &registry,
        catalog: &catalog,
        settings: &SETTINGS,
    };
    let token = LeaseToken {
        replica: ReplicaId(1),
        seq: 1,
    };
    let outputs = |workflow: &mut Workflow| std::iter::from_fn(|| workflow.poll_output()).collect::<Vec<_>>();
    let resume = Goal::Resume(Boot::Golden);
    let mut workflow = Workflow::start(resume, actor_key("a"), token, now, &SETTINGS);
    assert_eq!(outputs(&mut workflow).len(), 1);
    workflow.stored(now, Lane::Step, unavailable(), world);
    assert!(workflow.poll_timeout().is_some());
    workflow.abandon(now);
    assert!(matches!(
        outputs(&mut workflow)[..],
        [workflow::Output::Verdict(Err(_))]
    ));
    assert_eq!((workflow.poll_timeout(), workflow.step()), (None, "Over"));
    let late = now.plus(SETTINGS.workflow.deadline * 2);
    workflow.handle_timeout(late, world);
    workflow.stored(late, Lane::Step, Ok(StoreReply::Actor(None)), world);
    workflow.called(late, Ok(()), world);
    workflow.abandon(late);
    assert_eq!(outputs(&mut workflow), []);
}

/// "No further effect leaves the workflow": a process that has slept may hear of an answer before it hears of the time.
#[test]
fn nothing_leaves_a_workflow_whose_lease_ran_out_while_it_slept() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key, Boot::Golden));
    // Load, Acquire, Promise; then RESUMING is written, and the answer waits.
    for _ in 0..3 {
        c.step(0);
    }
    let (effect, op) = c.replicas[0].store.pop_front().unwrap();
    assert_eq!(name_of(&op), "PutActor");
    let reply = c.store.perform(&op);
    c.now = c.now.plus(SETTINGS.lease.ttl.saturating_add(SETTINGS.lease.ttl));
    c.input(0, Input::Stored(effect, Ok(reply)));
    assert_eq!(c.replicas[0].calls.len(), 0);
}

#[test]
fn nothing_is_written_by_a_workflow_whose_lease_ran_out_while_it_slept() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.ask(0, Request::Suspend(key));
    c.run(0);
    c.now = c.now.plus(SETTINGS.lease.ttl.saturating_add(SETTINGS.lease.ttl));
    c.answer_unheard(0, Ok(()));
    let asked: Vec<&str> = c.replicas[0].store.iter().map(|(_, op)| name_of(op)).collect();
    assert!(!asked.contains(&"PutActor"), "{asked:?}");
}

/// SUSPENDED is stored, its acknowledgement is lost, and somebody sets a selector before it is written again.
#[test]
fn a_commit_whose_answer_was_lost_frees_its_worker_although_a_selector_was_set_meanwhile() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    let request = c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.answer_unheard(0, Ok(()));
    c.step_and_lose_the_answer(0);
    assert_eq!(c.store.actors[&key].status(), Status::Suspended);
    c.change(&key, &Change::Select(Selector::default()));
    while !c.is_told(0, request) {
        c.wake(0);
        c.run(0);
    }
    assert!(c.verdict(0, request).is_ok());
    assert_eq!(c.store.workers[&worker_key("w1")].hosts, None);
}
