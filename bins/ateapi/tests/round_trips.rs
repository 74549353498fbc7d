//! How often a workflow goes to Redis: what the server itself sees, with a node that does nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use holdfast_rpc::ateapi::control_client::ControlClient;
use holdfast_rpc::ateapi::{
    ActorRef, CreateActorRequest, CreateAtespaceRequest, ListWorkersRequest, ResumeActorRequest,
    SuspendActorRequest,
};
use holdfast_rpc::atelet::ateom_herder_server::{AteomHerder, AteomHerderServer};
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
};
use holdfast_rpc::holdfast_v1::nodes_client::NodesClient;
use holdfast_rpc::holdfast_v1::{HeartbeatRequest, WorkerReport};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Channel, Listener, Transport};
use holdfast_tests::process::Process;
use holdfast_tests::redis::{Persistence, Reply, Server};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

const PATIENCE: Duration = Duration::from_secs(60);

const MANIFESTS: &str = "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: pool, namespace: team}
spec: {replicas: 1, ateomImage: ateom}
---
apiVersion: ate.dev/v1alpha1
kind: SandboxConfig
metadata: {name: gvisor-default}
spec:
  default: true
  assets:
    amd64: {runsc: {url: \"https://files.example/runsc\", sha256: \"0000000000000000000000000000000000000000000000000000000000000001\"}}
    arm64: {runsc: {url: \"https://files.example/runsc\", sha256: \"0000000000000000000000000000000000000000000000000000000000000001\"}}
---
apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {name: counter, namespace: team}
spec:
  pauseImage: pause@sha256:0000000000000000000000000000000000000000000000000000000000000001
  snapshotsConfig: {location: \"s3://bucket/a\"}
  containers: [{name: main, image: counter@sha256:1111111111111111111111111111111111111111111111111111111111111111, command: [/counter]}]
";

/// A node on which everything is done at once.
#[derive(Clone)]
struct Node;

#[tonic::async_trait]
impl AteomHerder for Node {
    async fn run(&self, _: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        Ok(Response::new(RunResponse {}))
    }

    async fn checkpoint(
        &self,
        _: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        Ok(Response::new(CheckpointResponse {}))
    }

    async fn restore(&self, _: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        Ok(Response::new(RestoreResponse {}))
    }
}

/// Where a node with one free worker serves; it does so until the test ends.
async fn node() -> String {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().to_string();
    let routes = Routes::new(AteomHerderServer::new(Node));
    let clock = Arc::new(SystemClock);
    let for_ever = std::future::pending();
    tokio::spawn(holdfast_rpc::server::serve(
        listener,
        routes,
        Transport::default(),
        clock,
        for_ever,
    ));
    address
}

/// What the server is asked, one line per command, from now on.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn start(server: SocketAddr) -> Monitor {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut monitor = Monitor(BufReader::new(stream));
        assert_eq!(monitor.line(), "+OK");
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the server is gone");
        line.trim_end().to_owned()
    }

    /// Everything about actors and workers that came over the network since the last call. (Commands of a script
    /// are marked `lua`; sessions and nodes are renewed whatever is done.)
    fn since(&mut self, server: &Server) -> Vec<String> {
        server.command(&["ECHO", "until here"]).unwrap();
        let mut asked = vec![];
        loop {
            let line = self.line();
            if line.contains("\"until here\"") {
                return asked;
            }
            let is_ours = line.contains("actor:space:one") || line.contains("worker:");
            if is_ours && !line.contains(" lua]") && !line.contains("\"EXISTS\"") {
                asked.push(line);
            }
        }
    }
}

/// The worker is freed and the lease given back when the caller has its answer already.
async fn settled(server: &Server) {
    let lease = ["EXISTS", "lease:{actor:space:one}"];
    while server.command(&lease).unwrap() != Reply::Integer(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn one() -> Option<ActorRef> {
    Some(ActorRef {
        atespace: "space".into(),
        name: "one".into(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_and_a_suspend_are_five_round_trips_each_and_a_resume_of_a_running_actor_is_one() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("manifests")).unwrap();
    fs::write(host.path().join("manifests/all.yaml"), MANIFESTS).unwrap();
    let redis = Server::start(Persistence::None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ateapi"));
    // Nothing that comes round by itself comes round in the meantime.
    command
        .env_clear()
        .current_dir(host.path())
        .args(["--manifests", "manifests", "--grpc-listen-addr", "unix:api.sock"])
        .args(["--store", &redis.url(), "--sweep-interval", "1h"]);
    let mut process = Process::spawn("ateapi", host.path(), &mut command).unwrap();
    let serving = |process: &Process| Ok(process.log().contains("\"msg\":\"serving\"").then_some(()));
    process
        .wait_until("the replica to serve", PATIENCE, serving)
        .unwrap();
    let endpoint = format!("unix:{}", host.path().join("api.sock").display());
    let channel = Channel::new(endpoint.parse().unwrap(), Transport::default());

    let report = HeartbeatRequest {
        node_name: "n1".into(),
        node_incarnation: "run".into(),
        address: node().await,
        sequence: 1,
        complete: true,
        workers: vec![WorkerReport {
            worker_namespace: "team".into(),
            worker_pool: "pool".into(),
            worker_pod: "w1".into(),
            worker_pod_uid: "uid".into(),
            ip: "10.0.0.1".into(),
            ateom_incarnation: "first".into(),
            reachable: true,
            ..WorkerReport::default()
        }],
        ..HeartbeatRequest::default()
    };
    NodesClient::new(channel.clone()).heartbeat(report).await.unwrap();
    let mut api = ControlClient::new(channel);
    while api
        .list_workers(ListWorkersRequest {})
        .await
        .unwrap()
        .into_inner()
        .workers
        .is_empty()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    api.create_atespace(CreateAtespaceRequest { name: "space".into() })
        .await
        .unwrap();
    let create = CreateActorRequest {
        actor_ref: one(),
        actor_template_namespace: "team".into(),
        actor_template_name: "counter".into(),
        worker_selector: None,
    };
    api.create_actor(create).await.unwrap();
    let resume = ResumeActorRequest {
        actor_ref: one(),
        boot: false,
    };
    let suspend = SuspendActorRequest { actor_ref: one() };
    // The first time, scripts are sent along.
    api.resume_actor(resume.clone()).await.unwrap();
    api.suspend_actor(suspend.clone()).await.unwrap();
    settled(&redis).await;

    let mut monitor = Monitor::start(redis.address());
    api.resume_actor(resume.clone()).await.unwrap();
    settled(&redis).await;
    let resumed = monitor.since(&redis);
    assert_eq!(resumed.len(), 5, "{resumed:#?}");
    api.resume_actor(resume).await.unwrap();
    let running = monitor.since(&redis);
    assert_eq!(running.len(), 1, "{running:#?}");
    api.suspend_actor(suspend).await.unwrap();
    settled(&redis).await;
    let suspended = monitor.since(&redis);
    assert_eq!(suspended.len(), 5, "{suspended:#?}");
}
