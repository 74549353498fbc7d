//! A worker that is told to stop while it hosts an actor.

use super::*;

use holdfast_rpc::ateom::CheckpointWorkloadResponse;

/// A worker with a running actor, which has been told to stop.
struct Drained {
    worker: Worker,
    process: i32,
    hurry: Shutdown,
}

impl Drained {
    async fn begin(limit: Duration) -> Self {
        let base = Arc::new(tempfile::tempdir().unwrap());
        let hurry = Shutdown::new();
        let worker = Worker::start_with(base, |config| {
            config.drain_timeout = limit;
            config.hurry = hurry.clone();
        });
        let dirs = worker.prepare("a", COUNT);
        let mut ateom = worker.ateom().await;
        ateom.run_workload(run_request(1, "a")).await.unwrap();
        let process = pid(&dirs).await;
        worker.shutdown.trigger();
        Self {
            worker,
            process,
            hurry,
        }
    }

    /// Returns as soon as the worker says that it is draining.
    async fn is_told(&self) {
        let mut control = self.worker.control().await;
        let mut states = control.watch(WatchRequest {}).await.unwrap().into_inner();
        while !states.message().await.unwrap().unwrap().draining {}
    }
}

const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_worker_told_to_stop_says_so_and_goes_on_until_its_actor_has_been_put_to_sleep() {
    let drained = Drained::begin(FOR_EVER).await;
    drained.is_told().await;
    assert!(is_alive(drained.process));
    assert_eq!(
        state(&drained.worker.describe().await),
        Some(SandboxState::Running)
    );

    let mut ateom = drained.worker.ateom().await;
    let files = ateom.checkpoint_workload(checkpoint_request(2, "a", SnapshotScope::Data));
    let CheckpointWorkloadResponse { snapshot_files } = files.await.unwrap().into_inner();
    assert!(!snapshot_files.is_empty(), "the answer comes, also while it ends");
    let socket = drained.worker.socket();
    drained.worker.running.await.unwrap().unwrap();
    assert!(!is_alive(drained.process) && !socket.exists());
}

#[tokio::test]
async fn a_worker_told_to_stop_takes_no_other_actor_and_repeats_what_it_has_done() {
    let drained = Drained::begin(FOR_EVER).await;
    drained.is_told().await;
    let mut ateom = drained.worker.ateom().await;
    ateom.run_workload(run_request(1, "a")).await.unwrap();
    drained.worker.prepare("b", COUNT);
    // The first actor is in the way; once that has gone, the worker's end is.
    let refused = ateom.run_workload(run_request(2, "b")).await.unwrap_err();
    assert_eq!(reasons(&refused), [Reason::Occupied]);
    let mut control = drained.worker.control().await;
    control.stop(stop_request("a")).await.unwrap();
    drained.worker.running.await.unwrap().unwrap();
    let status = ateom.run_workload(run_request(3, "b")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_worker_whose_actor_nobody_puts_to_sleep_ends_when_time_is_up_or_when_told_again() {
    let drained = Drained::begin(Duration::from_millis(50)).await;
    drained.worker.running.await.unwrap().unwrap();
    assert!(!is_alive(drained.process));

    let drained = Drained::begin(FOR_EVER).await;
    drained.is_told().await;
    assert!(is_alive(drained.process));
    drained.hurry.trigger();
    drained.worker.running.await.unwrap().unwrap();
    assert!(!is_alive(drained.process));
}

#[tokio::test]
async fn a_free_worker_told_to_stop_waits_for_nothing() {
    let base = Arc::new(tempfile::tempdir().unwrap());
    let worker = Worker::start_with(base, |config| config.drain_timeout = FOR_EVER);
    worker.describe().await;
    worker.shutdown.trigger();
    worker.running.await.unwrap().unwrap();
}
