//! What watchers hear.

use std::sync::Arc;

use holdfast_core::effect::{NodeRow, StoreEvent, StoreOp, StoreReply};
use holdfast_core::id::{Version, WorkerKey};
use holdfast_core::worker::Edition;

use super::{Subject, actor, ask, done, heard, key, node, put, put_worker, worker};
use crate::{Store, Watch};

/// A watch that has been told that from now on it hears everything.
async fn watching(store: &Arc<dyn Store>) -> Watch {
    let mut watch = store.watch();
    assert_eq!(watch.next().await, Some(StoreEvent::Resync));
    watch
}

/// The next thing that happened. A store may ask for a list at any time.
async fn next(watch: &mut Watch) -> StoreEvent {
    loop {
        match watch.next().await {
            Some(StoreEvent::Resync) => {}
            Some(event) => return event,
            None => panic!("the store is gone"),
        }
    }
}

fn written(pod: &str, version: u64) -> StoreEvent {
    StoreEvent::Worker(Box::new(worker(pod, version)))
}

fn delete(pod: &str, version: u64) -> StoreOp {
    StoreOp::DeleteWorker {
        key: WorkerKey::new("ns", "pool", pod),
        expect: Edition::free(Version(version)),
    }
}

/// Workers written and deleted, and nodes heard, whoever did it; actors are nobody's business.
pub async fn a_watch_begins_with_resync_and_then_tells_everything(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let mut watch = watching(&store).await;
    done(&peer, put_worker(None, &worker("pod-1", 1))).await;
    done(&store, put(None, &actor(&key("a")))).await;
    done(&store, put_worker(Some(1), &worker("pod-1", 2))).await;
    let row = heard(&peer, node("n1", 1)).await;
    done(&peer, delete("pod-1", 2)).await;
    assert_eq!(next(&mut watch).await, written("pod-1", 1));
    assert_eq!(next(&mut watch).await, written("pod-1", 2));
    assert_eq!(next(&mut watch).await, StoreEvent::Node(row));
    assert_eq!(
        next(&mut watch).await,
        StoreEvent::WorkerGone(WorkerKey::new("ns", "pool", "pod-1"))
    );
}

/// Whichever replica wrote.
pub async fn a_watch_tells_the_writes_of_a_worker_in_their_order(subject: &impl Subject) {
    let stores = [subject.store(), subject.peer()];
    let mut watch = watching(&stores[0]).await;
    done(&stores[0], put_worker(None, &worker("pod-1", 1))).await;
    for version in 2..=200_u64 {
        let store = &stores[usize::from(version % 3 == 0)];
        done(store, put_worker(Some(version - 1), &worker("pod-1", version))).await;
    }
    for version in 1..=200 {
        assert_eq!(next(&mut watch).await, written("pod-1", version));
    }
}

/// For nothing happened.
pub async fn a_write_that_conflicts_is_not_told(subject: &impl Subject) {
    let store = subject.store();
    let mut watch = watching(&store).await;
    assert_eq!(
        ask(&store, put_worker(Some(1), &worker("pod-1", 2))).await,
        StoreReply::WorkerConflict(None)
    );
    assert_eq!(
        ask(&store, delete("pod-1", 1)).await,
        StoreReply::WorkerConflict(None)
    );
    done(&store, put_worker(None, &worker("pod-2", 1))).await;
    assert_eq!(next(&mut watch).await, written("pod-2", 1));
}

/// Of what is stored then, and of nothing that is refused.
pub async fn a_watch_tells_of_a_session_that_is_declared_over(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let mut watch = watching(&store).await;
    let lapse = |row: &NodeRow| StoreOp::LapseNode(row.clone());
    let last = heard(&peer, node("n1", 2)).await;
    assert_eq!(
        ask(&peer, lapse(&node("n1", 1))).await,
        StoreReply::NodeConflict(Some(last.clone()))
    );
    done(&peer, lapse(&last)).await;
    let over = NodeRow {
        lapsed: 1,
        ..last.clone()
    };
    assert_eq!(
        ask(&store, StoreOp::PutNode(node("n1", 3))).await,
        StoreReply::NodeConflict(Some(over.clone()))
    );
    let next_session = NodeRow {
        session: 2,
        ..node("n1", 4)
    };
    let next_session = heard(&store, next_session).await;
    assert_eq!(next(&mut watch).await, StoreEvent::Node(last));
    assert_eq!(next(&mut watch).await, StoreEvent::Node(over));
    let told = NodeRow {
        lapsed: 1,
        ..next_session
    };
    assert_eq!(next(&mut watch).await, StoreEvent::Node(told));
}

/// One that goes away takes nothing along.
pub async fn every_watch_hears_everything(subject: &impl Subject) {
    let (store, peer) = (subject.store(), subject.peer());
    let mut watches = [
        watching(&store).await,
        watching(&store).await,
        watching(&peer).await,
    ];
    drop(watching(&store).await);
    done(&store, put_worker(None, &worker("pod-1", 1))).await;
    for watch in &mut watches {
        assert_eq!(next(watch).await, written("pod-1", 1));
    }
}

/// Scenario S64: an overflow is not silent, and what came last is heard.
pub async fn a_watch_that_falls_behind_is_told_to_list_again(subject: &impl Subject) {
    let store = subject.store();
    let mut slow = watching(&store).await;
    let mut quick = watching(&store).await;
    let mut last = node("n1", 0);
    for sequence in 1..=1500 {
        last = heard(&store, node("n1", sequence)).await;
        while next(&mut quick).await != StoreEvent::Node(last.clone()) {}
    }
    assert_eq!(slow.next().await, Some(StoreEvent::Resync));
    while next(&mut slow).await != StoreEvent::Node(last.clone()) {}
}
