//! Between parts of the original: its control plane, which names no operations, and pods of its controller, which
//! nobody describes, with its ateom in them or with ours.

use holdfast_rpc::holdfast_v1::WorkerReport;
use tonic::Code;

use crate::ateom::{self, FakeAteom};
use crate::rig::{Actor, Answers, ReportsTo, Rig, a1, gone, is_there};

const SNAPSHOT: &str = "gs://bucket/a1/s1";

/// As the original's control plane orders.
fn of_the_original() -> Actor {
    Actor {
        atespace: "",
        ..a1(0)
    }
}

const GRANTS: Answers = Answers::Grants(
    std::time::Duration::from_secs(90),
    std::time::Duration::from_millis(50),
);

/// A node that reports to nobody, beside this ateom.
async fn alone(ateom: impl AsyncFnOnce(&Rig) -> FakeAteom) -> (Rig, FakeAteom) {
    let mut rig = Rig::prepare(GRANTS).await;
    rig.reports_to = ReportsTo::Nobody;
    let ateom = ateom(&rig).await;
    rig.start_node().await;
    (rig, ateom)
}

async fn originals(rig: &Rig) -> FakeAteom {
    FakeAteom::start_original(&rig.path("base"), "uid-1").await
}

async fn undescribed(rig: &Rig) -> FakeAteom {
    FakeAteom::start_undescribed(&rig.path("base"), "uid-1").await
}

/// Waits until the node says so of its worker.
async fn until(rig: &Rig, is_so: impl Fn(&WorkerReport) -> bool) {
    while !is_so(&rig.has_found("uid-1").await) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_actor_of_the_originals_control_plane_lives_in_either_ateom_and_in_a_pod_that_nobody_describes() {
    for is_original in [true, false] {
        let (rig, ateom) = alone(async |rig: &Rig| match is_original {
            true => originals(rig).await,
            false => undescribed(rig).await,
        })
        .await;
        rig.run(of_the_original()).await.unwrap();
        assert!(ateom.hosts().is_some());
        rig.checkpoint(of_the_original(), SNAPSHOT).await.unwrap();
        assert_eq!(rig.manifest(SNAPSHOT).await.files.len(), 1);
        until(&rig, |worker| worker.hosted.is_none()).await;
        rig.restore(of_the_original(), SNAPSHOT).await.unwrap();
        assert_eq!(ateom.memory().as_bytes(), ateom::MEMORY);
        // The next snapshot is a local one.
        rig.checkpoint(of_the_original(), "s2").await.unwrap();
        gone(&rig.path("base/actors/ns:counter:a1/bundles/main")).await;
        rig.restore(of_the_original(), "s2").await.unwrap();
        assert_eq!(
            ateom.calls(),
            ["run ", "checkpoint ", "restore ", "checkpoint ", "restore "]
        );
    }
}

#[tokio::test]
async fn a_boot_that_the_originals_ateom_refused_leaves_the_worker_for_the_next() {
    let (rig, ateom) = alone(originals).await;
    ateom.fail_next(tonic::Status::internal("internal server error: no rootfs"));
    assert!(rig.run(of_the_original()).await.is_err());
    rig.run(of_the_original()).await.unwrap();
    assert!(ateom.hosts().is_some());
}

#[tokio::test]
async fn what_the_originals_ateom_has_is_known_again_after_a_restart_of_the_node() {
    let (mut rig, ateom) = alone(originals).await;
    rig.run(of_the_original()).await.unwrap();
    rig.kill_node().await;
    rig.start_node().await;
    until(&rig, |worker| worker.hosted.is_some()).await;
    rig.checkpoint(of_the_original(), SNAPSHOT).await.unwrap();
    assert!(ateom.hosts().is_none());
}

#[tokio::test]
async fn what_the_originals_daemon_had_booted_is_found_by_ours() {
    let (mut rig, ateom) = alone(originals).await;
    rig.run(of_the_original()).await.unwrap();
    rig.kill_node().await;
    std::fs::remove_file(rig.path("base/journal.redb")).unwrap();
    rig.start_node().await;
    until(&rig, |worker| worker.hosted.is_some()).await;
    rig.checkpoint(of_the_original(), SNAPSHOT).await.unwrap();
    assert!(ateom.hosts().is_none());
    rig.restore(of_the_original(), SNAPSHOT).await.unwrap();
}

#[tokio::test]
async fn an_original_ateom_that_was_restarted_in_place_has_lost_its_actor() {
    let (rig, ateom) = alone(originals).await;
    rig.run(of_the_original()).await.unwrap();
    let before = rig.has_found("uid-1").await.ateom_incarnation;
    ateom.kill();
    ateom.restart().await;
    until(&rig, |worker| {
        worker.hosted.is_none() && worker.ateom_incarnation != before
    })
    .await;
    rig.run(of_the_original()).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_is_not_there_yet_is_no_missing_actor_for_the_originals_control_plane() {
    let (rig, _ateom) = alone(originals).await;
    let elsewhere = Actor {
        worker: "uid-2",
        ..of_the_original()
    };
    let status = rig.run(elsewhere).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::Unavailable,
        "routers tell users 404 for NotFound"
    );
    assert!(status.message().contains("no worker uid-2"), "{status:?}");
}

#[tokio::test]
async fn under_a_control_plane_with_sessions_an_original_ateom_is_emptied_and_gets_nothing_new() {
    // The fleet was the original's until a moment ago, and its worker pods still are.
    let (mut rig, ateom) = alone(originals).await;
    rig.run(of_the_original()).await.unwrap();
    rig.kill_node().await;
    rig.reports_to = ReportsTo::ControlPlane;
    rig.start_node().await;
    let report = rig
        .reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_some()))
        .await;
    let worker = &report.workers[0];
    assert!(worker.draining);
    assert_eq!(
        (worker.worker_pod.as_str(), worker.ip.as_str()),
        ("", ""),
        "the control plane knows the pod by its UID"
    );
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    assert!(ateom.hosts().is_none());

    let status = rig.restore(a1(3), SNAPSHOT).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(
        status.message().contains("give the worker's pod our ateom image"),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_stop_ends_what_the_originals_ateom_has_by_the_only_means_it_has() {
    let (mut rig, ateom) = alone(originals).await;
    rig.run(of_the_original()).await.unwrap();
    rig.kill_node().await;
    rig.reports_to = ReportsTo::ControlPlane;
    rig.start_node().await;
    rig.stop(a1(2)).await.unwrap();
    assert!(ateom.hosts().is_none());
    assert!(!is_there(&rig.path("objects/bucket/a1")));
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_none()))
        .await;
}
