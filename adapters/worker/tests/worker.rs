//! A worker as the node daemon sees it: over its socket, with plain processes for actors.

#[path = "worker/drain.rs"]
mod drain;
#[path = "worker/licence.rs"]
mod licence;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_rpc::ateom::ateom_client::AteomClient;
use holdfast_rpc::ateom::{
    CheckpointWorkloadRequest, Container, RestoreWorkloadRequest, RunWorkloadRequest, SnapshotScope,
    WorkloadSpec,
};
use holdfast_rpc::holdfast_v1::worker_control_client::WorkerControlClient;
use holdfast_rpc::holdfast_v1::{
    DescribeRequest, FreezeWorkloadRequest, SandboxState, StopWorkloadRequest, ThawWorkloadRequest,
    WatchRequest, WorkerState,
};
use holdfast_rpc::metadata::Credentials;
use holdfast_rpc::status::{Reason, reasons};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Channel, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_sandbox::bundle::{ContainerConfig, write_container};
use holdfast_sandbox::layout::{ActorDirs, Layout};
use holdfast_sandbox::names::{ActorRef, Label};
use holdfast_worker::{Class, Config, WorkerError, run};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status};

/// Counts its starts in a file, says that it did, and stays.
const COUNT: &str = "n=0; read n < count; n=$((n+1)); echo $n > count; echo $$ > pid; echo started $n; \
                     exec /bin/sleep 1000";

struct Worker {
    config: Config,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), WorkerError>>,
    layout: Layout,
    log: Arc<Mutex<Vec<u8>>>,
    base: Arc<tempfile::TempDir>,
}

impl Worker {
    async fn start(idle_exit: Option<Duration>) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), "pod-1", idle_exit).await
    }

    async fn start_in(base: Arc<tempfile::TempDir>, uid: &str, idle_exit: Option<Duration>) -> Self {
        Self::start_with(base, |config| {
            config.pod_uid = uid.into();
            config.idle_exit = idle_exit;
        })
    }

    fn start_with(base: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Config)) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut config = Config {
            pod_uid: "pod-1".into(),
            base_dir: base.path().to_owned(),
            class: Class::Process {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            },
            idle_exit: None,
            drain_timeout: Duration::ZERO,
            hurry: Shutdown::new(),
            actor_log: log.clone(),
            tracer: Default::default(),
        };
        change(&mut config);
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run(config.clone(), Arc::new(SystemClock), shutdown.clone()));
        Self {
            layout: Layout::new(base.path()),
            config,
            shutdown,
            running,
            log,
            base,
        }
    }

    fn socket(&self) -> PathBuf {
        self.layout
            .worker_socket(&Label::parse("pod UID", &self.config.pod_uid).unwrap())
    }

    async fn channel(&self) -> Channel {
        while !self.socket().exists() && !self.running.is_finished() {
            tokio::task::yield_now().await;
        }
        Channel::new(Address::Unix(self.socket()), Transport::default())
    }

    async fn ateom(&self) -> AteomClient<Channel> {
        AteomClient::new(self.channel().await)
    }

    async fn control(&self) -> WorkerControlClient<Channel> {
        WorkerControlClient::new(self.channel().await)
    }

    async fn describe(&self) -> WorkerState {
        self.control()
            .await
            .describe(DescribeRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    /// Prepares an actor whose image holds the machine's own shell, and runs `script`.
    fn prepare(&self, actor: &str, script: &str) -> ActorDirs {
        self.prepare_in(None, actor, script)
    }

    fn prepare_in(&self, atespace: Option<&str>, actor: &str, script: &str) -> ActorDirs {
        let actor = ActorRef::parse("ns", "t", actor).unwrap().within(atespace);
        let dirs = self.layout.actor(&actor.unwrap());
        dirs.reset().unwrap();
        let rootfs = dirs.rootfs("main");
        fs::create_dir_all(rootfs.join("usr/bin")).unwrap();
        fs::copy(fs::canonicalize("/bin/sh").unwrap(), rootfs.join("usr/bin/sh")).unwrap();
        symlink("usr/bin", rootfs.join("bin")).unwrap();
        let config = ContainerConfig {
            name: Label::container("main").unwrap(),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![],
            durable_mounts: vec![(Label::parse("volume", "data").unwrap(), "/data".into())],
        };
        write_container(&dirs, Path::new("/none"), &config).unwrap();
        dirs
    }

    fn events(&self) -> Vec<String> {
        let text = String::from_utf8(self.log.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter_map(|line| Some(line.split_once("\"message\":\"")?.1.split('"').next()?.to_owned()))
            .collect()
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.running.await.unwrap().unwrap();
        assert_eq!(
            fs::read_dir(self.base.path().join("ateoms").join(&self.config.pod_uid))
                .unwrap()
                .count(),
            0
        );
    }
}

fn spec() -> Option<WorkloadSpec> {
    let main = Container {
        name: "main".into(),
        readyz: None,
        durable_dir_volumes: vec!["/data".into()],
    };
    Some(WorkloadSpec {
        containers: vec![main],
    })
}

/// A request as a node daemon with operation ids sends it; `seq` 0 sends none.
fn ordered<T>(seq: u64, body: T) -> Request<T> {
    let mut request = Request::new(body);
    if seq > 0 {
        let operation = Some(op(seq));
        Credentials {
            operation,
            ..Credentials::default()
        }
        .write(request.metadata_mut())
        .unwrap();
    }
    request
}

/// The same request, about the actor of that name in `atespace`.
fn within<T>(atespace: &str, mut request: Request<T>) -> Request<T> {
    let mut credentials = Credentials::read(request.metadata()).unwrap();
    credentials.atespace = Some(atespace.into());
    credentials.write(request.metadata_mut()).unwrap();
    request
}

fn op(seq: u64) -> holdfast_core::id::OpId {
    holdfast_core::id::OpId {
        replica: holdfast_core::id::ReplicaId(1),
        seq,
    }
}

fn run_request(seq: u64, actor: &str) -> Request<RunWorkloadRequest> {
    let (actor_template_namespace, actor_template_name) = ("ns".into(), "t".into());
    let actor_id = actor.into();
    ordered(
        seq,
        RunWorkloadRequest {
            actor_template_namespace,
            actor_template_name,
            actor_id,
            spec: spec(),
            ..Default::default()
        },
    )
}

fn restore_request(seq: u64, actor: &str, scope: SnapshotScope) -> Request<RestoreWorkloadRequest> {
    ordered(
        seq,
        RestoreWorkloadRequest {
            actor_template_namespace: "ns".into(),
            actor_template_name: "t".into(),
            actor_id: actor.into(),
            spec: spec(),
            scope: scope.into(),
            ..Default::default()
        },
    )
}

fn checkpoint_request(seq: u64, actor: &str, scope: SnapshotScope) -> Request<CheckpointWorkloadRequest> {
    ordered(
        seq,
        CheckpointWorkloadRequest {
            actor_template_namespace: "ns".into(),
            actor_template_name: "t".into(),
            actor_id: actor.into(),
            spec: spec(),
            scope: scope.into(),
            ..Default::default()
        },
    )
}

fn stop_request(actor: &str) -> StopWorkloadRequest {
    StopWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "t".into(),
        actor_id: actor.into(),
    }
}

/// The text of a file, as soon as it holds a whole line.
async fn line(path: PathBuf) -> String {
    loop {
        match fs::read_to_string(&path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::task::yield_now().await,
        }
    }
}

async fn pid(dirs: &ActorDirs) -> i32 {
    line(dirs.durable_dirs().join("data/pid")).await.parse().unwrap()
}

/// Neither gone nor a zombie. (Its command line says nothing: in the middle of an exec it is empty.)
fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

fn state(state: &WorkerState) -> Option<SandboxState> {
    state.hosted.as_ref().map(|hosted| hosted.state())
}

#[tokio::test]
async fn an_actor_runs_is_checkpointed_and_goes_on_from_its_data() {
    let worker = Worker::start(None).await;
    let mut ateom = worker.ateom().await;
    let dirs = worker.prepare("a", COUNT);
    ateom.run_workload(run_request(1, "a")).await.unwrap();
    let described = worker.describe().await;
    assert_eq!(state(&described), Some(SandboxState::Running));
    assert_eq!(described.hosted.unwrap().actor_id, "a");
    assert_eq!(described.last_operation_id, op(1).to_string());
    let first = pid(&dirs).await;

    let full = ateom
        .checkpoint_workload(checkpoint_request(2, "a", SnapshotScope::Full))
        .await
        .unwrap_err();
    assert_eq!(
        (full.code(), reasons(&full)),
        (Code::FailedPrecondition, vec![Reason::OperationFailed])
    );
    assert!(
        full.message().contains("set onPause and onCommit to Data"),
        "{full}"
    );
    assert_eq!(state(&worker.describe().await), Some(SandboxState::Running));

    let answer = ateom
        .checkpoint_workload(checkpoint_request(3, "a", SnapshotScope::Data))
        .await
        .unwrap();
    let files = answer.into_inner().snapshot_files;
    assert_eq!(files, [holdfast_sandbox::DURABLE_DIR_ARCHIVE]);
    assert!(!is_alive(first));
    assert_eq!(state(&worker.describe().await), None);
    let again = ateom
        .checkpoint_workload(checkpoint_request(3, "a", SnapshotScope::Data))
        .await
        .unwrap();
    assert_eq!(
        again.into_inner().snapshot_files,
        files,
        "the same operation has the same result"
    );

    let kept = worker.base.path().join("kept");
    fs::rename(dirs.checkpoint_state(), &kept).unwrap();
    worker.prepare("a", COUNT);
    fs::remove_dir(dirs.restore_state()).unwrap();
    fs::rename(kept, dirs.restore_state()).unwrap();
    ateom
        .restore_workload(restore_request(4, "a", SnapshotScope::Data))
        .await
        .unwrap();
    while line(dirs.durable_dirs().join("data/count")).await != "2" {
        tokio::task::yield_now().await;
    }
    let second = pid(&dirs).await;
    let lost = ateom
        .checkpoint_workload(checkpoint_request(5, "b", SnapshotScope::Data))
        .await
        .unwrap_err();
    assert_eq!(
        (lost.code(), reasons(&lost)),
        (Code::DataLoss, vec![Reason::SandboxGone])
    );
    while !worker.events().iter().any(|event| event == "started 2") {
        tokio::task::yield_now().await;
    }
    let events = worker.events();
    for expected in [
        "Actor starting",
        "Actor started",
        "Actor checkpointing",
        "Actor checkpointed",
        "Actor restored",
    ] {
        assert!(
            events.iter().any(|event| event == expected),
            "{expected}: {events:?}"
        );
    }
    worker.stop().await;
    assert!(!is_alive(second));
}

#[tokio::test]
async fn who_repeats_an_operation_joins_it_and_who_brings_another_actor_is_refused() {
    let worker = Worker::start(None).await;
    let (mut one, mut two) = (worker.ateom().await, worker.ateom().await);
    let dirs = worker.prepare("a", COUNT);
    let (first, second) = tokio::join!(
        one.run_workload(run_request(1, "a")),
        two.run_workload(run_request(1, "a"))
    );
    assert!(first.is_ok() && second.is_ok());
    one.run_workload(run_request(1, "a")).await.unwrap();
    let process = pid(&dirs).await;
    assert_eq!(
        line(dirs.durable_dirs().join("data/count")).await,
        "1",
        "it was started once"
    );

    worker.prepare("b", COUNT);
    for refused in [run_request(2, "b"), run_request(2, "a")] {
        let refused = one.run_workload(refused).await.unwrap_err();
        assert_eq!(reasons(&refused), [Reason::Occupied], "{refused}");
    }
    assert!(is_alive(process));
    let mut control = worker.control().await;
    control.stop(stop_request("b")).await.unwrap();
    assert!(is_alive(process), "that was not its name");
    control.stop(stop_request("a")).await.unwrap();
    control.stop(stop_request("a")).await.unwrap();
    assert!(!is_alive(process));
    one.run_workload(run_request(2, "b")).await.unwrap();
    worker.stop().await;
}

#[tokio::test]
async fn namesakes_of_two_atespaces_run_side_by_side_and_neither_passes_for_the_other() {
    let one = Worker::start(None).await;
    let two = Worker::start_in(one.base.clone(), "pod-2", None).await;
    let (mut first, mut second) = (one.ateom().await, two.ateom().await);
    let (a, b) = (
        one.prepare_in(Some("team-a"), "x", COUNT),
        two.prepare_in(Some("team-b"), "x", COUNT),
    );
    let run = |atespace| within(atespace, run_request(1, "x"));
    first.run_workload(run("team-a")).await.unwrap();
    second.run_workload(run("team-b")).await.unwrap();
    let (of_a, of_b) = (pid(&a).await, pid(&b).await);
    assert_eq!(two.describe().await.hosted.unwrap().atespace, "team-b");

    for stranger in [run("team-b"), run_request(1, "x")] {
        let refused = first.run_workload(stranger).await.unwrap_err();
        assert_eq!(reasons(&refused), [Reason::Occupied], "{refused}");
    }
    let stranger = within("team-b", checkpoint_request(2, "x", SnapshotScope::Data));
    let refused = first.checkpoint_workload(stranger).await.unwrap_err();
    assert_eq!(reasons(&refused), [Reason::SandboxGone], "{refused}");
    let mut control = one.control().await;
    for stranger in [
        within("team-b", Request::new(stop_request("x"))),
        Request::new(stop_request("x")),
    ] {
        control.stop(stranger).await.unwrap();
    }
    assert!(is_alive(of_a), "none of that was about it");

    let checkpoint = within("team-a", checkpoint_request(3, "x", SnapshotScope::Data));
    first.checkpoint_workload(checkpoint).await.unwrap();
    assert!(!is_alive(of_a) && is_alive(of_b));
    fs::remove_dir(a.restore_state()).unwrap();
    fs::rename(a.checkpoint_state(), a.restore_state()).unwrap();
    fs::remove_dir_all(a.durable_dirs()).unwrap();
    let restore = within("team-a", restore_request(4, "x", SnapshotScope::Data));
    first.restore_workload(restore).await.unwrap();
    while line(a.durable_dirs().join("data/count")).await != "2" {
        tokio::task::yield_now().await;
    }
    assert_eq!(line(b.durable_dirs().join("data/count")).await, "1");
    assert!(is_alive(of_b));
    one.stop().await;
    assert!(is_alive(of_b), "a worker that stops ends its own");
    two.stop().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_undo_its_operation() {
    let worker = Worker::start(None).await;
    let mut ateom = worker.ateom().await;
    let dirs = worker.prepare("a", COUNT);
    let call = tokio::spawn(async move { ateom.run_workload(run_request(1, "a")).await });
    while worker.describe().await.last_operation_id.is_empty() {}
    call.abort();
    let process = pid(&dirs).await;
    while state(&worker.describe().await) != Some(SandboxState::Running) {}
    assert!(is_alive(process));
    worker.stop().await;
}

#[tokio::test]
async fn the_death_of_an_actor_is_told_to_those_who_watch() {
    let worker = Worker::start(None).await;
    let mut ateom = worker.ateom().await;
    let dirs = worker.prepare("a", COUNT);
    ateom.run_workload(run_request(1, "a")).await.unwrap();
    let process = pid(&dirs).await;
    let mut states = worker
        .control()
        .await
        .watch(WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        state(&states.message().await.unwrap().unwrap()),
        Some(SandboxState::Running)
    );

    let raw = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    let mut told = states.message().await.unwrap().unwrap();
    assert!(told.exit_cause.contains("signal: 9"), "{told:?}");
    while told.hosted.is_some() {
        assert_eq!(state(&told), Some(SandboxState::Stopped));
        told = states.message().await.unwrap().unwrap();
    }
    assert!(
        told.exit_cause.contains("signal: 9"),
        "the cause outlives what it ended"
    );
    worker.prepare("a", COUNT);
    ateom.run_workload(run_request(2, "a")).await.unwrap();
    assert_eq!(worker.describe().await.exit_cause, "");
    worker.stop().await;
    assert!(
        states.message().await.is_ok(),
        "a watch ends with the worker, without an error"
    );
}

#[tokio::test]
async fn a_frozen_actor_says_so_until_it_is_thawed() {
    let worker = Worker::start(None).await;
    worker.prepare("a", COUNT);
    worker
        .ateom()
        .await
        .run_workload(run_request(1, "a"))
        .await
        .unwrap();
    let mut control = worker.control().await;
    let freeze = FreezeWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "t".into(),
        actor_id: "a".into(),
    };
    let thaw = ThawWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "t".into(),
        actor_id: "a".into(),
        until_us: None,
    };
    control.freeze(freeze.clone()).await.unwrap();
    control.freeze(freeze.clone()).await.unwrap();
    assert_eq!(state(&worker.describe().await), Some(SandboxState::Frozen));
    control.thaw(thaw.clone()).await.unwrap();
    assert_eq!(state(&worker.describe().await), Some(SandboxState::Running));
    control.stop(stop_request("a")).await.unwrap();
    let gone: Vec<Status> = vec![
        control.freeze(freeze).await.unwrap_err(),
        control.thaw(thaw).await.unwrap_err(),
    ];
    assert!(
        gone.iter().all(|status| reasons(status) == [Reason::SandboxGone]),
        "{gone:?}"
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_new_incarnation_ends_what_the_old_one_left_running() {
    let worker = Worker::start(None).await;
    let dirs = worker.prepare("a", COUNT);
    worker
        .ateom()
        .await
        .run_workload(run_request(1, "a"))
        .await
        .unwrap();
    let before = worker.describe().await.ateom_incarnation;
    let process = pid(&dirs).await;
    // As if it had been killed: nothing of its own clearing up runs.
    worker.running.abort();
    let _ = (&mut { worker.running }).await;
    assert!(is_alive(process));

    let shutdown = Shutdown::new();
    let running = tokio::spawn(run(
        worker.config.clone(),
        Arc::new(SystemClock),
        shutdown.clone(),
    ));
    let socket = worker
        .layout
        .worker_socket(&Label::parse("pod UID", "pod-1").unwrap());
    let channel = Channel::new(Address::Unix(socket), Transport::default());
    let described = loop {
        let mut control = WorkerControlClient::new(channel.clone());
        match control.describe(DescribeRequest {}).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) if status.code() == Code::Unavailable => tokio::task::yield_now().await,
            Err(status) => panic!("{status}"),
        }
    };
    assert_ne!(described.ateom_incarnation, before);
    assert_eq!(state(&described), None);
    assert!(!is_alive(process));
    shutdown.trigger();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_nobody_calls_ends_and_takes_its_actor_with_it() {
    let worker = Worker::start(Some(Duration::from_secs(1))).await;
    let dirs = worker.prepare("a", COUNT);
    worker
        .ateom()
        .await
        .run_workload(run_request(1, "a"))
        .await
        .unwrap();
    let process = pid(&dirs).await;
    let socket = worker.socket();
    worker.running.await.unwrap().unwrap();
    assert!(!is_alive(process) && !socket.exists());
}

#[tokio::test]
async fn a_worker_that_cannot_start_says_what_to_change() {
    let log: Arc<Mutex<Vec<u8>>> = Arc::default();
    let base = tempfile::tempdir().unwrap();
    let config = Config {
        pod_uid: "../pod".into(),
        base_dir: base.path().to_owned(),
        class: Class::Process {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        },
        idle_exit: None,
        drain_timeout: Duration::ZERO,
        hurry: Shutdown::new(),
        actor_log: log,
        tracer: Default::default(),
    };
    let start = |config| run(config, Arc::new(SystemClock), Shutdown::new());
    let error = start(config.clone()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("--pod-uid: invalid pod UID \"../pod\""),
        "{error}"
    );
    let long = Config {
        pod_uid: "p".into(),
        base_dir: base.path().join("x".repeat(100)),
        ..config
    };
    let error = start(long).await.unwrap_err();
    assert!(
        matches!(&error, WorkerError::Bind(_)) && error.to_string().contains("107 bytes"),
        "{error}"
    );
}
