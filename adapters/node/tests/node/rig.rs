//! A whole node in this process, between a control plane and ateoms that a test steers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::id::{Fence, Incarnation, OpId, ReplicaId};
use holdfast_core::settings::Settings;
use holdfast_images::{LayoutWriter, Layouts, Platform, PullOptions};
use holdfast_node::{Config, Error, Sandboxes, Security, run_observed};
use holdfast_objects::{Backend, Manifest, SnapshotUri};
use holdfast_rpc::atelet::ateom_herder_client::AteomHerderClient;
use holdfast_rpc::atelet::{
    self, CheckpointRequest, CheckpointType, RestoreRequest, RunRequest, SnapshotScope,
};
use holdfast_rpc::holdfast_v1::node_control_client::NodeControlClient;
use holdfast_rpc::holdfast_v1::nodes_server::{Nodes, NodesServer};
use holdfast_rpc::holdfast_v1::{
    Eviction, HeartbeatRequest, HeartbeatResponse, InventoryRequest, StopRequest, ThawRequest, UploadRequest,
    WorkerReport,
};
use holdfast_rpc::metadata::Credentials;
use holdfast_rpc::server::serve;
use holdfast_rpc::trace::{self, Tracer};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Channel, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_telemetry::Telemetry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::ateom::FakeAteom;

/// The directories, a control plane that listens, and a node.
pub struct Rig {
    pub directory: tempfile::TempDir,
    reports: watch::Receiver<Option<HeartbeatRequest>>,
    answers: watch::Sender<Answers>,
    pub shutdown: Shutdown,
    node: Option<JoinHandle<Result<(), Error>>>,
    images: (String, String),
    /// Whether the node reports to the control plane; to the original's none does.
    pub reports_to: ReportsTo,
    /// Has spans of what the node does.
    pub tracer: Tracer,
    /// What operators are told of the node that runs.
    pub telemetry: Telemetry,
}

/// Whom the node reports to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReportsTo {
    ControlPlane,
    Nobody,
}

/// Who orders what, about whom.
#[derive(Clone, Copy)]
pub struct Actor {
    pub worker: &'static str,
    pub atespace: &'static str,
    pub name: &'static str,
    pub op: u64,
    pub fence: u64,
    /// The session of the node that it is ordered under; zero for none.
    pub session: u64,
}

/// An order of the actor `a1` of `team-a` on the first worker.
pub fn a1(op: u64) -> Actor {
    Actor {
        worker: "uid-1",
        atespace: "team-a",
        name: "a1",
        op,
        fence: op,
        session: 0,
    }
}

/// What the control plane answers to reports.
#[derive(Clone, Copy)]
pub enum Answers {
    /// A session of this length; the next report is due after so long.
    Grants(Duration, Duration),
    /// Sessions up to this one are over. Later ones are granted.
    Over(u64),
    /// The sandbox of the first worker is to be ended, unless a fence above this one is known.
    Evicts(u64),
    /// Nothing.
    Silence,
}

struct ControlPlane {
    reports: watch::Sender<Option<HeartbeatRequest>>,
    answers: watch::Receiver<Answers>,
}

#[tonic::async_trait]
impl Nodes for ControlPlane {
    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let report = request.into_inner();
        holdfast_rpc::report::from_message(report.clone())?;
        let session = report.session;
        self.reports.send_replace(Some(report));
        let (ttl, every) = match *self.answers.borrow() {
            Answers::Grants(ttl, every) => (ttl, every),
            Answers::Over(lapsed) if session <= lapsed => {
                return Ok(Response::new(HeartbeatResponse {
                    lapsed: Some(lapsed),
                    ..HeartbeatResponse::default()
                }));
            }
            Answers::Over(_) | Answers::Evicts(_) => (Duration::from_secs(90), Duration::from_millis(100)),
            Answers::Silence => return Err(Status::unavailable("nobody is there")),
        };
        let evictions = match *self.answers.borrow() {
            Answers::Evicts(worker_fence) => vec![Eviction {
                worker_pod_uid: "uid-1".into(),
                worker_fence,
            }],
            _ => Vec::new(),
        };
        Ok(Response::new(HeartbeatResponse {
            session_ttl_ms: i64::try_from(ttl.as_millis()).unwrap(),
            heartbeat_interval_ms: i64::try_from(every.as_millis()).unwrap(),
            replica: "1".into(),
            evictions,
            lapsed: None,
        }))
    }
}

impl Rig {
    /// A node with one worker, both of which the control plane has heard of.
    pub async fn start() -> (Self, FakeAteom) {
        Self::start_under(Answers::Grants(Duration::from_secs(90), Duration::from_secs(30))).await
    }

    /// The same, where the control plane answers so.
    pub async fn start_under(answers: Answers) -> (Self, FakeAteom) {
        let mut rig = Self::prepare(answers).await;
        let ateom = FakeAteom::start(&rig.path("base"), "uid-1").await;
        rig.start_node().await;
        (rig, ateom)
    }

    /// A node that is not there yet, and no workers.
    pub async fn prepare(answers: Answers) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("objects/bucket")).unwrap();
        std::fs::write(directory.path().join("runsc"), "#!/bin/sh\n").unwrap();
        let layout = directory.path().join("layout");
        let image = |program: &str, tag: &str| {
            LayoutWriter::new(Platform::host())
                .file(program, "x", 0o755)
                .write(&layout, tag)
                .unwrap()
                .to_string()
        };
        let images = (image("pause", "pause"), image("app", "app"));

        let (sender, reports) = watch::channel(None);
        let (answers, answered) = watch::channel(answers);
        let control_plane = ControlPlane {
            reports: sender,
            answers: answered,
        };
        let address = Address::Unix(directory.path().join("control.sock"));
        let listener = Listener::bind(&address).await.unwrap();
        let routes = Routes::new(NodesServer::new(control_plane));
        tokio::spawn(serve(
            listener,
            routes,
            Transport::default(),
            Arc::new(SystemClock),
            std::future::pending(),
        ));
        Self {
            directory,
            reports,
            answers,
            shutdown: Shutdown::new(),
            node: None,
            images,
            reports_to: ReportsTo::ControlPlane,
            tracer: Tracer::default(),
            telemetry: Telemetry::new("atelet"),
        }
    }

    /// How the node is configured.
    pub fn config(&self) -> Config {
        let path = self.path("");
        let address = |name: &str| Address::Unix(path.join(name));
        Config {
            node_name: "node-1".into(),
            listen: address("node.sock"),
            advertise: None,
            base_dir: path.join("base"),
            control_planes: match self.reports_to {
                ReportsTo::ControlPlane => vec![address("nobody.sock"), address("control.sock")],
                ReportsTo::Nobody => Vec::new(),
            },
            settings: Settings::DEFAULT,
            storage: self.storage(),
            images: PullOptions {
                layouts: Layouts::Allowed,
                ..PullOptions::default()
            },
            sandboxes: Sandboxes::Gvisor {
                runsc: Some(path.join("runsc")),
            },
            security: Security::default(),
            tracer: self.tracer.clone(),
        }
    }

    /// Starts the node, and waits until it has found its workers.
    pub async fn start_node(&mut self) {
        let config = self.config();
        self.shutdown = Shutdown::new();
        let mut fresh = self.reports.clone();
        fresh.mark_unchanged();
        self.telemetry = Telemetry::new("atelet");
        let (telemetry, clock) = (self.telemetry.clone(), Arc::new(SystemClock));
        let running = run_observed(config, telemetry, clock, self.shutdown.clone());
        let mut node = tokio::spawn(running);
        if self.reports_to == ReportsTo::Nobody {
            self.node = Some(node);
            self.has_found("uid-1").await;
            return;
        }
        tokio::select! {
            biased;
            ended = &mut node => panic!("the node did not begin: {ended:?}"),
            changed = fresh.changed() => changed.unwrap(),
        }
        self.node = Some(node);
        self.reported("uid-1", |worker| worker.is_some()).await;
    }

    /// Waits until the node has found this worker, as it tells whoever asks.
    pub async fn has_found(&self, uid: &str) -> WorkerReport {
        loop {
            let answer = self.control().inventory(InventoryRequest {}).await;
            let workers = answer
                .map(|answer| answer.into_inner().workers)
                .unwrap_or_default();
            if let Some(worker) = workers.into_iter().find(|worker| worker.worker_pod_uid == uid) {
                return worker;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The control plane answers so from now on.
    pub fn answer(&self, answers: Answers) {
        self.answers.send_replace(answers);
    }

    /// Waits until a report has been answered, which the next one tells.
    pub async fn answered(&self) {
        let sequence = |report: &Option<HeartbeatRequest>| report.as_ref().map(|report| report.sequence);
        let mut reports = self.reports.clone();
        let before = sequence(&reports.borrow());
        reports
            .wait_for(|report| sequence(report) > before)
            .await
            .unwrap();
    }

    /// Ends the node where it stands.
    pub async fn kill_node(&mut self) {
        let node = self.node.take().unwrap();
        node.abort();
        assert!(node.await.unwrap_err().is_cancelled());
    }

    /// Waits for a node that was asked to stop.
    pub async fn stopped(&mut self) -> Result<(), Error> {
        self.node.take().unwrap().await.unwrap()
    }

    /// Waits until the control plane hears of a worker what the test wants to hear.
    pub async fn reported(
        &self,
        uid: &str,
        wanted: impl Fn(Option<&WorkerReport>) -> bool,
    ) -> HeartbeatRequest {
        let mut reports = self.reports.clone();
        let report = reports
            .wait_for(|report| {
                report
                    .as_ref()
                    .is_some_and(|report| wanted(report.workers.iter().find(|w| w.worker_pod_uid == uid)))
            })
            .await
            .unwrap();
        report.clone().unwrap()
    }

    /// Waits for a report that is made after this.
    pub async fn reported_anew(&self) -> HeartbeatRequest {
        let sequence =
            |report: &Option<HeartbeatRequest>| report.as_ref().map_or(0, |report| report.sequence);
        let mut reports = self.reports.clone();
        let before = sequence(&reports.borrow());
        // The next may have been made already.
        let report = reports.wait_for(|report| sequence(report) > before + 1).await;
        report.unwrap().clone().unwrap()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub fn storage(&self) -> holdfast_objects::Config {
        holdfast_objects::Config::file(self.path("objects")).unwrap()
    }

    /// The manifest of an external snapshot, as somebody else reads it.
    pub async fn manifest(&self, uri: &str) -> Manifest {
        let backend = Backend::new(self.storage());
        backend
            .read_manifest(&SnapshotUri::parse(uri).unwrap())
            .await
            .unwrap()
    }

    fn channel(&self) -> Channel {
        Channel::new(Address::Unix(self.path("node.sock")), Transport::default())
    }

    pub fn herder(&self) -> AteomHerderClient<Channel> {
        AteomHerderClient::new(self.channel())
    }

    pub fn control(&self) -> NodeControlClient<Channel> {
        NodeControlClient::new(self.channel())
    }

    pub async fn run(&self, actor: Actor) -> Result<(), Status> {
        self.herder()
            .run(actor.signed(self.run_request(actor)))
            .await
            .map(drop)
    }

    pub async fn checkpoint(&self, actor: Actor, to: &str) -> Result<(), Status> {
        let request = actor.signed(checkpoint_request(actor, to, self.spec()));
        self.herder().checkpoint(request).await.map(drop)
    }

    pub async fn restore(&self, actor: Actor, from: &str) -> Result<(), Status> {
        let request = actor.signed(restore_request(actor, from, self.spec()));
        self.herder().restore(request).await.map(drop)
    }

    pub async fn thaw(&self, actor: Actor) -> Result<(), Status> {
        let request = ThawRequest {
            target_ateom_uid: actor.worker.into(),
            atespace: actor.atespace.into(),
            actor_template_namespace: "ns".into(),
            actor_template_name: "counter".into(),
            actor_id: actor.name.into(),
        };
        self.control().thaw(actor.signed(request)).await.map(drop)
    }

    pub async fn stop(&self, actor: Actor) -> Result<(), Status> {
        let request = StopRequest {
            target_ateom_uid: actor.worker.into(),
            atespace: actor.atespace.into(),
            actor_template_namespace: "ns".into(),
            actor_template_name: "counter".into(),
            actor_id: actor.name.into(),
        };
        self.control().stop(actor.signed(request)).await.map(drop)
    }

    pub async fn upload(&self, actor: Actor, name: &str, uri: &str) -> Result<(), Status> {
        let request = UploadRequest {
            target_ateom_uid: String::new(),
            atespace: actor.atespace.into(),
            actor_template_namespace: "ns".into(),
            actor_template_name: "counter".into(),
            actor_id: actor.name.into(),
            snapshot_prefix: name.into(),
            snapshot_uri_prefix: uri.into(),
        };
        self.control().upload(actor.signed(request)).await.map(drop)
    }

    fn spec(&self) -> atelet::WorkloadSpec {
        atelet::WorkloadSpec {
            pause_image: self.images.0.clone(),
            containers: vec![atelet::Container {
                name: "main".into(),
                image: self.images.1.clone(),
                command: vec!["/app".into()],
                env: vec![atelet::EnvEntry {
                    name: "TOKEN".into(),
                    value: "hunter2".into(),
                }],
                volume_mounts: vec![atelet::VolumeMount {
                    name: "data".into(),
                    mount_path: "/data".into(),
                }],
                readyz: None,
            }],
            volumes: vec![atelet::Volume {
                name: "data".into(),
                r#type: atelet::VolumeType::DurableDir as i32,
                source: None,
            }],
        }
    }

    pub fn run_request(&self, actor: Actor) -> RunRequest {
        let arch = Platform::host().architecture;
        RunRequest {
            target_ateom_uid: actor.worker.into(),
            actor_template_namespace: "ns".into(),
            actor_template_name: "counter".into(),
            actor_id: actor.name.into(),
            spec: Some(self.spec()),
            sandbox_assets: Some(atelet::SandboxAssets {
                sandbox_class: "gvisor".into(),
                assets: [(arch, atelet::ArchAssets::default())].into(),
            }),
        }
    }
}

impl Actor {
    /// A request with the fences and the operation of this order. A control plane that knows no atespaces
    /// is the original's, which sends nothing of it.
    pub fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        trace::inject(request.metadata_mut());
        if self.atespace.is_empty() {
            return request;
        }
        let credentials = Credentials {
            actor_fence: Some(Fence(self.fence)),
            // Promising a worker is one write of its row, and freeing it another.
            worker_fence: Some(Fence((2 * self.fence).saturating_sub(1))),
            operation: Some(OpId {
                replica: ReplicaId(1),
                seq: self.op,
            }),
            incarnation: Some(Incarnation(1)),
            atespace: Some(self.atespace.into()),
            session: Some(self.session).filter(|session| *session > 0),
            run: None,
            until: None,
        };
        credentials.write(request.metadata_mut()).unwrap();
        request
    }
}

/// `verb op` as a fake ateom writes it down.
pub fn called(verb: &str, op: u64) -> String {
    format!("{verb} 0000000000000001-{op}")
}

/// Snapshots with a scheme are external, those without are local.
fn is_external(place: &str) -> bool {
    place.contains("://")
}

fn checkpoint_request(actor: Actor, to: &str, spec: atelet::WorkloadSpec) -> CheckpointRequest {
    use atelet::checkpoint_request::Config;
    CheckpointRequest {
        target_ateom_uid: actor.worker.into(),
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter".into(),
        actor_id: actor.name.into(),
        spec: Some(spec),
        r#type: kind(to) as i32,
        config: Some(match is_external(to) {
            true => Config::ExternalConfig(atelet::ExternalCheckpointConfiguration {
                snapshot_uri_prefix: to.into(),
            }),
            false => Config::LocalConfig(atelet::LocalCheckpointConfiguration {
                snapshot_prefix: to.into(),
            }),
        }),
        scope: SnapshotScope::Full as i32,
    }
}

fn restore_request(actor: Actor, from: &str, spec: atelet::WorkloadSpec) -> RestoreRequest {
    use atelet::restore_request::Config;
    RestoreRequest {
        target_ateom_uid: actor.worker.into(),
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter".into(),
        actor_id: actor.name.into(),
        spec: Some(spec),
        r#type: kind(from) as i32,
        config: Some(match is_external(from) {
            true => Config::ExternalConfig(atelet::ExternalCheckpointConfiguration {
                snapshot_uri_prefix: from.into(),
            }),
            false => Config::LocalConfig(atelet::LocalCheckpointConfiguration {
                snapshot_prefix: from.into(),
            }),
        }),
        scope: SnapshotScope::Full as i32,
    }
}

fn kind(place: &str) -> CheckpointType {
    match is_external(place) {
        true => CheckpointType::External,
        false => CheckpointType::Local,
    }
}

/// What the node logs, for tests that wait for what is seen nowhere else. Kept while it is listened to.
pub struct Log {
    text: watch::Receiver<String>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    /// Listens to everything on this thread, which is where all tasks of a test run.
    pub fn listen() -> Self {
        let (sender, text) = watch::channel(String::new());
        let writer = Writer(Arc::new(sender));
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        Self { text, _guard }
    }

    /// Waits until `text` is logged.
    pub async fn says(&mut self, text: &str) {
        self.text.wait_for(|log| log.contains(text)).await.unwrap();
    }
}

#[derive(Clone)]
struct Writer(Arc<watch::Sender<String>>);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .send_modify(|log| log.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether `path` has an entry, as the tests ask that something is gone or still there.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Waits until the space of something is given back.
pub async fn gone(path: &Path) {
    while is_there(path) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
