//! `ate dev` as a process: what it refuses, what it survives, and how it goes away. Needs root, for the
//! networks of workers, which run plain processes here.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use holdfast_tests::images::Images;
use holdfast_tests::process::Process;
use holdfast_tests::{http, wait};
use rustix::process::Signal;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);
/// Addresses set aside for tests of networks (RFC 2544), a /16 of their own.
const NETWORK: &str = "198.18.0.0";

const POOL: &str = "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: pool, namespace: demo}
spec: {replicas: 2, ateomImage: ateom, sandboxClass: gvisor}
---
apiVersion: ate.dev/v1alpha1
kind: SandboxConfig
metadata: {name: any}
spec:
  sandboxClass: gvisor
  default: true
  assets:
    amd64: {runsc: {url: \"file:///unused\", sha256: abababababababababababababababababababababababababababababababab}}
    arm64: {runsc: {url: \"file:///unused\", sha256: abababababababababababababababababababababababababababababababab}}
";

fn template(name: &str, pause: &str, image: &str) -> String {
    format!(
        "apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {{name: {name}, namespace: demo}}
spec:
  sandboxClass: gvisor
  pauseImage: \"{pause}\"
  containers:
    - name: counter
      image: \"{image}\"
      command: [\"/counter\"]
      env: [{{name: COUNTER_FILE, value: count}}]
      volumeMounts: [{{name: data, mountPath: /data}}]
      readyz: {{httpGet: {{path: /readyz, port: 80}}}}
  volumes: [{{name: data, durableDir: {{}}}}]
  snapshotsConfig: {{location: \"file://snapshots/{name}\", onPause: Data, onCommit: Data}}
"
    )
}

/// A directory with manifests, and clusters that are started on it.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::Builder::new().prefix("hf").tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let host = Host { dir };
        host.declare("pool.yaml", POOL);
        host
    }

    /// With images of a counter to run.
    fn with_images() -> Host {
        let host = Host::new();
        fs::create_dir(host.path("images")).unwrap();
        let images = Images::build(&host.path("images")).unwrap();
        let (pause, counter) = (images.pause.to_string(), images.counter.to_string());
        host.declare("counter.yaml", &template("counter", &pause, &counter));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn declare(&self, file: &str, text: &str) {
        fs::write(self.path("manifests").join(file), text).unwrap();
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ate"));
        command
            .args(["dev", "--manifests", "manifests", "--sandbox", "process"])
            .args(["--pod-network", NETWORK, "--http", "127.0.0.1:0"])
            .args(flags)
            .env("NO_COLOR", "1")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn start(&self, name: &str, flags: &[&str]) -> Cluster {
        let flags = [&["--data-dir", "data", "--listen", "127.0.0.1:0"], flags].concat();
        let process = Process::spawn(name, self.dir.path(), &mut self.command(&flags)).unwrap();
        let mut cluster = Cluster {
            process,
            endpoint: String::new(),
            router: ([127, 0, 0, 1], 0).into(),
            node: self.path("data/node"),
        };
        let up = |process: &Process| Ok(process.log().lines().rev().find_map(announced));
        (cluster.endpoint, cluster.router) = cluster
            .process
            .wait_until("the cluster to be up", PATIENCE, up)
            .unwrap();
        cluster
    }

    /// What a cluster says that is not started.
    #[track_caller]
    fn refused(&self, code: i32, flags: &[&str]) -> String {
        let Output { status, stderr, .. } = self.command(flags).output().unwrap();
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(code), "{flags:?}: {said}");
        said
    }
}

fn announced(line: &str) -> Option<(String, SocketAddr)> {
    let (grpc, router) = line
        .strip_prefix("cluster is up: control plane ")?
        .split_once(", router http://")?;
    Some((grpc.to_owned(), router.parse().ok()?))
}

struct Cluster {
    process: Process,
    endpoint: String,
    router: SocketAddr,
    node: PathBuf,
}

impl Cluster {
    fn ate(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ate"))
            .env("ATE_ENDPOINT", &self.endpoint)
            .args(line.split_whitespace())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        let output = self.ate(line);
        assert!(
            output.status.success(),
            "{line}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.process.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The process ids of the workers, once there are so many and the control plane knows them.
    fn workers(&self, count: usize) -> Vec<u32> {
        wait::until(&format!("{count} workers"), PATIENCE, || {
            let pids = holdfast_pods::worker_pids(&self.node)?;
            let known = self.ate("get workers").stdout;
            let known = String::from_utf8_lossy(&known).lines().count().saturating_sub(1);
            Ok((pids.len() == count && known == count)
                .then(|| pids.into_iter().map(|(_, pid)| pid).collect()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.process.log()))
    }

    fn count(&self, actor: &str) -> anyhow::Result<http::Response> {
        let host = format!("{actor}.team.actors.resources.substrate.ate.dev");
        http::get(self.router, &host, "/", PATIENCE)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that failed: its workers must not outlive it.
        if self.process.exit().is_ok_and(|exit| exit.is_none()) {
            let _ = self.process.terminate(PATIENCE);
        }
    }
}

/// Whether it runs: one that has ended may still wait for whoever adopted it to notice.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
    state.is_some_and(|state| state != b'Z')
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name_before_anything_is_made() {
    let host = Host::new();
    fs::write(host.path("file"), "").unwrap();
    let script = |name: &str, text: &str| {
        fs::write(host.path(name), text).unwrap();
        fs::set_permissions(host.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("old", "#!/bin/sh\necho runsc version release-20200101.0\n");
    script("mute", "#!/bin/sh\nexit 1\n");
    let long = "d".repeat(90);
    let all = ["--listen", "127.0.0.1:0"];
    for (flags, expected) in [
        (&["--data-dir", "file"][..], "--data-dir file: is not a directory"),
        (&["--data-dir", long.as_str()], "is too long"),
        (
            &["--listen", "0.0.0.0:0", "--data-dir", "data"],
            "--listen 0.0.0.0:0: other hosts can reach",
        ),
        (&["--sandbox", "auto", "--runsc", "nothing"], "--runsc nothing: "),
        (&["--sandbox", "auto", "--runsc", "."], ". is not a file"),
        (
            &["--sandbox", "auto", "--runsc", "file"],
            "file is not executable",
        ),
        (
            &["--sandbox", "auto", "--runsc", "./mute"],
            "./mute does not tell the version of a runsc",
        ),
        (&["--sandbox", "auto", "--runsc", "./old"], "./old is of 20200101"),
        (&["--runsc", "./old"], "plain processes need no runsc"),
    ] {
        // A later flag of the same name would be refused as such.
        let mut command = host.command(&[]);
        if flags.contains(&"--sandbox") {
            command = Command::new(env!("CARGO_BIN_EXE_ate"));
            command
                .args(["dev", "--manifests", "manifests", "--http", "127.0.0.1:0"])
                .current_dir(host.dir.path());
        }
        let output = command
            .args(flags)
            .args(if flags.contains(&"--listen") {
                &[][..]
            } else {
                &all
            })
            .args(if flags.contains(&"--data-dir") {
                &[][..]
            } else {
                &["--data-dir", "data"]
            })
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
    host.declare("pool.yaml", &POOL.replace("replicas: 2", "replicas: 5000"));
    let said = host.refused(2, &["--data-dir", "data"]);
    assert!(
        said.contains("5000 workers") && said.contains("256 at most"),
        "{said}"
    );
    host.declare("pool.yaml", POOL);
    let zeros = format!("registry.example/counter@sha256:{}", "0".repeat(64));
    let pause = format!("pause@sha256:{}", "1".repeat(64));
    host.declare("counter.yaml", &template("counter", &pause, &zeros));
    let said = host.refused(2, &["--data-dir", "data"]);
    assert!(
        said.contains("ActorTemplate demo/counter: ") && said.contains("is a placeholder"),
        "{said}"
    );
    assert!(!host.path("data").exists());
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named_with_the_flag() {
    let host = Host::new();
    let said = host.refused(1, &["--data-dir", "/proc/holdfast", "--listen", "127.0.0.1:0"]);
    assert!(
        said.contains("cannot write to /proc/holdfast/objects") && said.contains("--data-dir"),
        "{said}"
    );
}

#[test]
fn a_second_cluster_on_a_directory_that_is_in_use_harms_nothing() {
    let host = Host::new();
    let mut cluster = host.start("first", &[]);
    let workers = cluster.workers(2);
    let own_control_plane = ["--data-dir", "data", "--listen", "127.0.0.1:0"];
    let said = host.refused(1, &own_control_plane);
    assert!(
        said.contains("store.redb: another process has this store open"),
        "{said}"
    );
    let said = host.refused(1, &["--data-dir", "data", "--join", &cluster.endpoint]);
    assert!(said.contains("another atelet has this journal open"), "{said}");
    assert_eq!(cluster.workers(2), workers);
    assert!(workers.iter().all(|pid| is_alive(*pid)));
    assert_eq!(cluster.process.terminate(PATIENCE).unwrap().code(), Some(0));
    assert!(!workers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn what_was_acknowledged_before_and_while_a_cluster_stops_is_there_when_it_is_back() {
    let host = Host::with_images();
    let mut cluster = host.start("first", &[]);
    cluster.workers(2);
    cluster.done("create atespace team");
    let actors = ["one", "two", "three", "four"];
    for actor in actors {
        cluster.done(&format!("create actor {actor} -t demo/counter -a team"));
    }
    // Clients that go on asking, four actors for two workers, until nobody answers any more.
    let last: Vec<(&str, u64)> = std::thread::scope(|scope| {
        let cluster = &cluster;
        let clients: Vec<_> = actors
            .iter()
            .map(|actor| {
                scope.spawn(move || {
                    let mut last = 0;
                    let mut is_suspended = false;
                    while let Ok(response) = cluster.count(actor) {
                        if response.status == 200 {
                            last = response.json().unwrap()["count"].as_u64().unwrap();
                        }
                        // Makes room for the others.
                        is_suspended = !is_suspended
                            && cluster.ate(&format!("suspend {actor} -a team")).status.success();
                    }
                    (*actor, last)
                })
            })
            .collect();
        let awake = wait::until("an actor to be awake", PATIENCE, || {
            Ok(cluster
                .done("get actors -a team")
                .contains("RUNNING")
                .then_some(()))
        });
        let pid = rustix::process::Pid::from_raw(i32::try_from(cluster.process.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        awake.unwrap();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(cluster.process.wait_exit(PATIENCE).unwrap().code(), Some(0));
    let log = cluster.process.log();
    assert!(
        !log.contains("not every actor") && !log.contains("not suspended"),
        "{log}"
    );

    let cluster = host.start("second", &[]);
    cluster.workers(2);
    for (actor, last) in last {
        let shown = cluster.done(&format!("get actor {actor} -a team"));
        assert!(shown.contains("STATUS_SUSPENDED"), "{shown}");
        let response = cluster.count(actor).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let count = response.json().unwrap()["count"].as_u64().unwrap();
        assert!(count > last, "{actor} answered {last} and then {count}");
        cluster.done(&format!("suspend {actor} -a team"));
    }
}

/// The directories below this one that hold a snapshot.
fn snapshots_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut found: Vec<PathBuf> = directories.flat_map(|path| snapshots_below(&path)).collect();
    found.extend(
        directory
            .join("manifest.json")
            .exists()
            .then(|| directory.to_owned()),
    );
    found
}

#[test]
fn of_all_snapshots_of_an_actor_those_that_it_may_still_need_are_kept_and_none_once_it_is_deleted() {
    let host = Host::with_images();
    let cluster = host.start("collects", &["--collect-after", "500ms"]);
    cluster.workers(2);
    cluster.done("create atespace team");
    cluster.done("create actor one -t demo/counter -a team");
    let (objects, node) = (host.path("data/objects"), cluster.node.clone());
    let until_left = |external: usize, local: usize| {
        wait::until("what nothing points at to be gone", PATIENCE, || {
            let left = [
                snapshots_below(&objects).len(),
                snapshots_below(&node.join("actors")).len(),
            ];
            Ok((left == [external, local]).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.process.log()));
    };
    let mut count = 0;
    for sleep in ["suspend", "pause", "suspend", "suspend", "pause"] {
        let response = cluster.count("one").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        count = response.json().unwrap()["count"].as_u64().unwrap();
        cluster.done(&format!("{sleep} one -a team"));
    }
    // The last one committed, the one before it, and what the actor sleeps at.
    until_left(2, 1);
    cluster.done("suspend one -a team");
    until_left(2, 0);
    let response = cluster.count("one").unwrap();
    assert_eq!(response.json().unwrap()["count"].as_u64(), Some(count + 1));
    cluster.done("suspend one -a team");
    cluster.done("delete one -a team");
    until_left(0, 0);
}

#[test]
fn workers_follow_the_replicas_and_those_that_are_left_over_are_ended() {
    let host = Host::new();
    let mut cluster = host.start("first", &[]);
    let workers = cluster.workers(2);
    host.declare("pool.yaml", &POOL.replace("replicas: 2", "replicas: 3"));
    cluster.workers(3);
    host.declare("pool.yaml", POOL);
    assert_eq!(cluster.workers(2), workers);
    cluster.process.kill().unwrap();

    let mut cluster = host.start("second", &["--workers", "1"]);
    let left = wait::until("the other worker to end", PATIENCE, || {
        let pids = holdfast_pods::worker_pids(&cluster.node)?;
        Ok((pids.len() == 1).then_some(pids))
    });
    assert_eq!(left.unwrap()[0].1, workers[0]);
    assert!(is_alive(workers[0]));
    wait::until("its process to be gone", PATIENCE, || {
        Ok((!is_alive(workers[1])).then_some(()))
    })
    .unwrap();
    assert_eq!(cluster.process.terminate(PATIENCE).unwrap().code(), Some(0));
    assert!(!is_alive(workers[0]));
}

#[test]
fn a_cluster_whose_terminal_or_reader_is_gone_still_takes_its_workers_along() {
    for signal in [Signal::HUP, Signal::TERM] {
        let host = Host::new();
        let (reader, pipe) = std::io::pipe().unwrap();
        let program = host.command(&["--data-dir", "data", "--listen", "unix:api.sock"]);
        let mut child = Command::new("env")
            .arg("--default-signal=HUP")
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(host.dir.path())
            .stdin(Stdio::null())
            .stderr(pipe)
            .spawn()
            .unwrap();
        drop(program);
        // As `head -1` does: it reads a little and goes.
        std::io::Read::read(&mut &reader, &mut [0; 16]).unwrap();
        drop(reader);
        let workers = wait::until("the workers", PATIENCE, || {
            assert_eq!(child.try_wait()?, None, "it ended");
            let pids = holdfast_pods::worker_pids(&host.path("data/node"))?;
            Ok((pids.len() == 2).then_some(pids))
        });
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let exit = wait::until("the cluster to end", PATIENCE, || Ok(child.try_wait()?)).unwrap();
        assert_eq!(exit.code(), Some(0), "{signal:?}");
        assert!(!workers.unwrap().iter().any(|(_, pid)| is_alive(*pid)));
        assert!(!host.path("api.sock").exists());
    }
}
