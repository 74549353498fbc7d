//! Workers and nodes.

use futures_util::future::join_all;
use holdfast_core::effect::{NodeRow, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Fence, Incarnation, Version};
use holdfast_core::worker::{Duty, Hosted, Worker};

use super::{Subject, ask, done, node, put_worker, worker};

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
        expect: Version(version),
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
            expect: Version(1),
        },
    )
    .await;
    let StoreReply::Workers(mut listed) = ask(&subject.peer(), StoreOp::ListWorkers).await else {
        panic!()
    };
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(listed, expected);
}

/// A row per node, without conditions.
pub async fn a_node_is_as_it_was_heard_last(subject: &impl Subject) {
    let store = subject.store();
    assert_eq!(ask(&store, StoreOp::ListNodes).await, StoreReply::Nodes(vec![]));
    for row in [node("n1", 1), node("n2", 1), node("n1", 2)] {
        done(&store, StoreOp::PutNode(row)).await;
    }
    let restarted = NodeRow {
        incarnation: "another run".into(),
        ..node("n2", 1)
    };
    done(&store, StoreOp::PutNode(restarted.clone())).await;
    let StoreReply::Nodes(mut listed) = ask(&subject.peer(), StoreOp::ListNodes).await else {
        panic!()
    };
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(listed, vec![node("n1", 2), restarted]);
}
