//! A worker in a pod of its own, with gVisor for its actors. Needs root, runsc and nft.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_rpc::ateom::ateom_client::AteomClient;
use holdfast_rpc::ateom::{
    CheckpointWorkloadRequest, Container, HttpGetAction, Readyz, RestoreWorkloadRequest, RunWorkloadRequest,
    SnapshotScope, WorkloadSpec,
};
use holdfast_rpc::holdfast_v1::WatchRequest;
use holdfast_rpc::holdfast_v1::worker_control_client::WorkerControlClient;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Channel, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_sandbox::bundle::{ContainerConfig, write_container, write_identity, write_pause};
use holdfast_sandbox::layout::{ActorDirs, Layout};
use holdfast_sandbox::names::{ActorRef, Label, PAUSE};
use holdfast_sandbox::network::{Pod, Subnet, interior_netns};
use holdfast_tests::workloads::Workload;
use holdfast_worker::{Class, Config, Network, run};
use rustix::process::{Pid, Signal, geteuid, kill_process};

const RUNSC: &str = "/usr/bin/runsc";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Addresses set aside for tests of networks (RFC 2544), apart from those of the sandbox tests.
const SUBNETS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);

fn spec() -> Option<WorkloadSpec> {
    let http_get = Some(HttpGetAction {
        path: String::new(),
        port: 80,
    });
    let main = Container {
        name: "main".into(),
        readyz: Some(Readyz { http_get }),
        durable_dir_volumes: vec![],
    };
    Some(WorkloadSpec {
        containers: vec![main],
    })
}

fn prepare(layout: &Layout, uid: &Label) -> ActorDirs {
    let actor = ActorRef::parse("ns", "counter", "a").unwrap();
    let dirs = layout.actor(&actor);
    dirs.reset().unwrap();
    for (container, program, file) in [
        (PAUSE, Workload::Pause, "pause"),
        ("main", Workload::Counter, "counter"),
    ] {
        fs::create_dir_all(dirs.rootfs(container)).unwrap();
        fs::copy(program.build().unwrap(), dirs.rootfs(container).join(file)).unwrap();
    }
    let netns = interior_netns(uid);
    write_identity(&dirs, &actor).unwrap();
    write_pause(&dirs, &netns, &[]).unwrap();
    let config = ContainerConfig {
        name: Label::container("main").unwrap(),
        command: vec!["/counter".into()],
        env: vec![],
        durable_mounts: vec![],
    };
    write_container(&dirs, &netns, &config).unwrap();
    dirs
}

/// Counts once, from the machine, through the pod's address.
async fn count(pod: Ipv4Addr) -> (u64, String) {
    let body = tokio::task::spawn_blocking(move || {
        let answer = holdfast_tests::http::get((pod, 80).into(), "a", "/", ANSWER_WITHIN).unwrap();
        assert_eq!(answer.status, 200);
        answer.json().unwrap()
    });
    let body = body.await.unwrap();
    (
        body["count"].as_u64().unwrap(),
        body["nonce"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn a_worker_in_its_pod_serves_suspends_and_resumes_an_actor_and_leaves_nothing() {
    in_a_pod(0, async |layout, uid, pod| drive(layout, uid, pod).await);
    let left = fs::read_to_string("/proc/net/dev").unwrap();
    assert!(!left.contains("hf-workertest0"), "{left}");
}

/// Runs a worker in pod number `index`, and `drive` beside it.
fn in_a_pod(index: u16, drive: impl AsyncFnOnce(&Layout, &Label, Ipv4Addr)) {
    let setup = "this test needs root, runsc and nft: run `cargo xtask setup`, then test as root";
    assert!(geteuid().is_root() && Path::new(RUNSC).exists(), "{setup}");
    // Before the reaper starts: cargo is not one of its children.
    Workload::Counter.build().unwrap();
    let uid = Label::parse("pod UID", &format!("worker-test-{index}")).unwrap();
    let pod = Pod::create(&uid, Subnet::nth(SUBNETS, index).unwrap()).unwrap();
    let base = tempfile::tempdir().unwrap();
    let config = Config {
        pod_uid: uid.to_string(),
        base_dir: base.path().to_owned(),
        class: Class::Gvisor {
            network: Network::Netns,
        },
        idle_exit: None,
        drain_timeout: Duration::ZERO,
        hurry: Shutdown::new(),
        actor_log: Arc::new(Mutex::new(Vec::new())),
        tracer: Default::default(),
    };
    let shutdown = Shutdown::new();
    std::thread::scope(|scope| {
        let stop = shutdown.clone();
        // The worker's threads live in the pod, those of its caller on the machine.
        let worker = scope.spawn(|| {
            pod.enter().unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(config, Arc::new(SystemClock), stop))
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(drive(&Layout::new(base.path()), &uid, pod.address()));
        // Its connections go with it; a caller that is silent would be waited for.
        drop(runtime);
        shutdown.trigger();
        worker.join().unwrap().unwrap();
    });
    assert!(!interior_netns(&uid).exists());
    Pod::delete(&uid).unwrap();
    Pod::delete(&uid).unwrap();
}

/// A runsc whose first restores are killed, as many as the file `deaths` beside it has bytes.
fn mortal_runsc(dir: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let (file, deaths) = (dir.join("mortal-runsc"), dir.join("deaths"));
    let deaths = deaths.display();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" restore \"*)\n  if [ -s {deaths} ]; then\n    truncate -s -1 {deaths}\n    \
         kill -9 $$\n  fi;;\nesac\nexec {RUNSC} \"$@\"\n"
    );
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file.display().to_string()
}

#[test]
fn a_restore_that_is_killed_does_not_condemn_its_snapshot_and_one_that_always_fails_does() {
    in_a_pod(1, async |layout, uid, pod| {
        let socket = layout.worker_socket(uid);
        while !socket.exists() {
            tokio::task::yield_now().await;
        }
        let mut ateom = AteomClient::new(Channel::new(Address::Unix(socket), Transport::default()));
        let base = layout.static_files().parent().unwrap().to_owned();
        let runsc_path = mortal_runsc(&base);
        let deaths = |number: usize| fs::write(base.join("deaths"), "x".repeat(number)).unwrap();
        let mut dirs = prepare(layout, uid);
        ateom.run_workload(boot(&runsc_path)).await.unwrap();
        let (first, nonce) = count(pod).await;
        for (killed, is_restored) in [(2, true), (3, false)] {
            ateom.checkpoint_workload(checkpoint(&runsc_path)).await.unwrap();
            dirs = carry_over(layout, uid, &dirs);
            deaths(killed);
            let restored = ateom.restore_workload(restore(&runsc_path)).await;
            deaths(0);
            if is_restored {
                restored.unwrap();
                assert_eq!(count(pod).await, (first + 1, nonce.clone()));
            } else {
                let reasons = holdfast_rpc::status::reasons(&restored.unwrap_err());
                assert_eq!(reasons, [holdfast_rpc::status::Reason::CrashActor]);
            }
        }
    });
}

fn boot(runsc_path: &str) -> RunWorkloadRequest {
    RunWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter".into(),
        actor_id: "a".into(),
        runsc_path: runsc_path.into(),
        spec: spec(),
        ..Default::default()
    }
}

fn checkpoint(runsc_path: &str) -> CheckpointWorkloadRequest {
    CheckpointWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter".into(),
        actor_id: "a".into(),
        runsc_path: runsc_path.into(),
        spec: spec(),
        scope: SnapshotScope::Full.into(),
        ..Default::default()
    }
}

fn restore(runsc_path: &str) -> RestoreWorkloadRequest {
    RestoreWorkloadRequest {
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter".into(),
        actor_id: "a".into(),
        runsc_path: runsc_path.into(),
        spec: spec(),
        scope: SnapshotScope::Full.into(),
        ..Default::default()
    }
}

/// What the node daemon does between a checkpoint and a restore.
fn carry_over(layout: &Layout, uid: &Label, dirs: &ActorDirs) -> ActorDirs {
    let kept = layout.static_files();
    fs::rename(dirs.checkpoint_state(), &kept).unwrap();
    let dirs = prepare(layout, uid);
    fs::remove_dir(dirs.restore_state()).unwrap();
    fs::rename(kept, dirs.restore_state()).unwrap();
    dirs
}

async fn drive(layout: &Layout, uid: &Label, pod: Ipv4Addr) {
    let socket = layout.worker_socket(uid);
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let channel = Channel::new(Address::Unix(socket), Transport::default());
    let mut ateom = AteomClient::new(channel.clone());
    let mut control = WorkerControlClient::new(channel);
    let dirs = prepare(layout, uid);
    ateom.run_workload(boot(RUNSC)).await.unwrap();
    let (first, nonce) = count(pod).await;
    assert_eq!(first, 1);

    let files = ateom
        .checkpoint_workload(checkpoint(RUNSC))
        .await
        .unwrap()
        .into_inner()
        .snapshot_files;
    assert!(files.contains(&"checkpoint.img".to_owned()), "{files:?}");
    let dirs = carry_over(layout, uid, &dirs);
    ateom.restore_workload(restore(RUNSC)).await.unwrap();
    assert_eq!(count(pod).await, (2, nonce));

    let mut states = control.watch(WatchRequest {}).await.unwrap().into_inner();
    let sandbox = fs::read_to_string(dirs.pidfile(PAUSE))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill_process(Pid::from_raw(sandbox).unwrap(), Signal::KILL).unwrap();
    while !states
        .message()
        .await
        .unwrap()
        .unwrap()
        .exit_cause
        .contains("signal: 9")
    {}
    while states.message().await.unwrap().unwrap().hosted.is_some() {}

    // The shutdown that follows has a running actor to end.
    prepare(layout, uid);
    ateom.run_workload(boot(RUNSC)).await.unwrap();
    assert_eq!(count(pod).await.0, 1);
}
