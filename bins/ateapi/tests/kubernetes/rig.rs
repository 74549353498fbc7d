//! A cluster with a template, a pool and two nodes, and replicas in it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use holdfast_tests::kubernetes::{ApiServer, Crd};
use holdfast_tests::process::{Process, binary};
use holdfast_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use super::atelet::Atelet;

const CRDS: [&str; 3] = [
    include_str!("../../../../deploy/crds/actortemplates.yaml"),
    include_str!("../../../../deploy/crds/workerpools.yaml"),
    include_str!("../../../../deploy/crds/sandboxconfigs.yaml"),
];

pub struct Rig {
    pub api: ApiServer,
    pub atelet: Atelet,
    dir: TempDir,
}

/// A worker pod that is ready.
#[derive(Clone)]
pub struct Worker {
    pub name: String,
    pub uid: String,
    pub node: String,
}

impl Worker {
    pub fn new(name: &str, node: &str) -> Worker {
        Worker {
            name: name.into(),
            uid: format!("{name}-uid"),
            node: node.into(),
        }
    }
}

impl Rig {
    pub fn new() -> Rig {
        let rig = Rig {
            api: ApiServer::start().unwrap(),
            atelet: Atelet::serve(),
            dir: tempfile::tempdir().unwrap(),
        };
        for crd in CRDS {
            rig.api.install(Crd::read(crd).unwrap());
        }
        rig.api.kubeconfig(rig.path()).unwrap();
        for node in ["n1", "n2"] {
            rig.put(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": "ate-system", "name": format!("atelet-{node}"), "labels": {"app": "atelet"}},
                "spec": {"nodeName": node},
                "status": {"phase": "Running", "podIP": "127.0.0.1"},
            }));
        }
        let sha = "f18a948bf9c8bbb54eb998549a3a8d719a1c7de2efbe8fdd2ff0ee5fecd06f19";
        rig.put(json!({
            "apiVersion": "ate.dev/v1alpha1", "kind": "SandboxConfig", "metadata": {"name": "gvisor-default"},
            "spec": {"default": true, "assets": {"amd64": {"runsc": {"url": "gs://gvisor/runsc", "sha256": sha}}}},
        }));
        rig.put(json!({
            "apiVersion": "ate.dev/v1alpha1", "kind": "WorkerPool",
            "metadata": {"namespace": "team", "name": "pool"},
            "spec": {"replicas": 1, "ateomImage": "ateom"},
        }));
        let image = |name: &str| format!("{name}@sha256:{}", "0".repeat(64));
        rig.put(json!({
            "apiVersion": "ate.dev/v1alpha1", "kind": "ActorTemplate",
            "metadata": {"namespace": "team", "name": "counter"},
            "spec": {
                "pauseImage": image("pause"),
                "containers": [{
                    "name": "main", "image": image("counter"), "command": ["/counter"],
                    "env": [
                        {"name": "GREETING", "value": "hello"},
                        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "main"}}},
                    ],
                }],
                "snapshotsConfig": {"location": "gs://snapshots/counter"},
            },
        }));
        rig.create_secret();
        rig
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn put(&self, object: Value) {
        self.api.create(object).unwrap();
    }

    pub fn create_secret(&self) {
        self.put(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "tokens"},
            "data": {"main": "b3BlbiBzZXNhbWU="},
        }));
    }

    pub fn create(&self, worker: Worker) {
        self.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "team", "name": worker.name, "uid": worker.uid,
                "labels": {"ate.dev/worker-pool": "pool"},
            },
            "spec": {"nodeName": worker.node},
            "status": {
                "phase": "Running", "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{
                    "name": "ateom", "restartCount": 0, "containerID": "containerd://first",
                    "state": {"running": {"startedAt": "2026-07-01T00:00:00Z"}}, "lastState": {},
                }],
            },
        }));
    }

    pub fn change_pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.api.change("Pod", "team", name, change).unwrap();
    }

    /// A replica on the embedded store, which serves.
    pub fn start(&self, name: &str) -> Replica {
        self.start_on(name, "embedded:store")
    }

    pub fn start_on(&self, name: &str, store: &str) -> Replica {
        let mut replica = self.launch(name, store);
        replica.wait_until_serving();
        replica
    }

    /// A replica that may not serve yet.
    pub fn launch(&self, name: &str, store: &str) -> Replica {
        let port = self.atelet.port().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ateapi"));
        command.env_clear().current_dir(self.path());
        command.args([
            "--kubeconfig",
            "kubeconfig",
            "--atelet-port",
            &port,
            "--store",
            store,
        ]);
        command.args(["--grpc-listen-addr", "127.0.0.1:0", "--heartbeat-interval", "1s"]);
        command.args(["--sweep-interval", "1s", "--settle-after", "1s"]);
        command.args(["--session-ttl", "4s"]);
        Replica {
            process: Process::spawn(name, self.path(), &mut command).unwrap(),
            endpoint: String::new(),
        }
    }
}

pub struct Replica {
    process: Process,
    endpoint: String,
}

impl Replica {
    /// Where it serves.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn wait_until_serving(&mut self) {
        let serving = |process: &Process| Ok(process.log().lines().find_map(serving));
        self.endpoint = self
            .process
            .wait_until("the replica to serve", PATIENCE, serving)
            .unwrap();
    }

    pub fn stop(&mut self) {
        assert!(
            self.process.terminate(PATIENCE).unwrap().success(),
            "{}",
            self.log()
        );
    }

    /// Has one that does not serve yet end.
    pub fn interrupt(&mut self) {
        self.process.signal(Signal::TERM).unwrap();
        assert_eq!(self.process.wait_exit(PATIENCE).unwrap().code(), Some(1));
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    #[track_caller]
    pub fn done(&self, line: &str) -> String {
        let output = self.ate(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {told}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is said to a caller who is refused.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let output = self.ate(line);
        assert!(!output.status.success(), "{line}\n{}", self.log());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The pods of all workers.
    pub fn workers(&self) -> BTreeSet<String> {
        let listed: Value = serde_json::from_str(&self.done("get workers -o json")).unwrap();
        let workers = listed["workers"].as_array().cloned().unwrap_or_default();
        workers
            .iter()
            .map(|worker| worker["workerPod"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    pub fn wait_for_workers(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        self.wait_until(&format!("workers {expected:?}"), |replica| {
            replica.workers() == expected
        });
    }

    #[track_caller]
    pub fn wait_for_status(&self, actor: &str, status: &str) {
        let is_there = |replica: &Replica| {
            replica
                .done(&format!("get actors {actor} -a demo"))
                .contains(status)
        };
        self.wait_until(&format!("{actor} to be {status}"), is_there);
    }

    #[track_caller]
    pub fn wait_for_log(&self, part: &str) {
        self.wait_until(&format!("{part:?} in the log"), |replica| {
            replica.log().contains(part)
        });
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Replica) -> bool) {
        if let Err(error) = wait::until(what, PATIENCE, || Ok(is_so(self).then_some(()))) {
            panic!("{error:#}\n{}", self.log());
        }
    }

    fn ate(&self, line: &str) -> Output {
        let mut command = Command::new(binary("ate").unwrap());
        command
            .env("ATE_ENDPOINT", &self.endpoint)
            .args(line.split_whitespace());
        command.output().unwrap()
    }
}

/// The address in the line of the log that says where it is served.
fn serving(line: &str) -> Option<String> {
    if !line.contains("\"msg\":\"serving\"") {
        return None;
    }
    let (address, _) = line.split_once("\"address\":\"")?.1.split_once('"')?;
    Some(address.to_owned())
}
