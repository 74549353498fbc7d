//! A replica as it ships, and around it a node that does what a test wants.

#![allow(dead_code, reason = "no test needs all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::{Actor, ActorRef, CreateActorRequest, ResumeActorRequest};
use holdfast_rpc::atelet::ateom_herder_server::{AteomHerder, AteomHerderServer};
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
};
use holdfast_rpc::holdfast_v1::{HeartbeatRequest, WorkerReport};
use holdfast_rpc::server::serve;
use holdfast_rpc::status::crash_actor;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Channel, Listener, Transport};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::mpsc;
use holdfast_security::ServerFiles;
use holdfast_tests::process::{Process, binary};
use tempfile::TempDir;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// What stands in a Secret, and reaches the node as the value of a variable.
pub const SECRET_VALUE: &str = "hunter2-of-the-actor";

const MANIFESTS: &str = "apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {name: counter, namespace: team}
spec:
  pauseImage: pause@sha256:0000000000000000000000000000000000000000000000000000000000000000
  snapshotsConfig: {location: \"s3://bucket/a\"}
  containers:
  - name: main
    image: counter@sha256:1111111111111111111111111111111111111111111111111111111111111111
    command: [/counter]
    env:
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: secret, key: token}}}
---
apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: pool, namespace: team}
spec: {replicas: 1, ateomImage: ateom}
---
apiVersion: ate.dev/v1alpha1
kind: SandboxConfig
metadata: {name: gvisor}
spec:
  sandboxClass: gvisor
  default: true
  assets: {amd64: {runsc: {url: 'file:///runsc', sha256: '0000000000000000000000000000000000000000000000000000000000000000'}}}
---
apiVersion: v1
kind: Secret
metadata: {name: secret, namespace: team}
stringData: {token: hunter2-of-the-actor}
";

/// A directory with manifests, and what replicas leave in it.
pub struct Host {
    dir: TempDir,
}

impl Host {
    pub fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        fs::write(dir.path().join("manifests/all.yaml"), MANIFESTS).unwrap();
        Host { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts a file in place, never half of it.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let (new, place) = (self.path().join("new"), self.path().join(name));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &place).unwrap();
        place
    }

    pub fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ateapi"));
        command
            .env_clear()
            .current_dir(self.path())
            .args(["--manifests", "manifests", "--grpc-listen-addr=127.0.0.1:0"])
            .args(flags);
        command
    }

    /// A replica with these flags on the embedded store of this host, and where it serves.
    pub fn start(&self, flags: &[&str]) -> (Process, String) {
        self.started(&mut self.command(&[&["--store", "embedded:store"], flags].concat()))
    }

    /// The same, of a command.
    pub fn started(&self, command: &mut Command) -> (Process, String) {
        let mut process = Process::spawn("replica", self.path(), command).unwrap();
        let serving = |process: &Process| Ok(process.log().lines().find_map(serving));
        let address = process
            .wait_until("the replica to serve", PATIENCE, serving)
            .unwrap();
        (process, address)
    }

    /// What the command line says.
    pub fn ate(&self, endpoint: &str, line: &str) -> Output {
        let mut command = Command::new(binary("ate").unwrap());
        command
            .current_dir(self.path())
            .env("ATE_ENDPOINT", endpoint)
            .args(line.split_whitespace());
        command.output().unwrap()
    }
}

/// The address in the line of the log that says where it is served.
pub fn serving(line: &str) -> Option<String> {
    if !line.contains("\"msg\":\"serving\"") {
        return None;
    }
    let (address, _) = line.split_once("\"address\":\"")?.1.split_once('"')?;
    Some(address.to_owned())
}

/// A node that boots whatever it is told to and tells with which variables, never gets done with an actor that is
/// called `stuck`, and loses the state of whatever it is to checkpoint.
#[derive(Clone)]
pub struct Node {
    address: Address,
    booted: mpsc::UnboundedSender<String>,
}

impl Node {
    /// A node that serves until the test ends, and the values of the variables of each actor that it boots.
    pub async fn start() -> (Node, mpsc::UnboundedReceiver<String>) {
        Node::on(Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap())
    }

    /// The same, over TLS.
    pub async fn secured(tls: ServerFiles) -> (Node, mpsc::UnboundedReceiver<String>) {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        Node::on(listener.secured(Arc::new(tls)))
    }

    fn on(listener: Listener) -> (Node, mpsc::UnboundedReceiver<String>) {
        let (booted, values) = mpsc::unbounded_channel();
        let node = Node {
            address: listener.address().clone(),
            booted,
        };
        let routes = Routes::new(AteomHerderServer::new(node.clone()));
        let (transport, clock) = (Transport::default(), Arc::new(SystemClock));
        tokio::spawn(serve(listener, routes, transport, clock, std::future::pending()));
        (node, values)
    }

    /// What it reports: one worker, of the pod `w-0` with the UID `u-0` in the namespace `team`.
    pub fn report(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            node_name: "node-1".to_owned(),
            node_incarnation: "1".to_owned(),
            address: self.address.to_string(),
            sequence: 1,
            complete: true,
            workers: vec![WorkerReport {
                worker_namespace: "team".to_owned(),
                worker_pool: "pool".to_owned(),
                worker_pod: "w-0".to_owned(),
                worker_pod_uid: "u-0".to_owned(),
                ip: "10.0.0.7".to_owned(),
                ateom_incarnation: "1".to_owned(),
                reachable: true,
                ..WorkerReport::default()
            }],
            ..HeartbeatRequest::default()
        }
    }
}

#[tonic::async_trait]
impl AteomHerder for Node {
    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        let request = request.into_inner();
        let spec = request.spec.unwrap_or_default();
        for variable in spec.containers.into_iter().flat_map(|container| container.env) {
            // A test that is over hears nothing.
            let _ = self.booted.send(variable.value);
        }
        if request.actor_id == "stuck" {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(RunResponse {}))
    }

    async fn checkpoint(
        &self,
        _: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        Err(crash_actor("runsc checkpoint: exit status 128"))
    }

    async fn restore(&self, _: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        Err(Status::unimplemented("there is nothing to restore"))
    }
}

/// The name of an actor in the atespace `demo`.
pub fn named(name: &str) -> Option<ActorRef> {
    Some(ActorRef {
        atespace: "demo".to_owned(),
        name: name.to_owned(),
    })
}

/// A new actor of that name in the atespace `demo`, running.
pub async fn run(control: &mut ControlClient<Channel>, name: &str) -> Actor {
    let request = CreateActorRequest {
        actor_ref: named(name),
        actor_template_namespace: "team".to_owned(),
        actor_template_name: "counter".to_owned(),
        worker_selector: None,
    };
    control.create_actor(request).await.unwrap();
    let request = ResumeActorRequest {
        actor_ref: named(name),
        boot: false,
    };
    control
        .resume_actor(request)
        .await
        .unwrap()
        .into_inner()
        .actor
        .unwrap()
}
