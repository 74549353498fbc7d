//! For how long an actor may run, enforced by its worker with nobody around to tell it.

use super::*;
use holdfast_core::time::Instant;
use holdfast_rpc::holdfast_v1::ExtendWorkloadRequest;
use holdfast_runtime::clock::Clock;

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(3600);
/// Over before long.
const SHORT: Duration = Duration::from_millis(200);

fn now() -> Instant {
    SystemClock.now()
}

/// The same request, for an actor that may run until then.
fn until<T>(at: Instant, mut request: Request<T>) -> Request<T> {
    let mut credentials = Credentials::read(request.metadata()).unwrap();
    credentials.until = Some(at);
    credentials.write(request.metadata_mut()).unwrap();
    request
}

fn extend(at: Instant) -> ExtendWorkloadRequest {
    ExtendWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "t".into(),
        actor_id: "a".into(),
        until_us: at.as_micros(),
    }
}

fn thaw(at: Instant) -> ThawWorkloadRequest {
    ThawWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "t".into(),
        actor_id: "a".into(),
        until_us: Some(at.as_micros()),
    }
}

/// Waits until the worker says this of its sandbox.
async fn says(worker: &Worker, wanted: SandboxState) {
    let mut control = worker.control().await;
    let mut states = control.watch(WatchRequest {}).await.unwrap().into_inner();
    while state(&states.message().await.unwrap().expect("the worker is there")) != Some(wanted) {}
}

/// Whether a process is stopped, as `/proc` has it.
fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.starts_with('T')
}

/// A worker whose actor was booted to run until then, and the directories of that.
async fn booted(at: Instant) -> (Worker, ActorDirs) {
    let worker = Worker::start(None).await;
    let dirs = worker.prepare("a", COUNT);
    let request = until(at, run_request(1, "a"));
    worker.ateom().await.run_workload(request).await.unwrap();
    (worker, dirs)
}

#[tokio::test]
async fn a_worker_that_nobody_talks_to_holds_its_actor_still_when_its_time_is_over() {
    let (worker, dirs) = booted(now().plus(SHORT)).await;
    let pid = pid(&dirs).await;
    says(&worker, SandboxState::Frozen).await;
    // A signal is obeyed when its receiver is scheduled.
    while !is_stopped(pid) {
        tokio::task::yield_now().await;
    }

    let mut control = worker.control().await;
    control.extend(extend(now().plus(LONG))).await.unwrap();
    control.thaw(thaw(now())).await.unwrap();
    let described = worker.describe().await;
    assert_eq!(state(&described), Some(SandboxState::Frozen));
    assert!(
        is_stopped(pid),
        "more time does not thaw it, nor does a thaw that comes too late"
    );

    control.thaw(thaw(now().plus(LONG))).await.unwrap();
    assert_eq!(state(&worker.describe().await), Some(SandboxState::Running));
    while is_stopped(pid) {
        tokio::task::yield_now().await;
    }
    assert_eq!(described.last_operation_id, op(1).to_string());
    worker.stop().await;
}

#[tokio::test]
async fn what_is_extended_in_time_ends_later() {
    let (worker, dirs) = booted(now().plus(LONG)).await;
    let mut control = worker.control().await;
    // A later word never shortens an earlier one.
    control.extend(extend(now().plus(SHORT))).await.unwrap();
    control.thaw(thaw(now())).await.unwrap();
    assert_eq!(state(&worker.describe().await), Some(SandboxState::Running));
    assert!(!is_stopped(pid(&dirs).await));
    worker.stop().await;
}

#[tokio::test]
async fn what_nothing_bounds_gets_its_bound_from_the_first_word() {
    let worker = Worker::start(None).await;
    worker.prepare("a", COUNT);
    worker
        .ateom()
        .await
        .run_workload(run_request(1, "a"))
        .await
        .unwrap();
    let mut control = worker.control().await;
    control.extend(extend(now().plus(SHORT))).await.unwrap();
    says(&worker, SandboxState::Frozen).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_boot_that_ends_too_late_is_frozen_when_it_is_told_and_can_be_checkpointed_or_stopped() {
    for is_checkpointed in [true, false] {
        let (worker, _) = booted(now()).await;
        assert_eq!(state(&worker.describe().await), Some(SandboxState::Frozen));
        if is_checkpointed {
            let request = checkpoint_request(2, "a", SnapshotScope::Data);
            let answer = worker.ateom().await.checkpoint_workload(request).await.unwrap();
            let files = answer.into_inner().snapshot_files;
            assert_eq!(files, [holdfast_sandbox::DURABLE_DIR_ARCHIVE]);
        } else {
            worker.control().await.stop(stop_request("a")).await.unwrap();
        }
        assert_eq!(state(&worker.describe().await), None);

        // The next actor has a time of its own.
        worker.prepare("a", COUNT);
        worker
            .ateom()
            .await
            .run_workload(run_request(3, "a"))
            .await
            .unwrap();
        assert_eq!(state(&worker.describe().await), Some(SandboxState::Running));
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_fails_leaves_a_frozen_actor_frozen() {
    let (worker, _) = booted(now()).await;
    let request = checkpoint_request(2, "a", SnapshotScope::Full);
    let full = worker.ateom().await.checkpoint_workload(request).await;
    assert_eq!(full.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(state(&worker.describe().await), Some(SandboxState::Frozen));
    worker.stop().await;
}
