//! A replica besides its workflows: what it learns from every answer, when it is ready, and what it leaves alone.

mod hand;

use hand::{Cluster, actor_key, catalog, failure, name_of, sighting, template, worker_key};
use holdfast_core::actor::{Actor, Assignment, Boot, Change, Status};
use holdfast_core::catalog::Selector;
use holdfast_core::effect::*;
use holdfast_core::failure::Code;
use holdfast_core::id::*;
use holdfast_core::machine::Machine;
use holdfast_core::registry::{Hosting, Report, Sighting};
use holdfast_core::replica::{Event, Input, Output, Replica, Timer};
use holdfast_core::request::{Answer, Request};
use holdfast_core::session::Answered;
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::{self, Duty, Worker};

const SETTINGS: Settings = Settings::DEFAULT;

/// Answers the oldest store operation in some way.
fn store_answers(c: &mut Cluster, index: usize, reply: Result<StoreReply, StoreError>) -> StoreOp {
    let (effect, op) = c.replicas[index].store.pop_front().expect("the store is asked");
    c.input(index, Input::Stored(effect, reply));
    op
}

fn refused() -> Result<StoreReply, StoreError> {
    Err(StoreError::Refused("no".into()))
}

/// What the store has been asked and has not answered.
fn asked(c: &Cluster, index: usize) -> Vec<&'static str> {
    c.replicas[index]
        .store
        .iter()
        .map(|(_, op)| name_of(op))
        .collect()
}

fn is_list(op: &StoreOp) -> bool {
    matches!(op, StoreOp::ListWorkers | StoreOp::ListNodes)
}

/// How many lists a replica asks for while time passes; they all succeed.
fn lists(c: &mut Cluster, time: Duration) -> usize {
    let end = c.now.plus(time);
    let mut lists = 0;
    while let Some((at, _)) = c.replicas[0].machine.poll_timeout().filter(|(at, _)| *at <= end) {
        c.now = at.max(c.now);
        let now = c.now;
        c.replicas[0].machine.handle_timeout(now);
        c.collect(0);
        lists += c.replicas[0].store.iter().filter(|(_, op)| is_list(op)).count();
        c.run(0);
    }
    lists
}

#[test]
fn a_replica_is_ready_when_its_session_and_both_lists_are_there_whichever_comes_last() {
    for last in 0..3 {
        let mut machine = Replica::new(ReplicaId(1), SETTINGS, catalog(None));
        let now = Instant::from_micros(1);
        let outputs =
            |machine: &mut Replica| std::iter::from_fn(|| machine.poll_output()).collect::<Vec<_>>();
        machine.handle(now, Input::Start);
        let mut effects: Vec<(EffectId, StoreReply)> = outputs(&mut machine)
            .into_iter()
            .map(|output| match output {
                Output::Store(effect, StoreOp::PutSession { .. }) => (effect, StoreReply::Done),
                Output::Store(effect, StoreOp::ListNodes) => (effect, StoreReply::Nodes(Vec::new())),
                Output::Store(effect, StoreOp::ListWorkers) => (effect, StoreReply::Workers(Vec::new())),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(effects.len(), 3);
        let final_one = effects.remove(last);
        for (effect, reply) in effects {
            machine.handle(now, Input::Stored(effect, Ok(reply)));
            assert_eq!(outputs(&mut machine), []);
        }
        machine.handle(now, Input::Stored(final_one.0, Ok(final_one.1)));
        assert_eq!(outputs(&mut machine), [Output::Ready], "{last}");
    }
}

#[test]
fn a_list_that_could_not_be_read_is_asked_for_again() {
    for failing in 0..2 {
        let mut c = Cluster::new(1, &["w1"]);
        c.input(0, Input::Watched(StoreEvent::Resync));
        for list in 0..2 {
            let (effect, op) = c.replicas[0].store.pop_front().unwrap();
            assert!(is_list(&op));
            let answer = match list == failing {
                true => Err(StoreError::Unavailable("away".into())),
                false => Ok(c.store.perform(&op)),
            };
            c.input(0, Input::Stored(effect, answer));
        }
        assert_eq!(lists(&mut c, SETTINGS.workflow.retry_to), 2, "both, once more");
    }
}

#[test]
fn a_list_that_is_read_anyhow_is_not_asked_for_again() {
    let mut c = Cluster::new(1, &["w1"]);
    c.input(0, Input::Watched(StoreEvent::Resync));
    store_answers(&mut c, 0, refused());
    c.run(0);
    c.input(0, Input::Watched(StoreEvent::Resync));
    c.run(0);
    assert_eq!(lists(&mut c, SETTINGS.workflow.retry_to), 0);
}

/// The list was made before.
#[test]
fn what_is_heard_while_the_rows_are_listed_is_newer_than_the_list() {
    let mut c = Cluster::new(1, &["w1"]);
    c.input(0, Input::Watched(StoreEvent::Resync));
    let before = c.store.workers[&worker_key("w1")].clone();
    let now = Worker {
        version: before.version.next(),
        ..before.clone()
    };
    c.input(0, Input::Watched(StoreEvent::Worker(Box::new(now.clone()))));
    while let Some((effect, op)) = c.replicas[0].store.pop_front() {
        let reply = match op {
            StoreOp::ListWorkers => StoreReply::Workers(vec![before.clone()]),
            op => c.store.perform(&op),
        };
        c.input(0, Input::Stored(effect, Ok(reply)));
    }
    assert_eq!(c.replicas[0].machine.registry().row(&now.key), Some(&now));
}

#[test]
fn what_operators_declare_later_counts_from_then_on() {
    let mut c = Cluster::new(1, &[]);
    c.input(0, Input::Declared(catalog(None)));
    let request = c.ask(
        0,
        Request::CreateActor {
            key: actor_key("a"),
            template_namespace: "ns".into(),
            template_name: "counter".into(),
            selector: Selector::default(),
        },
    );
    assert_eq!(
        c.verdict(0, request).as_ref().unwrap_err().code,
        Code::FailedPrecondition
    );
}

#[test]
fn two_requests_for_one_actor_exclude_each_other_at_once_within_a_replica() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let second = c.ask(0, Request::Pause(key));
    c.run(0);
    let refusal = c.verdict(0, second).as_ref().unwrap_err();
    assert_eq!(
        (refusal.code, refusal.retry_after.is_some()),
        (Code::Aborted, true)
    );
    assert_eq!(
        c.names(0).iter().filter(|name| **name == "AcquireLease").count(),
        1
    );
}

#[test]
fn resumes_that_are_placed_side_by_side_claim_different_workers() {
    let names: Vec<String> = (0..20).map(|index| format!("w{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut c = Cluster::new(1, &names);
    for name in &names {
        let key = c.asleep(name, None);
        c.ask(0, Request::Resume(key, Boot::Golden));
    }
    let mut claimed = Vec::new();
    while let Some((effect, op)) = c.replicas[0].store.pop_front() {
        match op {
            // Each claim is still on its way when the next workflow chooses.
            StoreOp::PutWorker { worker, .. } => claimed.push(worker.key),
            op => {
                let reply = c.store.perform(&op);
                c.input(0, Input::Stored(effect, Ok(reply)));
            }
        }
    }
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 20);
}

#[test]
fn a_worker_whose_claim_was_refused_is_free_for_the_next() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    while asked(&c, 0) != ["PutWorker"] {
        c.step(0);
    }
    store_answers(&mut c, 0, refused());
    c.run(0);
    assert_eq!(c.verdict(0, request).as_ref().unwrap_err().code, Code::Internal);
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert_eq!(c.call(0).worker.as_ref().unwrap().pod_uid, Name::from("uid-w1"));
}

#[test]
fn a_worker_whose_workflow_failed_after_its_claim_is_free_when_it_has_been_freed() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key.clone(), Boot::Golden));
    while asked(&c, 0) != ["PutActor"] {
        c.step(0);
    }
    store_answers(&mut c, 0, refused());
    c.run(0);
    assert_eq!(c.verdict(0, request).as_ref().unwrap_err().code, Code::Internal);
    assert!(c.store.workers[&worker_key("w1")].hosts.is_some());
    c.pass(0, SETTINGS.workflow.sweep_every * 5 / 4);
    assert!(c.store.workers[&worker_key("w1")].hosts.is_none());
    c.report(0, vec![sighting("w1", 0, None)]);
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert_eq!(c.call(0).worker.as_ref().unwrap().pod_uid, Name::from("uid-w1"));
}

#[test]
fn the_late_answer_of_a_call_that_was_ended_is_nobodys() {
    let mut c = Cluster::new(1, &["w1", "w2"]);
    let key = c.asleep("a", None);
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    let (boot, call) = c.replicas[0].calls.front().cloned().unwrap();
    let used = call.worker.unwrap().pod_uid;
    let left = if used == Name::from("uid-w1") { "w2" } else { "w1" };
    c.report(0, vec![sighting(left, 0, None)]);
    assert_eq!(
        c.call(0).verb,
        Verb::Stop,
        "the worker is gone, and its order may still be on its way"
    );
    c.input(0, Input::Called(boot, Ok(())));
    assert!(c.replicas[0].store.is_empty(), "nothing has been stopped yet");
    assert_eq!(c.call(0).verb, Verb::Stop);
    assert_eq!(c.replicas[0].calls.len(), 1);
}

#[test]
fn a_node_that_has_not_been_heard_is_called_when_it_is() {
    let mut c = Cluster::new(1, &[]);
    let key = c.asleep("a", None);
    let worker = running_elsewhere(&mut c, &key);
    c.ask(0, Request::Suspend(key));
    c.run(0);
    assert!(c.replicas[0].calls.is_empty(), "nobody knows where it listens");
    let node = NodeRow {
        name: "far".into(),
        address: "address".into(),
        incarnation: "atelet".into(),
        sequence: 1,
        session: 0,
        lapsed: 0,
        version: 0,
    };
    let fence = worker.hosts.as_ref().unwrap().fence.0;
    let said = Sighting {
        node: "far".into(),
        ..sighting("w1", fence, Some(&actor_key("a")))
    };
    let workers = vec![said];
    c.ask(0, Request::Heartbeat(Report { node, workers }));
    c.run(0);
    c.pass(0, SETTINGS.workflow.retry_to);
    assert!(matches!(c.call(0).verb, Verb::Checkpoint { .. }));
}

/// Makes the actor run on w1, on a node of its own, by writes of which no replica has heard; the row of w1.
fn running_elsewhere(c: &mut Cluster, key: &ActorKey) -> Worker {
    let said = sighting("w1", 0, None);
    let sight = worker::Sight {
        pod_uid: said.pod_uid,
        incarnation: said.incarnation,
        ip: said.ip,
        node: "far".into(),
        duty: Duty::Serving,
    };
    let promise = worker::Change::Promise {
        actor: key.clone(),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 0,
    };
    let free = Worker::appear(worker_key("w1"), sight, Fence(0));
    let worker = free.after(promise, Version::FIRST).unwrap();
    c.store.workers.insert(worker.key.clone(), worker.clone());
    let op = OpId {
        replica: ReplicaId(9),
        seq: 1,
    };
    let on = Assignment::of(&worker).unwrap();
    let boot = Boot::Golden;
    c.change(key, &Change::Resume { op, on, boot });
    c.change(key, &Change::Ran);
    worker
}

#[test]
fn a_replica_with_nothing_to_do_wakes_for_itself_only() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    c.ask(0, Request::Suspend(key));
    c.run(0);
    c.answer(0, Ok(()));
    assert_eq!(c.replicas[0].machine.workflows().count(), 0);
    let end = c.now.plus(SETTINGS.workflow.deadline * 2);
    while let Some((at, why)) = c.replicas[0].machine.poll_timeout().filter(|(at, _)| *at <= end) {
        assert!(
            matches!(
                why,
                Timer::Session | Timer::Sweep | Timer::Registry | Timer::Graves
            ),
            "{why:?} at {at:?}"
        );
        c.wake(0);
        c.run(0);
    }
}

#[test]
fn the_workflows_of_a_replica_are_those_that_have_no_verdict_yet() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    assert_eq!(c.replicas[0].machine.workflows().count(), 0);
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    let steps: Vec<_> = c.replicas[0]
        .machine
        .workflows()
        .map(|w| (w.key().clone(), w.step()))
        .collect();
    assert_eq!(steps, [(key, "Call")]);
}

#[test]
fn every_move_of_a_lease_is_told_and_only_a_renewal_is_called_one() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", None);
    c.replicas[0].events.clear();
    c.ask(0, Request::Suspend(key.clone()));
    c.run(0);
    c.pass(0, SETTINGS.lease.renew_every);
    c.answer(0, Ok(()));
    c.ask(0, Request::Delete(key.clone()));
    c.run(0);
    let told = c.replicas[0].events.iter().map(|event| match event {
        Event::Moved { actor, moved } => {
            assert_eq!(*actor, key);
            moved.to_string()
        }
        Event::Renewed { actor, step } => {
            assert_eq!(*actor, key);
            format!("renewed in {step}")
        }
        other => panic!("{other:?}"),
    });
    let told: Vec<String> = told.collect();
    assert_eq!(
        told,
        [
            "lease Idle -> Acquiring by Acquire",
            "lease Acquiring -> Held by Granted",
            "lease Held -> Renewing by Renew",
            "renewed in Call",
            "lease Renewing -> Held by Renewed",
            "lease Held -> Over by Release",
            "lease Idle -> Acquiring by Acquire",
            "lease Acquiring -> Held by Granted",
            "lease Held -> Over by Release",
        ]
    );
}

#[test]
fn a_report_of_a_session_that_is_over_is_answered_so_and_its_node_gets_no_actors() {
    let mut c = Cluster::new(2, &["w1"]);
    // Replica 1 declares it over, and replica 0 does not hear of it.
    let node = c.store.nodes.get_mut(&Name::from("node")).unwrap();
    node.lapsed = node.session;
    c.report(0, vec![sighting("w1", 0, None)]);
    let id = RequestId(c.last_request());
    assert!(matches!(
        c.verdict(0, id),
        Ok(Answer::Reported(_, Answered::Over { lapsed: 1 }))
    ));
    let key = c.asleep("a", None);
    let request = c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    assert_eq!(
        c.verdict(0, request).as_ref().unwrap_err().code,
        Code::FailedPrecondition
    );
}

/// The store forgets that it was declared over, and whoever knew goes on knowing: a grant would be one for a node that
/// gets no actors.
#[test]
fn a_session_that_is_over_stays_so_when_the_store_has_lost_that() {
    let mut c = Cluster::new(1, &["w1"]);
    let node = c.store.nodes.get_mut(&Name::from("node")).unwrap();
    node.lapsed = node.session;
    c.watch();
    c.store.nodes.clear();
    c.report(0, vec![sighting("w1", 0, None)]);
    let id = RequestId(c.last_request());
    assert!(matches!(
        c.verdict(0, id),
        Ok(Answer::Reported(_, Answered::Over { lapsed: 1 }))
    ));
    c.session = 2;
    c.report(0, vec![sighting("w1", 0, None)]);
    let id = RequestId(c.last_request());
    assert!(matches!(
        c.verdict(0, id),
        Ok(Answer::Reported(_, Answered::Granted(_)))
    ));
    // The store is told again, by a node that does not know itself.
    assert_eq!(c.store.nodes[&Name::from("node")].lapsed, 1);
    c.running("a", None);
}

#[test]
fn a_node_that_turns_out_to_have_been_heard_is_asked_about_a_session_later() {
    let mut c = Cluster::new(2, &["w1"]);
    c.pass(1, Duration::from_secs(60));
    c.report(1, vec![sighting("w1", 0, None)]);
    let lapses = |c: &Cluster| c.names(0).iter().filter(|name| **name == "LapseNode").count();
    c.pass(0, SETTINGS.session_over_after() - Duration::from_secs(60));
    assert_eq!(lapses(&c), 1, "it had not heard");
    c.pass(0, SETTINGS.session_over_after() - Duration::from_secs(1));
    assert_eq!(lapses(&c), 1);
    c.pass(0, Duration::from_secs(1));
    assert_eq!(lapses(&c), 2);
}

/// It is told nothing any more, so nobody's silence means anything to it.
#[test]
fn a_replica_that_leaves_declares_no_session_over() {
    let mut c = Cluster::new(2, &["w1"]);
    let key = c.asleep("a", Some("mem://1"));
    c.ask(0, Request::Resume(key, Boot::Golden));
    c.run(0);
    c.call(0);
    c.input(0, Input::Shutdown);
    c.pass(0, SETTINGS.session_over_after());
    assert!(!c.names(0).contains(&"LapseNode"));
}

#[test]
fn a_repair_that_the_store_refuses_is_made_at_the_next_report() {
    let mut c = Cluster::new(1, &["w1"]);
    let moved = || Sighting {
        ip: "another".into(),
        ..sighting("w1", 0, None)
    };
    let report = |c: &mut Cluster| {
        let sequence = c.store.nodes[&Name::from("node")].sequence + 1;
        let node = NodeRow {
            sequence,
            ..c.store.nodes[&Name::from("node")].clone()
        };
        let workers = vec![moved()];
        c.ask(0, Request::Heartbeat(Report { node, workers }));
    };
    report(&mut c);
    let at = asked(&c, 0)
        .iter()
        .position(|name| *name == "PutWorker")
        .expect("a repair");
    let (effect, _) = c.replicas[0].store.remove(at).unwrap();
    c.input(0, Input::Stored(effect, refused()));
    c.run(0);
    assert_eq!(c.store.workers[&worker_key("w1")].ip, Name::from("ip"));
    report(&mut c);
    c.run(0);
    assert_eq!(c.store.workers[&worker_key("w1")].ip, Name::from("another"));
}

#[test]
fn a_row_is_known_to_be_gone_as_soon_as_the_store_says_so() {
    // By its own delete, by a delete that finds nothing, and by a write that finds nothing.
    for way in 0..3 {
        let mut c = Cluster::new(1, &["w1", "w2"]);
        let knows = |c: &Cluster| c.replicas[0].machine.registry().row(&worker_key("w1")).is_some();
        assert!(knows(&c));
        let said = match way {
            0 | 1 => vec![sighting("w2", 0, None)],
            _ => vec![
                Sighting {
                    ip: "another".into(),
                    ..sighting("w1", 0, None)
                },
                sighting("w2", 0, None),
            ],
        };
        let sequence = c.store.nodes[&Name::from("node")].sequence + 1;
        let node = NodeRow {
            sequence,
            ..c.store.nodes[&Name::from("node")].clone()
        };
        c.ask(0, Request::Heartbeat(Report { node, workers: said }));
        let is_repair = |op: &StoreOp| {
            matches!(op, StoreOp::DeleteWorker { key, .. } if *key == worker_key("w1"))
                || matches!(op, StoreOp::PutWorker { worker, .. } if worker.key == worker_key("w1"))
        };
        let at = c.replicas[0]
            .store
            .iter()
            .position(|(_, op)| is_repair(op))
            .expect("a repair");
        let (effect, _) = c.replicas[0].store.remove(at).unwrap();
        let reply = match way {
            0 => StoreReply::Done,
            _ => StoreReply::WorkerConflict(None),
        };
        c.input(0, Input::Stored(effect, Ok(reply)));
        assert!(!knows(&c) || way == 2, "{way}");
        if way == 2 {
            // Its node still names it: it gets a row of its own again.
            let made = c.replicas[0].store.iter().find(|(_, op)| is_repair(op));
            assert!(
                matches!(made, Some((_, StoreOp::PutWorker { expect: None, .. }))),
                "{made:?}"
            );
        }
    }
}

#[test]
fn a_workflow_that_fails_while_nothing_is_under_way_is_not_looked_after() {
    let mut c = Cluster::new(1, &["w1"]);
    let key = c.running("a", Some("mem://1"));
    c.watch();
    c.pass(0, SETTINGS.session_over_after());
    c.watch();
    c.session = 2;
    let mut frozen = sighting(
        "w1",
        c.store.workers[&worker_key("w1")].hosts.as_ref().unwrap().fence.0,
        None,
    );
    frozen.hosting = Some(Hosting {
        actor: key.clone(),
        incarnation: Incarnation(7),
        session: 1,
    });
    c.report(0, vec![frozen]);
    c.answer(0, failure(Code::Internal, NodeFailureKind::Failed));
    assert_eq!(
        c.store.actors[&key].status(),
        Status::Running,
        "claimed, and no transition"
    );
    let end = c.now.plus(SETTINGS.workflow.settle_after * 2);
    while let Some((at, why)) = c.replicas[0].machine.poll_timeout().filter(|(at, _)| *at <= end) {
        assert!(!matches!(why, Timer::Settle(_)), "at {at:?}");
        c.wake(0);
        c.replicas[0].store.clear();
        c.replicas[0].calls.clear();
    }
}

/// Sleeping actors to each of which a worker is promised.
fn with_promises(count: usize) -> Cluster {
    let mut c = Cluster::new(1, &[]);
    for index in 0..count {
        let key = actor_key(&format!("a{index}"));
        let actor = Actor::create(key.clone(), Incarnation(7), template(), Selector::default());
        c.store.actors.insert(key.clone(), actor);
        let row = promised(&format!("w{index}"), &key);
        c.store.workers.insert(row.key.clone(), row);
    }
    c.watch();
    c
}

fn promised(name: &str, actor: &ActorKey) -> Worker {
    let said = sighting(name, 0, None);
    let sight = worker::Sight {
        pod_uid: said.pod_uid,
        incarnation: said.incarnation,
        ip: said.ip,
        node: said.node,
        duty: Duty::Serving,
    };
    let promise = worker::Change::Promise {
        actor: actor.clone(),
        incarnation: Incarnation(7),
        template: ("ns".into(), "counter".into()),
        session: 0,
    };
    let free = Worker::appear(worker_key(name), sight, Fence(0));
    free.after(promise, Version::FIRST).unwrap()
}

#[test]
fn a_sweep_looks_at_sixteen_actors_at_a_time_and_at_all_in_the_end() {
    let mut c = with_promises(40);
    while !asked(&c, 0).contains(&"GetActor") {
        c.run(0);
        c.wake(0);
    }
    let looked_at = asked(&c, 0).iter().filter(|name| **name == "GetActor").count();
    assert_eq!(looked_at, 16);
    c.run(0);
    assert!(c.store.workers.values().all(|row| row.hosts.is_none()));
}

#[test]
fn a_sweep_comes_to_actors_that_nobody_looks_after_however_many_are_busy() {
    let names: Vec<String> = (0..600).map(|index| format!("w{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut c = Cluster::new(1, &[]);
    c.report(0, names.iter().map(|name| sighting(name, 0, None)).collect());
    c.watch();
    for name in &names {
        let key = c.asleep(name, None);
        c.ask(0, Request::Resume(key, Boot::Golden));
    }
    while c.step(0).is_some() {}
    assert_eq!(c.replicas[0].calls.len(), 600, "all of them are being booted");
    let lost: Vec<ActorKey> = (0..20).map(|index| actor_key(&format!("lost{index}"))).collect();
    for (index, key) in lost.iter().enumerate() {
        let actor = Actor::create(key.clone(), Incarnation(7), template(), Selector::default());
        c.store.actors.insert(key.clone(), actor);
        let row = promised(&format!("lost{index}"), key);
        c.store.workers.insert(row.key.clone(), row.clone());
        c.input(0, Input::Watched(StoreEvent::Worker(Box::new(row))));
    }
    // The next sweep, and not the one after it.
    let every = SETTINGS.workflow.sweep_every;
    c.pass(0, every * 5 / 4);
    let is_freed = |key: &ActorKey| {
        let hosts = c.store.workers.values().filter_map(|row| row.hosts.as_ref());
        hosts.filter(|hosted| hosted.actor == *key).count() == 0
    };
    assert!(lost.iter().all(is_freed));
}

#[test]
fn a_replica_that_has_left_asks_for_nothing_and_lets_nobody_in() {
    let mut c = Cluster::new(1, &["w1"]);
    c.input(0, Input::Shutdown);
    c.run(0);
    assert_eq!(c.store.sessions, []);
    let request = c.ask(0, Request::ListWorkers);
    assert_eq!(
        c.verdict(0, request).as_ref().unwrap_err().code,
        Code::Unavailable
    );
    c.input(0, Input::Shutdown);
    c.pass(0, SETTINGS.workflow.deadline);
    assert_eq!(c.store.sessions, [], "its session is not renewed");
}
