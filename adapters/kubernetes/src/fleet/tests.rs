use super::*;
use holdfast_core::catalog::{LabelSelector, Scope, Template, Workload};
use holdfast_core::effect::{Target, Verb};
use holdfast_core::id::{ActorKey, Incarnation, OpId, ReplicaId, Version};
use holdfast_core::worker::Sight;

const RESPECT: Duration = Duration::from_secs(90);

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

fn pod(name: &str, uid: &str, node: &str) -> WorkerPod {
    WorkerPod {
        key: WorkerKey::new("team", "pool", name),
        uid: uid.into(),
        node: node.into(),
        ip: format!("10.0.0.{}", name.len()).into(),
        is_leaving: false,
        is_ready: true,
        runs_ended: 0,
    }
}

fn atelet(name: &str, node: &str) -> AteletPod {
    AteletPod {
        name: name.into(),
        node: node.into(),
        address: format!("{name}:8085").into(),
        is_leaving: false,
    }
}

fn name(pod: &str) -> PodName {
    ("team".into(), pod.into())
}

fn row(pod: &WorkerPod) -> Worker {
    let sight = Sight {
        pod_uid: pod.uid.clone(),
        incarnation: format!("run-{}", pod.runs_ended).into(),
        ip: pod.ip.clone(),
        node: pod.node.clone(),
        duty: Duty::Serving,
    };
    Worker::appear(pod.key.clone(), sight, Fence(0))
}

/// A node `n1` with an atelet and these workers.
fn fleet(pods: &[WorkerPod]) -> Fleet {
    let mut fleet = Fleet::new("derived", RESPECT);
    fleet.atelet(&"atelet-1".into(), Read::There(atelet("atelet-1", "n1")));
    for pod in pods {
        seen(&mut fleet, pod);
    }
    fleet
}

fn seen(fleet: &mut Fleet, pod: &WorkerPod) {
    fleet.pod(&name(pod.key.pod.as_str()), &pod.uid, Read::There(pod.clone()));
}

fn workers(fleet: &mut Fleet, node: &str) -> Vec<Sighting> {
    fleet
        .report(at(0), &node.into())
        .map(|report| report.workers)
        .unwrap_or_default()
}

fn call(uid: &str, session: u64) -> NodeCall {
    let template = Template {
        namespace: "team".into(),
        name: "t".into(),
        workload: Workload::default(),
        snapshot_location: "gs://x".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    };
    NodeCall {
        node: "n1".into(),
        run: Default::default(),
        worker: Some(Target {
            pod_uid: uid.into(),
            fence: Fence(7),
            session,
        }),
        actor: ActorKey::new("space", "a"),
        incarnation: Incarnation(1),
        template: template.into(),
        fence: Fence(3),
        op: OpId {
            replica: ReplicaId(1),
            seq: 1,
        },
        verb: Verb::Stop,
    }
}

#[test]
fn a_node_is_reported_with_its_atelet_and_its_workers_and_nothing_of_what_they_host() {
    let mut fleet = fleet(&[pod("a", "u1", "n1"), pod("bb", "u2", "n2")]);
    assert_eq!(fleet.take_changed(), [NodeName::from("n1"), "n2".into()]);
    assert!(fleet.take_changed().is_empty());
    let report = fleet.report(at(0), &"n1".into()).unwrap();
    assert_eq!(report.node.address.as_str(), "atelet-1:8085");
    assert_eq!((report.node.session, report.node.sequence), (0, FIRST_SEQUENCE));
    let [worker] = &report.workers[..] else {
        panic!("{report:?}")
    };
    assert_eq!(worker.key, WorkerKey::new("team", "pool", "a"));
    assert_eq!(
        (worker.highest_fence, &worker.hosting, worker.is_silent),
        (Fence(0), &None, false)
    );
}

#[test]
fn a_worker_without_an_atelet_is_there_and_gets_nothing_new() {
    let mut fleet = fleet(&[pod("bb", "u2", "n2")]);
    assert!(workers(&mut fleet, "n2")[0].is_silent);
    fleet.atelet(&"atelet-2".into(), Read::There(atelet("atelet-2", "n2")));
    assert!(!workers(&mut fleet, "n2")[0].is_silent);
}

#[test]
fn an_atelet_that_goes_serves_until_another_has_come_and_two_that_stay_are_one_too_many() {
    let mut fleet = fleet(&[pod("a", "u1", "n1")]);
    let leaving = AteletPod {
        is_leaving: true,
        ..atelet("atelet-1", "n1")
    };
    fleet.atelet(&"atelet-1".into(), Read::There(leaving));
    assert_eq!(fleet.way(&call("u1", 0)), Way::Free);
    fleet.atelet(&"atelet-2".into(), Read::There(atelet("atelet-2", "n1")));
    assert_eq!(
        fleet.report(at(0), &"n1".into()).unwrap().node.address.as_str(),
        "atelet-2:8085"
    );
    fleet.atelet(&"atelet-3".into(), Read::There(atelet("atelet-3", "n1")));
    let Way::Closed(failure) = fleet.way(&call("u1", 0)) else {
        panic!("whom should it ask?")
    };
    assert_eq!(failure.message, "found 2 atelet pods on node \"n1\", expected 1");
    assert_eq!(failure.kind, NodeFailureKind::Unreachable);
    fleet.atelets_listed(Vec::new());
    let Way::Closed(failure) = fleet.way(&call("u1", 0)) else {
        panic!("whom should it ask?")
    };
    assert_eq!(failure.message, "found 0 atelet pods on node \"n1\", expected 1");
}

#[test]
fn a_pod_that_went_is_not_reported_and_calls_to_it_have_their_answer() {
    let there = pod("a", "u1", "n1");
    let mut fleet = fleet(std::slice::from_ref(&there));
    fleet.row(&row(&there));
    fleet.pod_gone(&name("a"), &"u1".into());
    assert!(fleet.take_changed().contains(&"n1".into()));
    assert!(workers(&mut fleet, "n1").is_empty());
    assert_eq!(fleet.way(&call("u1", 0)), Way::Closed(pod_is_gone()));
}

#[test]
fn a_node_with_a_session_is_asked_whatever_became_of_its_pod() {
    let mut fleet = fleet(&[pod("a", "u1", "n1")]);
    fleet.pod_gone(&name("a"), &"u1".into());
    assert_eq!(fleet.way(&call("u1", 4)), Way::Free);
}

#[test]
fn a_pod_that_a_list_leaves_out_has_gone() {
    let there = pod("a", "u1", "n1");
    let mut fleet = fleet(std::slice::from_ref(&there));
    fleet.pods_listed(Vec::new());
    assert!(workers(&mut fleet, "n1").is_empty());
    assert_eq!(fleet.way(&call("u1", 0)), Way::Closed(pod_is_gone()));
}

#[test]
fn a_row_whose_pod_no_list_has_is_neither_there_nor_gone_until_the_server_was_asked() {
    let other = pod("zzz", "u9", "n1");
    let mut fleet = fleet(&[pod("a", "u1", "n1")]);
    fleet.row(&row(&other));
    assert!(fleet.take_changed().contains(&"n1".into()));
    let reported = workers(&mut fleet, "n1");
    let unheard = reported
        .iter()
        .find(|worker| worker.pod_uid.as_str() == "u9")
        .unwrap();
    assert!(unheard.is_silent && unheard.ip == other.ip);
    assert_eq!(unheard.incarnation.as_str(), "run-0");
    assert_eq!(fleet.unknown(), [(name("zzz"), PodUid::from("u9"))]);
    assert_eq!(fleet.way(&call("u9", 0)), Way::Ask(name("zzz"), "u9".into()));

    fleet.confirmed_gone(&"u9".into());
    assert!(fleet.take_changed().contains(&"n1".into()));
    assert_eq!(workers(&mut fleet, "n1").len(), 1);
    assert!(fleet.unknown().is_empty());
    assert_eq!(fleet.way(&call("u9", 0)), Way::Closed(pod_is_gone()));
}

#[test]
fn what_an_answer_says_of_a_pod_that_has_come_meanwhile_does_not_count() {
    let late = pod("a", "u1", "n1");
    let mut fleet = fleet(&[]);
    fleet.row(&row(&late));
    seen(&mut fleet, &late);
    fleet.confirmed_gone(&"u1".into());
    assert_eq!(fleet.way(&call("u1", 0)), Way::Free);
}

#[test]
fn another_pod_of_the_same_name_proves_that_the_first_is_gone() {
    let first = pod("a", "u1", "n1");
    let mut fleet = fleet(&[pod("a", "u2", "n1")]);
    fleet.row(&row(&first));
    let reported = workers(&mut fleet, "n1");
    assert_eq!(reported.len(), 1);
    assert_eq!(reported[0].pod_uid.as_str(), "u2");
    assert_eq!(fleet.way(&call("u1", 0)), Way::Closed(pod_is_gone()));
    assert_eq!(fleet.way(&call("u2", 0)), Way::Free);

    seen(&mut fleet, &pod("a", "u3", "n2"));
    assert!(workers(&mut fleet, "n1").is_empty(), "it is on another node now");
    assert_eq!(fleet.way(&call("u2", 0)), Way::Closed(pod_is_gone()));
}

#[test]
fn a_node_of_which_only_a_row_tells_is_reported_until_the_row_is_gone() {
    let mut fleet = Fleet::new("derived", RESPECT);
    let lost = pod("a", "u1", "vanished");
    fleet.row(&row(&lost));
    fleet.confirmed_gone(&"u1".into());
    assert_eq!(fleet.take_changed(), [NodeName::from("vanished")]);
    assert_eq!(fleet.report(at(0), &"vanished".into()).unwrap().workers, []);
    assert_eq!(fleet.all_nodes(), [NodeName::from("vanished")]);
    fleet.row_gone(&lost.key);
    assert!(fleet.all_nodes().is_empty());
}

#[test]
fn a_pod_that_goes_keeps_the_address_it_had_and_one_that_never_had_one_is_not_there_yet() {
    let there = pod("a", "u1", "n1");
    let mut fleet = fleet(std::slice::from_ref(&there));
    let leaving = WorkerPod {
        ip: Name::default(),
        is_leaving: true,
        ..there.clone()
    };
    seen(&mut fleet, &leaving);
    let [worker] = &workers(&mut fleet, "n1")[..] else {
        panic!("it is there")
    };
    assert_eq!((worker.duty, &worker.ip), (Duty::Draining, &there.ip));

    let mut fleet = self::fleet(std::slice::from_ref(&leaving));
    assert!(workers(&mut fleet, "n1").is_empty());
    fleet.row(&row(&there));
    let [worker] = &workers(&mut fleet, "n1")[..] else {
        panic!("its row says that it was")
    };
    assert_eq!((worker.duty, &worker.ip), (Duty::Draining, &there.ip));
}

#[test]
fn a_run_of_ateom_that_ended_ends_every_promise_made_to_it() {
    let mut there = pod("a", "u1", "n1");
    let mut fleet = fleet(std::slice::from_ref(&there));
    let first = row(&there);
    assert!(first.version < Version(fence_after(1).0));
    let mut fences = vec![Fence(0)];
    for runs in 1..4 {
        there.runs_ended = runs;
        seen(&mut fleet, &there);
        let worker = &workers(&mut fleet, "n1")[0];
        assert_eq!(worker.incarnation.as_str(), format!("run-{runs}"));
        assert!(worker.highest_fence > *fences.last().unwrap());
        fences.push(worker.highest_fence);
    }
    assert_eq!(fence_after(u64::MAX), Fence::MAX);
}

#[test]
fn a_replica_that_lags_does_not_take_a_run_back() {
    let mut fleet = fleet(&[pod("a", "u1", "n1")]);
    let mut ahead = pod("a", "u1", "n1");
    ahead.runs_ended = 2;
    fleet.row(&row(&ahead));
    let worker = &workers(&mut fleet, "n1")[0];
    assert_eq!(
        (worker.incarnation.as_str(), worker.highest_fence),
        ("run-2", fence_after(2))
    );
}

#[test]
fn a_node_that_reports_by_itself_is_left_alone_until_it_has_been_silent_for_long() {
    let mut fleet = fleet(&[pod("a", "u1", "n1")]);
    fleet.spoke(at(10), &"n1".into());
    assert_eq!(fleet.report(at(99), &"n1".into()), None);
    assert!(fleet.report(at(100), &"n1".into()).is_some());
}

#[test]
fn pods_that_went_long_ago_are_forgotten() {
    let mut fleet = fleet(&[]);
    for n in 0..GONE_MAX + 2 {
        fleet.pod_gone(&name("a"), &format!("u{n}").into());
    }
    assert_eq!(fleet.gone.uids.len(), GONE_MAX);
    assert_eq!(fleet.way(&call("u0", 0)), Way::Free);
    assert_eq!(fleet.way(&call("u2", 0)), Way::Closed(pod_is_gone()));
}

/// What a node says of itself: its workers by their UIDs, and no more.
fn said(node: &str, sequence: u64, uids: &[&str]) -> Report {
    let worker = |uid: &&str| Sighting {
        key: WorkerKey::new("", "", ""),
        pod_uid: (*uid).into(),
        incarnation: "1f".into(),
        ip: Name::default(),
        node: node.into(),
        duty: Duty::Serving,
        is_silent: false,
        highest_fence: Fence(3),
        hosting: None,
    };
    Report {
        node: NodeRow {
            name: node.into(),
            address: "10.0.0.1:8085".into(),
            incarnation: "ab".into(),
            sequence,
            session: 1,
            lapsed: 0,
            version: 0,
        },
        workers: uids.iter().map(worker).collect(),
    }
}

#[test]
fn what_a_node_says_of_a_uid_is_said_of_the_pod_that_has_it() {
    let mut fleet = fleet(&[pod("w-1", "u1", "n1")]);
    let related = fleet.said(at(1), said("n1", 7, &["u1", "u2"]));
    assert_eq!(related.node.sequence, 7);
    let [worker] = &related.workers[..] else {
        panic!("of u2 nobody knows the name yet: {related:?}");
    };
    assert_eq!(worker.key, WorkerKey::new("team", "pool", "w-1"));
    assert_eq!((worker.ip.as_str(), worker.duty), ("10.0.0.3", Duty::Serving));
    assert_eq!(
        (worker.incarnation.as_str(), worker.highest_fence),
        ("1f", Fence(3))
    );

    // The pod comes after the node's word of it: that is told again, as it was said.
    fleet.take_changed();
    seen(&mut fleet, &pod("w-22", "u2", "n1"));
    assert_eq!(fleet.take_changed(), ["n1".into()]);
    let again = fleet.report(at(2), &"n1".into()).unwrap();
    assert_eq!((again.node.sequence, again.workers.len()), (7, 2));
    assert_eq!(again.workers[1].ip.as_str(), "10.0.0.4");
}

#[test]
fn a_pod_that_is_told_to_go_is_drained_without_waiting_for_its_nodes_next_word() {
    let mut fleet = fleet(&[pod("w-1", "u1", "n1")]);
    fleet.said(at(1), said("n1", 7, &["u1"]));
    fleet.take_changed();
    let leaving = WorkerPod {
        is_leaving: true,
        ..pod("w-1", "u1", "n1")
    };
    seen(&mut fleet, &leaving);
    assert_eq!(fleet.take_changed(), ["n1".into()]);
    let again = fleet.report(at(2), &"n1".into()).unwrap();
    assert_eq!(again.workers[0].duty, Duty::Draining);
    assert_eq!(again.node.session, 1, "it has the session that it has");
}

#[test]
fn a_pod_that_has_gone_is_what_its_row_says_for_as_long_as_its_node_has_it() {
    let worker = pod("w-1", "u1", "n1");
    let mut fleet = fleet(std::slice::from_ref(&worker));
    fleet.row(&row(&worker));
    fleet.pod_gone(&name("w-1"), &"u1".into());
    let related = fleet.said(at(1), said("n1", 7, &["u1"]));
    assert_eq!(related.workers[0].key, worker.key);
    assert_eq!(related.workers[0].ip, worker.ip);
}

#[test]
fn a_worker_that_was_told_by_the_cluster_is_the_same_when_its_node_begins_to_report() {
    let worker = pod("w-1", "u1", "n1");
    let mut fleet = fleet(std::slice::from_ref(&worker));
    fleet.row(&row(&worker));
    let related = fleet.said(at(1), said("n1", 7, &["u1"]));
    assert_eq!(related.workers[0].incarnation.as_str(), "run-0");
    let restarted = WorkerPod {
        runs_ended: 1,
        ..worker
    };
    seen(&mut fleet, &restarted);
    let again = fleet.report(at(2), &"n1".into()).unwrap();
    assert_eq!(again.workers[0].incarnation.as_str(), "1f", "that run has ended");
}
