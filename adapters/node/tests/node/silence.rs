//! An ateom that does not answer: it may live, and so may the sandbox in it.

use holdfast_rpc::holdfast_v1::WorkerReport;
use holdfast_rpc::status::{Reason, reasons};

use crate::rig::{Actor, Rig, a1};

/// Somebody hosts the actor there, and cannot be talked to.
fn silent(worker: Option<&WorkerReport>) -> bool {
    worker.is_some_and(|worker| !worker.reachable && worker.hosted.is_some())
}

fn heard(worker: Option<&WorkerReport>) -> bool {
    worker.is_some_and(|worker| worker.reachable && worker.hosted.is_some())
}

#[tokio::test]
async fn a_worker_whose_ateom_is_stopped_keeps_its_actor_and_gets_no_other() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.reported("uid-1", heard).await;
    let silence = ateom.stop().await;
    rig.reported("uid-1", silent).await;
    let other = Actor { name: "a2", ..a1(2) };
    let refused = rig.run(other).await.unwrap_err();
    assert_eq!(reasons(&refused), [Reason::Occupied]);

    ateom.go_on(silence).await;
    rig.reported("uid-1", heard).await;
}

#[tokio::test]
async fn a_worker_whose_ateom_was_stopped_and_then_killed_is_gone() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    let silence = ateom.stop().await;
    rig.reported("uid-1", silent).await;
    drop(silence);
    rig.reported("uid-1", |worker| worker.is_none()).await;
}

#[tokio::test]
async fn a_node_that_starts_beside_a_stopped_ateom_reports_what_its_journal_knows() {
    let (mut rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.reported("uid-1", heard).await;
    rig.kill_node().await;
    let silence = ateom.stop().await;
    rig.start_node().await;
    let report = rig.reported("uid-1", silent).await;
    let worker = &report.workers[0];
    assert_eq!((worker.ateom_incarnation.as_str(), worker.highest_fence), ("", 1));
    ateom.go_on(silence).await;
    rig.reported("uid-1", heard).await;
}
