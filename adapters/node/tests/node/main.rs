//! The whole node in one process: real sockets, disk, images and snapshots; ateom and the control plane
//! are the test's own.

mod ateom;
mod atespaces;
mod discards;
mod images;
mod looks;
mod metrics;
mod originals;
mod rig;
mod sessions;
mod silence;
mod traces;

use std::time::Duration;

use holdfast_core::effect::Fenced;
use holdfast_core::id::Fence;
use holdfast_rpc::holdfast_v1::InventoryRequest;
use holdfast_rpc::status::{Reason, reasons};
use holdfast_runtime::net::deadline;
use tonic::{Code, Status};

use ateom::FakeAteom;
use rig::{Actor, Log, Rig, a1, called, gone, is_there};

const SNAPSHOT: &str = "gs://bucket/a1/s1";

#[tokio::test]
async fn an_actor_is_booted_put_to_sleep_in_the_object_store_and_woken() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    let report = rig
        .reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_some()))
        .await;
    let worker = &report.workers[0];
    let hosted = worker.hosted.as_ref().unwrap();
    assert_eq!(
        (hosted.atespace.as_str(), hosted.actor_id.as_str()),
        ("team-a", "a1")
    );
    assert_eq!((worker.highest_fence, hosted.incarnation), (1, 1));
    assert_eq!(
        (worker.worker_pool.as_str(), worker.ip.as_str()),
        ("pool", "127.0.0.1")
    );

    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    let manifest = rig.manifest(SNAPSHOT).await;
    let actor = manifest.actor.as_ref().unwrap();
    assert_eq!(
        (
            actor.atespace.as_str(),
            actor.id.as_str(),
            actor.incarnation.as_str()
        ),
        ("team-a", "a1", "1")
    );
    assert_eq!(manifest.operation_id.as_deref(), Some("0000000000000001-2"));
    assert_eq!(
        (manifest.sandbox_class.as_str(), manifest.files.len()),
        ("gvisor", 1)
    );
    let left = rig.path("base/actors/team-a/ns:counter:a1/checkpoint-state/checkpoint.img");
    gone(&left).await;
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_none()))
        .await;

    rig.restore(a1(3), SNAPSHOT).await.unwrap();
    assert_eq!(ateom.memory().as_bytes(), ateom::MEMORY);
    let calls = [called("run", 1), called("checkpoint", 2), called("restore", 3)];
    assert_eq!(ateom.calls(), calls);
    let inventory = rig
        .control()
        .inventory(InventoryRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(inventory.workers[0].hosted.is_some());
}

#[tokio::test]
async fn a_local_snapshot_wakes_the_actor_and_can_be_uploaded() {
    let (rig, _ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.checkpoint(a1(2), "s1").await.unwrap();
    let file = rig.path("base/actors/team-a/ns:counter:a1/local-checkpoint/s1/checkpoint.img");
    assert_eq!(std::fs::read(&file).unwrap(), ateom::MEMORY);
    rig.restore(a1(3), "s1").await.unwrap();
    assert!(is_there(&file), "it outlives the sandbox that it was restored to");

    rig.upload(a1(4), "s1", SNAPSHOT).await.unwrap();
    assert_eq!(
        rig.manifest(SNAPSHOT).await.operation_id.as_deref(),
        Some("0000000000000001-2")
    );
    let status = rig.upload(a1(5), "s2", "gs://bucket/a1/s2").await.unwrap_err();
    assert_eq!(
        (status.code(), reasons(&status)),
        (Code::DataLoss, vec![Reason::OperationFailed])
    );
}

#[tokio::test]
async fn a_repeated_operation_gets_its_recorded_result_also_from_a_node_that_was_restarted() {
    let (mut rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.run(a1(1)).await.unwrap();
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    rig.kill_node().await;
    rig.start_node().await;
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    assert_eq!(ateom.calls(), [called("run", 1), called("checkpoint", 2)]);
}

#[tokio::test]
async fn a_stale_owner_is_refused_and_told_the_highest_fence_also_after_a_restart() {
    let (mut rig, _ateom) = Rig::start().await;
    let newest = Actor { fence: 9, ..a1(1) };
    rig.run(newest).await.unwrap();
    for is_restarted in [false, true] {
        if is_restarted {
            rig.kill_node().await;
            rig.start_node().await;
        }
        let status = rig.checkpoint(a1(2), SNAPSHOT).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let highest = Fence(9);
        let of = Fenced::Actor;
        assert_eq!(reasons(&status), [Reason::StaleFence { of, highest }]);
    }
}

#[tokio::test]
async fn work_goes_on_without_its_caller_and_who_asks_again_joins_it() {
    let (rig, ateom) = Rig::start().await;
    ateom.open(false);
    let first = rig.run(a1(1));
    tokio::select! {
        biased;
        answer = first => panic!("nothing was done yet: {answer:?}"),
        () = ateom.asked(called("run", 1)) => {}
    }
    // The first caller has left.
    let impatient = deadline(Duration::from_millis(1), rig.run(a1(1)))
        .await
        .unwrap_err();
    assert_eq!(impatient.code(), Code::DeadlineExceeded);
    let joined = rig.run(a1(1));
    let opened = async {
        ateom.open(true);
        Ok::<_, Status>(())
    };
    futures_util::try_join!(joined, opened).unwrap();
    assert_eq!(ateom.calls(), [called("run", 1)]);
}

#[tokio::test]
async fn an_operation_of_another_is_refused_while_one_is_under_way() {
    let (rig, ateom) = Rig::start().await;
    ateom.open(false);
    let other = Actor { name: "a2", ..a1(2) };
    let refused = async {
        ateom.asked(called("run", 1)).await;
        let status = rig.run(other).await.unwrap_err();
        ateom.open(true);
        Ok::<_, Status>(status)
    };
    let ((), status) = futures_util::try_join!(rig.run(a1(1)), refused).unwrap();
    assert_eq!(
        (status.code(), reasons(&status)),
        (Code::FailedPrecondition, vec![Reason::Occupied])
    );
}

#[tokio::test]
async fn a_node_that_is_killed_in_the_middle_of_a_restore_completes_it_when_it_is_asked_again() {
    let (mut rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    ateom.open(false);
    tokio::select! {
        biased;
        answer = rig.restore(a1(3), SNAPSHOT) => panic!("nothing was done yet: {answer:?}"),
        () = ateom.asked(called("restore", 3)) => {}
    }
    rig.kill_node().await;
    ateom.open(true);
    rig.start_node().await;
    rig.restore(a1(3), SNAPSHOT).await.unwrap();
    assert_eq!(ateom.hosts().unwrap().operation_id, "0000000000000001-3");
}

#[tokio::test]
async fn a_checkpoint_that_could_not_be_stored_is_stored_after_a_restart_and_taken_once() {
    let (mut rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    // A file where the bucket should be: nothing can be stored there.
    let bucket = rig.path("objects/bucket");
    std::fs::remove_dir(&bucket).unwrap();
    std::fs::write(&bucket, "").unwrap();
    let mut log = Log::listen();
    tokio::select! {
        biased;
        answer = rig.checkpoint(a1(2), SNAPSHOT) => panic!("it cannot have been stored: {answer:?}"),
        () = log.says("trying again (1)") => {}
    }
    rig.kill_node().await;
    std::fs::remove_file(&bucket).unwrap();
    std::fs::create_dir(&bucket).unwrap();
    rig.start_node().await;
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    assert_eq!(rig.manifest(SNAPSHOT).await.files.len(), 1);
    assert_eq!(ateom.calls(), [called("run", 1), called("checkpoint", 2)]);
}

fn assert_crash(status: &Status) {
    assert_eq!(status.code(), Code::DataLoss, "{status:?}");
    assert_eq!(reasons(status), [Reason::CrashActor], "{status:?}");
}

#[tokio::test]
async fn a_snapshot_that_is_missing_or_damaged_crashes_the_actor_before_anything_runs() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.checkpoint(a1(2), SNAPSHOT).await.unwrap();
    let missing = rig.restore(a1(3), "gs://bucket/a1/s9").await.unwrap_err();
    assert_crash(&missing);
    assert!(missing.message().contains("gs://bucket/a1/s9"), "{missing:?}");

    let object = rig.path("objects/bucket/a1/s1/checkpoint.img.zstd");
    let mut bytes = std::fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let damaged = rig.restore(a1(4), SNAPSHOT).await.unwrap_err();
    assert_crash(&damaged);
    assert!(damaged.message().contains("checkpoint.img"), "{damaged:?}");
    assert_eq!(ateom.calls().len(), 2, "no restore was asked for");
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_restored_crashes_its_actor_and_one_that_cannot_boot_does_not() {
    let (rig, ateom) = Rig::start().await;
    ateom.fail_next(Status::internal("runsc run failed"));
    let status = rig.run(a1(1)).await.unwrap_err();
    assert_eq!(
        (status.code(), reasons(&status)),
        (Code::Internal, vec![Reason::OperationFailed])
    );
    assert!(
        status.message().contains("worker uid-1: runsc run failed"),
        "{status:?}"
    );

    rig.run(a1(2)).await.unwrap();
    rig.checkpoint(a1(3), SNAPSHOT).await.unwrap();
    ateom.fail_next(Status::internal("runsc restore failed"));
    assert_crash(&rig.restore(a1(4), SNAPSHOT).await.unwrap_err());
    rig.restore(a1(5), SNAPSHOT).await.unwrap();
}

#[tokio::test]
async fn file_names_from_ateom_lead_nowhere() {
    let (rig, ateom) = Rig::start().await;
    std::fs::write(rig.path("base/secret"), "hunter2").unwrap();
    for (op, files) in [(1, &["../../../secret"][..]), (3, &["/etc/passwd"]), (5, &[])] {
        rig.run(a1(op)).await.unwrap();
        ateom.report_files(files);
        assert_crash(&rig.checkpoint(a1(op + 1), SNAPSHOT).await.unwrap_err());
    }
    let stored = std::fs::read_dir(rig.path("objects/bucket")).unwrap();
    assert_eq!(stored.count(), 0);
}

#[tokio::test]
async fn the_end_of_a_sandbox_or_of_its_ateom_is_reported() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_some()))
        .await;
    ateom.lose_sandbox();
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_none()))
        .await;
    let gone = rig.checkpoint(a1(2), SNAPSHOT).await.unwrap_err();
    assert_eq!(
        (gone.code(), reasons(&gone)),
        (Code::DataLoss, vec![Reason::SandboxGone])
    );

    ateom.kill();
    rig.reported("uid-1", |w| w.is_none()).await;
    // No order from before it was lost is let in again; the next row of the pod begins above them.
    let late = rig.run(a1(3)).await.unwrap_err();
    assert_eq!(
        (late.code(), reasons(&late)),
        (
            Code::FailedPrecondition,
            vec![Reason::StaleFence {
                of: Fenced::Worker,
                highest: Fence(1 << 48)
            }]
        )
    );
    let status = rig.run(a1(1 << 49)).await.unwrap_err();
    assert_eq!(
        (status.code(), reasons(&status)),
        (Code::NotFound, vec![Reason::SandboxGone])
    );
}

#[tokio::test]
async fn stopping_ends_what_runs_and_what_is_about_to() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.stop(a1(2)).await.unwrap();
    rig.stop(a1(3)).await.unwrap();
    assert_eq!(ateom.hosts(), None);
    gone(&rig.path("base/actors/team-a/ns:counter:a1/bundles/main")).await;

    ateom.open(false);
    let overtaken = async {
        ateom.asked(called("run", 4)).await;
        futures_util::join!(rig.stop(a1(5)), async {
            ateom.asked(called("stop", 5)).await;
            ateom.open(true);
        })
        .0
        .unwrap();
    };
    let (booted, ()) = futures_util::join!(rig.run(a1(4)), overtaken);
    assert_eq!(booted.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn what_is_left_of_a_sandbox_is_ended_before_its_directories_are_emptied() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    ateom.leave_remains();
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_none()))
        .await;
    rig.run(a1(2)).await.unwrap();
    assert_eq!(
        ateom.calls(),
        [called("run", 1), called("stop", 2), called("run", 2)]
    );
}

#[tokio::test]
async fn a_node_that_lost_its_journal_knows_from_ateom_that_the_worker_is_not_free() {
    let (mut rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.kill_node().await;
    std::fs::remove_file(rig.path("base/journal.redb")).unwrap();
    rig.start_node().await;
    let report = rig
        .reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_some()))
        .await;
    assert_eq!(report.workers[0].hosted.as_ref().unwrap().atespace, "");
    let other = Actor { name: "a2", ..a1(2) };
    let status = rig.run(other).await.unwrap_err();
    assert_eq!(
        (status.code(), reasons(&status)),
        (Code::FailedPrecondition, vec![Reason::Occupied])
    );
    rig.run(a1(1)).await.unwrap();
    assert_eq!(ateom.calls(), [called("run", 1)]);
}

#[tokio::test]
async fn a_worker_that_went_away_while_nobody_looked_is_reported_gone() {
    let (mut rig, ateom) = Rig::start().await;
    let second = FakeAteom::start(&rig.path("base"), "uid-2").await;
    rig.reported("uid-2", |w| w.is_some()).await;
    let a2 = Actor {
        worker: "uid-2",
        name: "a2",
        ..a1(1)
    };
    rig.run(a1(1)).await.unwrap();
    rig.run(a2).await.unwrap();
    rig.kill_node().await;
    second.kill();
    std::fs::remove_dir_all(rig.path("base/ateoms/uid-2")).unwrap();
    rig.start_node().await;
    let report = rig.reported("uid-2", |w| w.is_none()).await;
    assert!(
        report.workers[0].hosted.is_some(),
        "the other is still there: {report:?}"
    );
    assert_eq!(ateom.calls(), [called("run", 1)]);
}

#[tokio::test]
async fn a_node_that_is_asked_to_stop_finishes_what_it_has_begun() {
    let (mut rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    ateom.open(false);
    let shutdown = rig.shutdown.clone();
    let (checkpointed, ()) = futures_util::join!(rig.checkpoint(a1(2), SNAPSHOT), async {
        ateom.asked(called("checkpoint", 2)).await;
        shutdown.trigger();
        ateom.open(true);
    });
    checkpointed.unwrap();
    rig.stopped().await.unwrap();
    assert_eq!(rig.manifest(SNAPSHOT).await.files.len(), 1);
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_none()))
        .await;
    let status = rig.run(a1(3)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn secrets_of_a_request_are_written_to_the_bundle_and_nowhere_else() {
    let (mut rig, _ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.kill_node().await;
    let bundle =
        std::fs::read_to_string(rig.path("base/actors/team-a/ns:counter:a1/bundles/main/config.json"))
            .unwrap();
    assert!(bundle.contains("TOKEN=hunter2"));
    let journal = std::fs::read(rig.path("base/journal.redb")).unwrap();
    assert!(!journal.windows(7).any(|window| window == b"hunter2"));
}

#[tokio::test]
async fn an_image_that_is_not_there_fails_the_boot_with_its_name() {
    let (rig, ateom) = Rig::start().await;
    let mut request = rig.run_request(a1(1));
    request.spec.as_mut().unwrap().containers[0].image = "oci:/no/such/layout".into();
    let status = rig.herder().run(a1(1).signed(request)).await.unwrap_err();
    assert_eq!(
        (status.code(), reasons(&status)),
        (Code::FailedPrecondition, vec![Reason::OperationFailed])
    );
    assert!(status.message().contains("/no/such/layout"), "{status:?}");
    assert_eq!(ateom.calls(), Vec::<String>::new());
    rig.run(a1(2)).await.unwrap();
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_a_clear_error() {
    let (mut rig, _ateom) = Rig::start().await;
    rig.kill_node().await;
    let journal = rig.path("base/journal.redb");
    std::fs::write(&journal, "garbage").unwrap();
    let config = rig.config();
    let clock = std::sync::Arc::new(holdfast_runtime::clock::SystemClock);
    let error = holdfast_node::run(config, clock, rig.shutdown.clone())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(&journal.display().to_string()),
        "{error}"
    );
}
