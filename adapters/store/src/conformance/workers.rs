//! Workers and nodes.

use futures_util::future::join_all;
use holdfast_core::effect::{NodeRow, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Fence, Incarnation, Version};
use holdfast_core::worker::{Duty, Edition, Hosted, Worker};

use super::{Subject, ask, done, heard, node, put_worker, worker};

/// As actors are.
pub async fn a_worker_is_written_only_at_the_expected_version(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let first = worker("pod-1", 1);
    let get = || StoreOp::GetWorker(first.key.clone());
    assert_eq!(ask(&store, get()).await, StoreReply::Worker(None));
    assert_eq!(
        ask(&store, put_worker(Some(1), &first)).await,
        StoreReply::WorkerConflict(None)
    );
    done(&store, put_worker(None, &first)).await;
    let conflict = StoreReply::WorkerConflict(Some(Box::new(first.clone())));
    assert_eq!(ask(&peer, put_worker(None, &first)).await, conflict);
    assert_eq!(
        ask(&peer, put_worker(Some(2), &worker("pod-1", 3))).await,
        conflict
    );
    let hosting = Worker {
        version: Version(5),
        duty: Duty::Draining,
        hosts: Some(Hosted {
            actor: ActorKey::new("team-a", "id1"),
            incarnation: Incarnation(u64::MAX),
            template_namespace: "ns".into(),
            template_name: "tmpl".into(),
            fence: Fence(5),
            session: 3,
        }),
        ..first.clone()
    };
    done(&peer, put_worker(Some(1), &hosting)).await;
    assert_eq!(
        ask(&store, get()).await,
        StoreReply::Worker(Some(Box::new(hosting)))
    );
}

/// As actors are.
pub async fn a_worker_is_deleted_only_at_the_expected_version(subject: &impl Subject) {
    let store = subject.store();
    let first = worker("pod-1", 4);
    let delete = |version| StoreOp::DeleteWorker {
        key: first.key.clone(),
        expect: Edition::free(Version(version)),
    };
    assert_eq!(ask(&store, delete(4)).await, StoreReply::WorkerConflict(None));
    done(&store, put_worker(None, &first)).await;
    let conflict = StoreReply::WorkerConflict(Some(Box::new(first.clone())));
    assert_eq!(ask(&store, delete(3)).await, conflict);
    done(&store, delete(4)).await;
    assert_eq!(
        ask(&store, StoreOp::GetWorker(first.key.clone())).await,
        StoreReply::Worker(None)
    );
}

/// A store that has lost its last writes counts their versions once more: what was promised to one actor there is not
/// what another expects.
pub async fn what_was_promised_to_another_at_the_expected_version_is_a_conflict(subject: &impl Subject) {
    let store = subject.store();
    let to = |actor: &str, life: u64, fence: u64| Worker {
        hosts: Some(Hosted {
            actor: ActorKey::new("team-a", actor),
            incarnation: Incarnation(life),
            template_namespace: "ns".into(),
            template_name: "tmpl".into(),
            fence: Fence(fence),
            session: 0,
        }),
        ..worker("pod-1", 9)
    };
    let stored = to("id1", u64::MAX, 9);
    done(&store, put_worker(None, &stored)).await;
    let conflict = StoreReply::WorkerConflict(Some(Box::new(stored.clone())));
    let over = |expect: &Worker| StoreOp::PutWorker {
        expect: Some(expect.edition()),
        worker: Box::new(worker("pod-1", 10)),
    };
    let strangers = [
        worker("pod-1", 9),
        to("id2", u64::MAX, 9),
        to("id1", 1, 9),
        to("id1", u64::MAX, 8),
    ];
    for stranger in strangers {
        let delete = StoreOp::DeleteWorker {
            key: stored.key.clone(),
            expect: stranger.edition(),
        };
        assert_eq!(ask(&store, delete).await, conflict);
        assert_eq!(ask(&store, over(&stranger)).await, conflict);
    }
    done(&store, over(&stored)).await;
}

/// Two replicas that place two actors on one worker.
pub async fn of_many_writers_of_a_worker_exactly_one_wins(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    done(&store, put_worker(None, &worker("pod-1", 1))).await;
    let writes = (0..32).map(|writer| {
        let store = if writer % 2 == 0 { &store } else { &peer };
        async move { ask(store, put_worker(Some(1), &worker("pod-1", 2))).await }
    });
    let wins = join_all(writes)
        .await
        .into_iter()
        .filter(|answer| *answer == StoreReply::Done)
        .count();
    assert_eq!(wins, 1);
}

/// Those that were deleted are not.
pub async fn all_workers_are_listed(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(
        ask(&store, StoreOp::ListWorkers).await,
        StoreReply::Workers(vec![])
    );
    let mut expected = Vec::new();
    for pod in 0..25 {
        let worker = worker(&format!("pod-{pod:02}"), 1);
        done(&store, put_worker(None, &worker)).await;
        expected.push(worker);
    }
    let gone = expected.remove(3);
    done(
        &store,
        StoreOp::DeleteWorker {
            key: gone.key,
            expect: Edition::free(Version(1)),
        },
    )
    .await;
    let StoreReply::Workers(mut listed) = ask(&subject.peer(), StoreOp::ListWorkers).await else {
        panic!()
    };
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(listed, expected);
}

/// A row per node.
pub async fn a_node_is_as_it_was_heard_last(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(ask(&store, StoreOp::ListNodes).await, StoreReply::Nodes(vec![]));
    for row in [node("n1", 1), node("n2", 1), node("n1", 2)] {
        heard(&store, row).await;
    }
    let restarted = NodeRow {
        incarnation: "another run".into(),
        ..node("n2", 0)
    };
    heard(&store, restarted.clone()).await;
    assert_eq!(nodes(subject).await, vec![at(2, node("n1", 2)), at(2, restarted)]);
}

/// Reports of one run of atelet may overtake each other; what they know of lapsed sessions is kept.
pub async fn an_older_report_of_a_node_changes_nothing(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    // As decimal text, 10 sorts before 9.
    let newest = NodeRow {
        session: 10,
        ..node("n1", 10)
    };
    let newest = heard(&store, newest).await;
    assert_eq!(
        heard(&peer, newest.clone()).await,
        newest,
        "nor does the same once more"
    );
    let older = NodeRow {
        session: 10,
        ..node("n1", 9)
    };
    assert_eq!(heard(&peer, older.clone()).await.version, newest.version);
    assert_eq!(nodes(subject).await, vec![newest.clone()]);

    let knowing = NodeRow { lapsed: 9, ..older };
    heard(&peer, knowing).await;
    assert_eq!(nodes(subject).await, vec![NodeRow { lapsed: 9, ..newest }]);

    // A floating-point number has no room for these.
    for sequence in [u64::MAX, u64::MAX - 1] {
        heard(&store, node("n2", sequence)).await;
    }
    assert_eq!(nodes(subject).await[1], at(1, node("n2", u64::MAX)));
}

/// Whoever declares it over has heard nothing newer.
pub async fn a_session_is_declared_over_only_if_the_report_was_the_last(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let last = heard(&store, node("n1", 2)).await;
    let other = |run: &str, sequence, version| NodeRow {
        incarnation: run.into(),
        ..at(version, node("n1", sequence))
    };
    for (run, sequence, version) in [("run", 1, 1), ("another run", 2, 1), ("run", 2, 0), ("run", 2, 2)] {
        let late = lapse(&other(run, sequence, version));
        assert_eq!(
            ask(&peer, late).await,
            StoreReply::NodeConflict(Some(last.clone()))
        );
    }
    for _ in 0..2 {
        done(&peer, lapse(&last)).await;
        let over = NodeRow {
            lapsed: 1,
            ..last.clone()
        };
        assert_eq!(nodes(subject).await, vec![over]);
    }
}

/// Also to a run of atelet that knows nothing of it, and to one that keeps its sandboxes running.
pub async fn what_has_lapsed_stays_so(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let last = heard(&store, node("n1", 1)).await;
    done(&store, lapse(&last)).await;
    let over = NodeRow { lapsed: 1, ..last };
    let restarted = NodeRow {
        incarnation: "another run".into(),
        ..node("n1", 1)
    };
    for believing in [node("n1", 2), restarted.clone()] {
        assert_eq!(
            ask(&peer, StoreOp::PutNode(believing)).await,
            StoreReply::NodeConflict(Some(over.clone()))
        );
    }
    assert_eq!(nodes(subject).await, vec![over]);
    for (session, sequence) in [(2, 2), (0, 3)] {
        let next = NodeRow {
            session,
            sequence,
            ..restarted.clone()
        };
        let next = heard(&peer, next).await;
        assert_eq!(nodes(subject).await, vec![NodeRow { lapsed: 1, ..next }]);
    }
}

/// The two that decide about one node at the same time.
pub async fn of_a_report_and_its_lapse_one_comes_first(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    for round in 1..=32 {
        let name = format!("n{round}");
        let last = heard(&store, node(&name, 1)).await;
        let (lapsed, noted) = futures_util::future::join(
            ask(&store, lapse(&last)),
            ask(&peer, StoreOp::PutNode(node(&name, 2))),
        )
        .await;
        let is_over = lapsed == StoreReply::Done;
        assert_eq!(
            is_over,
            noted != StoreReply::NodeAt(2),
            "{lapsed:?} and {noted:?}"
        );
    }
}

/// Where no row is the store has forgotten it, and its session is over all the same: the node is told so when it comes
/// back.
pub async fn a_session_of_a_row_that_is_not_there_is_declared_over(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let known = at(7, node("n1", 4));
    done(&store, lapse(&known)).await;
    let over = NodeRow { lapsed: 1, ..known };
    assert_eq!(nodes(subject).await, vec![over.clone()]);
    assert_eq!(
        ask(&peer, StoreOp::PutNode(node("n1", 5))).await,
        StoreReply::NodeConflict(Some(over))
    );
}

/// The report of an earlier run of atelet that is written late is the last one then, as it was before: what tells the
/// two rows from each other is that the store has taken another report in between.
pub async fn a_session_is_not_declared_over_by_a_report_that_was_written_twice(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let first = heard(&store, node("n1", 7)).await;
    let restarted = NodeRow {
        incarnation: "another run".into(),
        ..node("n1", 1)
    };
    heard(&peer, restarted).await;
    let late = heard(&store, node("n1", 7)).await;
    assert_eq!(
        ask(&peer, lapse(&first)).await,
        StoreReply::NodeConflict(Some(late.clone()))
    );
    done(&peer, lapse(&late)).await;
}

fn lapse(last: &NodeRow) -> StoreOp {
    StoreOp::LapseNode(last.clone())
}

fn at(version: u64, row: NodeRow) -> NodeRow {
    NodeRow { version, ..row }
}

/// All nodes, by name, as the other replica sees them.
async fn nodes(subject: &impl Subject) -> Vec<NodeRow> {
    let StoreReply::Nodes(mut listed) = ask(&subject.peer(), StoreOp::ListNodes).await else {
        panic!()
    };
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    listed
}
