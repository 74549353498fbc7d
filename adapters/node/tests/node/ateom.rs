//! An ateom that runs nothing: it looks at what was laid out for it, writes down who asked for what, and
//! does as it is told.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use holdfast_rpc::ateom::ateom_server::{Ateom, AteomServer};
use holdfast_rpc::ateom::{
    CheckpointWorkloadRequest, CheckpointWorkloadResponse, RestoreWorkloadRequest, RestoreWorkloadResponse,
    RunWorkloadRequest, RunWorkloadResponse,
};
use holdfast_rpc::holdfast_v1::worker_control_server::{WorkerControl, WorkerControlServer};
use holdfast_rpc::holdfast_v1::worker_state::Hosted;
use holdfast_rpc::holdfast_v1::{
    DescribeRequest, ExtendWorkloadRequest, ExtendWorkloadResponse, FreezeWorkloadRequest,
    FreezeWorkloadResponse, SandboxState, StopWorkloadRequest, StopWorkloadResponse, ThawWorkloadRequest,
    ThawWorkloadResponse, WatchRequest, WorkerState,
};
use holdfast_rpc::metadata::Credentials;
use holdfast_rpc::server::serve;
use holdfast_rpc::status::{Reason, with_reason};
use holdfast_rpc::trace::{self, Context};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Listener, Transport};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// The memory of an actor that was booted and has seen nothing since.
pub const MEMORY: &[u8] = b"count=42";

/// A fake ateom and the way to steer it.
#[derive(Clone)]
pub struct FakeAteom(Arc<Inner>);

struct Inner {
    base: PathBuf,
    uid: String,
    /// Whether it knows no more than the original's does.
    is_original: bool,
    state: watch::Sender<WorkerState>,
    /// What was asked, in order.
    calls: watch::Sender<Vec<String>>,
    /// How often it was asked what it has.
    looks: watch::Sender<u64>,
    /// Operations wait here while it is closed.
    is_open: watch::Sender<bool>,
    orders: Mutex<Orders>,
    serving: Mutex<Option<AbortHandle>>,
}

struct Orders {
    /// What the next operation fails with.
    failure: Option<Status>,
    /// The names under which a checkpoint reports its files.
    files: Vec<String>,
    /// The memory of the actor in the sandbox.
    memory: Vec<u8>,
    /// What it answers that it has, if that is not what it says.
    answer: Option<WorkerState>,
    /// Of which traces it was asked to do things.
    contexts: Vec<Option<Context>>,
}

impl FakeAteom {
    /// An ateom for worker `uid`, serving and described.
    pub async fn start(base: &Path, uid: &str) -> Self {
        let ateom = Self::start_undescribed(base, uid).await;
        let file = format!(r#"{{"namespace":"ns","pool":"pool","pod":"{uid}","ip":"127.0.0.1"}}"#);
        std::fs::write(ateom.directory().join("worker.json"), file).unwrap();
        ateom
    }

    /// The same, as in a pod of the original's controller: nobody says what the worker is called.
    pub async fn start_undescribed(base: &Path, uid: &str) -> Self {
        Self::begin(base, uid, false).await
    }

    /// An ateom such as the original's in such a pod.
    pub async fn start_original(base: &Path, uid: &str) -> Self {
        Self::begin(base, uid, true).await
    }

    async fn begin(base: &Path, uid: &str, is_original: bool) -> Self {
        let ateom = Self(Arc::new(Inner {
            base: base.to_owned(),
            uid: uid.to_owned(),
            is_original,
            state: watch::Sender::new(WorkerState {
                ateom_incarnation: "1".into(),
                pod_uid: uid.to_owned(),
                ..WorkerState::default()
            }),
            calls: watch::Sender::default(),
            looks: watch::Sender::default(),
            is_open: watch::Sender::new(true),
            orders: Mutex::new(Orders {
                failure: None,
                files: vec!["checkpoint.img".into()],
                memory: Vec::new(),
                answer: None,
                contexts: Vec::new(),
            }),
            serving: Mutex::default(),
        }));
        let directory = ateom.directory();
        std::fs::create_dir_all(&directory).unwrap();
        ateom.serve().await;
        ateom
    }

    async fn serve(&self) {
        let address = Address::Unix(self.directory().join("ateom.sock"));
        let listener = Listener::bind(&address).await.unwrap();
        let routes = Routes::new(AteomServer::new(self.clone()));
        let routes = match self.0.is_original {
            true => routes,
            false => routes.add_service(WorkerControlServer::new(self.clone())),
        };
        let transport = Transport {
            drain_timeout: std::time::Duration::ZERO,
            ..Transport::default()
        };
        let server = serve(
            listener,
            routes,
            transport,
            Arc::new(SystemClock),
            std::future::pending(),
        );
        let serving = tokio::spawn(server).abort_handle();
        *self.0.serving.lock().unwrap() = Some(serving);
    }

    fn directory(&self) -> PathBuf {
        self.0.base.join("ateoms").join(&self.0.uid)
    }

    /// Ends it as a kill would: the socket is dead, connections are cut.
    pub fn kill(&self) {
        self.0.serving.lock().unwrap().take().unwrap().abort();
        // The streams of a dead process end.
        self.0.state.send_modify(|state| state.ateom_incarnation.clear());
    }

    /// Starts it again in place after it was killed: what was in its sandbox is gone.
    pub async fn restart(&self) {
        while self.directory().join("ateom.sock").exists() {
            tokio::task::yield_now().await;
        }
        self.0.state.send_modify(|state| {
            state.hosted = None;
            state.ateom_incarnation.push('2');
        });
        self.serve().await;
    }

    /// Stops it as a signal would: the kernel goes on taking calls for it, and nobody answers them.
    pub async fn stop(&self) -> UnixListener {
        let serving = self.0.serving.lock().unwrap().take().unwrap();
        serving.abort();
        let socket = self.directory().join("ateom.sock");
        while socket.exists() {
            tokio::task::yield_now().await;
        }
        let silence = UnixListener::bind(socket).unwrap();
        self.0
            .state
            .send_modify(|state| state.ateom_incarnation.push(' '));
        silence
    }

    /// It goes on where it was stopped.
    pub async fn go_on(&self, silence: UnixListener) {
        drop(silence);
        std::fs::remove_file(self.directory().join("ateom.sock")).unwrap();
        self.0
            .state
            .send_modify(|state| _ = state.ateom_incarnation.pop());
        self.serve().await;
    }

    /// Lets the sandbox die.
    pub fn lose_sandbox(&self) {
        self.0.state.send_modify(|state| state.hosted = None);
    }

    /// Lets the sandbox die, and its remains stay where they are.
    pub fn leave_remains(&self) {
        let stopped = SandboxState::Stopped as i32;
        self.0.state.send_modify(|state| {
            state.hosted.as_mut().unwrap().state = stopped;
        });
    }

    /// From now on it answers that it has what it has now, whatever it says.
    pub fn insist(&self) {
        let answer = self.0.state.borrow().clone();
        self.0.orders.lock().unwrap().answer = Some(answer);
    }

    /// Keeps operations waiting, or lets them go on.
    pub fn open(&self, is_open: bool) {
        self.0.is_open.send_replace(is_open);
    }

    /// Lets the next operation fail.
    pub fn fail_next(&self, status: Status) {
        self.0.orders.lock().unwrap().failure = Some(status);
    }

    /// The names under which checkpoints report their files from now on.
    pub fn report_files(&self, files: &[&str]) {
        self.0.orders.lock().unwrap().files = files.iter().map(ToString::to_string).collect();
    }

    /// Lets the actor in the sandbox see something that it will remember.
    pub fn teach(&self, memory: &str) {
        self.0.orders.lock().unwrap().memory = memory.into();
    }

    /// What the actor in the sandbox remembers.
    pub fn memory(&self) -> String {
        String::from_utf8(self.0.orders.lock().unwrap().memory.clone()).unwrap()
    }

    /// All that was asked so far, as `verb operation`.
    pub fn calls(&self) -> Vec<String> {
        self.0.calls.borrow().clone()
    }

    /// Of which traces it was asked to do things.
    pub fn contexts(&self) -> Vec<Option<Context>> {
        self.0.orders.lock().unwrap().contexts.clone()
    }

    /// Waits until this was asked.
    pub async fn asked(&self, call: String) {
        let mut calls = self.0.calls.subscribe();
        let is_asked = |calls: &Vec<String>| calls.contains(&call);
        calls.wait_for(is_asked).await.unwrap();
    }

    /// Waits until something was asked that begins so, after the first so many calls.
    pub async fn asked_after(&self, calls: usize, verb: &str) {
        let is_asked = |all: &Vec<String>| all.iter().skip(calls).any(|call| call.starts_with(verb));
        self.0.calls.subscribe().wait_for(is_asked).await.unwrap();
    }

    /// Waits until it was asked what it has.
    pub async fn looked_at(&self) {
        let mut looks = self.0.looks.subscribe();
        looks.wait_for(|looks| *looks > 0).await.unwrap();
    }

    /// Who is in the sandbox.
    pub fn hosts(&self) -> Option<Hosted> {
        self.0.state.borrow().hosted.clone()
    }

    /// Writes a call down, then waits at the door.
    async fn admit(&self, verb: &str, metadata: &MetadataMap) -> Result<String, Status> {
        let operation = Credentials::read(metadata)?.operation;
        let operation = operation
            .map(|operation| operation.to_string())
            .unwrap_or_default();
        let call = format!("{verb} {operation}");
        let context = trace::extract(&metadata.clone().into_headers());
        self.0.orders.lock().unwrap().contexts.push(context);
        self.0.calls.send_modify(|calls| calls.push(call));
        let mut is_open = self.0.is_open.subscribe();
        is_open.wait_for(|is_open| *is_open).await.unwrap();
        self.0
            .state
            .send_modify(|state| state.last_operation_id.clone_from(&operation));
        match self.0.orders.lock().unwrap().failure.take() {
            Some(failure) => Err(failure),
            None => Ok(operation),
        }
    }

    /// Writes a word about the actor down, and does as it says.
    fn tended(&self, verb: &str, becomes: Option<SandboxState>) {
        self.0.calls.send_modify(|calls| calls.push(verb.to_owned()));
        if let Some(sandbox) = becomes {
            self.0.state.send_modify(|state| {
                if let Some(hosted) = &mut state.hosted {
                    hosted.state = sandbox as i32;
                }
            });
        }
    }

    fn is_hosting(&self, actor: &Actor) -> bool {
        self.hosts().is_some_and(|hosted| {
            (hosted.atespace, hosted.actor_id) == (actor.atespace.clone(), actor.id.clone())
        })
    }

    fn host(&self, operation: String, actor: Actor, memory: Vec<u8>) {
        // As runsc does.
        let state = actor.dir(&self.0.base).join("runsc-state/pause.state");
        std::fs::write(state, "{}").unwrap();
        self.0.orders.lock().unwrap().memory = memory;
        let hosted = Hosted {
            actor_template_namespace: actor.namespace,
            actor_template_name: actor.template,
            actor_id: actor.id,
            state: SandboxState::Running as i32,
            operation_id: operation,
            atespace: actor.atespace,
        };
        self.0.state.send_modify(|state| state.hosted = Some(hosted));
    }
}

/// Whom a request is about. Where nobody said its atespace, that is empty.
struct Actor {
    atespace: String,
    namespace: String,
    template: String,
    id: String,
}

impl Actor {
    fn of(metadata: &MetadataMap, namespace: &str, template: &str, id: &str) -> Result<Self, Status> {
        let atespace = Credentials::read(metadata)?.atespace;
        Ok(Self {
            atespace: atespace.map(|name| name.to_string()).unwrap_or_default(),
            namespace: namespace.into(),
            template: template.into(),
            id: id.into(),
        })
    }

    fn dir(&self, base: &Path) -> PathBuf {
        let Self {
            atespace,
            namespace,
            template,
            id,
        } = self;
        // Joining nothing changes nothing.
        base.join("actors")
            .join(atespace)
            .join(format!("{namespace}:{template}:{id}"))
    }
}

/// What must be there before anything is started.
fn check_bundles(dir: &Path, runsc_path: &str) -> Result<(), Status> {
    let lacking = |what: &str| Err(Status::internal(format!("{} lacks {what}", dir.display())));
    for container in ["pause", "main"] {
        let bundle = dir.join("bundles").join(container);
        let program = if container == "pause" { "pause" } else { "app" };
        let config = std::fs::read(bundle.join("config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        if config["process"]["args"][0] != format!("/{program}") {
            return lacking("a configuration");
        }
        if !bundle.join("rootfs").join(program).exists() {
            return lacking("a root file system");
        }
    }
    let identity = std::fs::read_to_string(dir.join("identity/actor-id")).unwrap_or_default();
    if !dir.ends_with(format!("ns:counter:{identity}")) {
        return lacking("an identity");
    }
    if !Path::new(runsc_path).exists() {
        return lacking("runsc");
    }
    Ok(())
}

#[tonic::async_trait]
impl Ateom for FakeAteom {
    async fn run_workload(
        &self,
        request: Request<RunWorkloadRequest>,
    ) -> Result<Response<RunWorkloadResponse>, Status> {
        let operation = self.admit("run", request.metadata()).await?;
        let (metadata, _, asked) = request.into_parts();
        let actor = Actor::of(
            &metadata,
            &asked.actor_template_namespace,
            &asked.actor_template_name,
            &asked.actor_id,
        )?;
        check_bundles(&actor.dir(&self.0.base), &asked.runsc_path)?;
        self.host(operation, actor, MEMORY.into());
        Ok(Response::new(RunWorkloadResponse {}))
    }

    async fn checkpoint_workload(
        &self,
        request: Request<CheckpointWorkloadRequest>,
    ) -> Result<Response<CheckpointWorkloadResponse>, Status> {
        self.admit("checkpoint", request.metadata()).await?;
        let (metadata, _, asked) = request.into_parts();
        let actor = Actor::of(
            &metadata,
            &asked.actor_template_namespace,
            &asked.actor_template_name,
            &asked.actor_id,
        )?;
        if !self.is_hosting(&actor) {
            return Err(with_reason(
                &Status::data_loss("no sandbox"),
                &Reason::SandboxGone,
            ));
        }
        let file = actor.dir(&self.0.base).join("checkpoint-state/checkpoint.img");
        std::fs::write(file, self.memory())?;
        self.0.state.send_modify(|state| state.hosted = None);
        let snapshot_files = self.0.orders.lock().unwrap().files.clone();
        Ok(Response::new(CheckpointWorkloadResponse { snapshot_files }))
    }

    async fn restore_workload(
        &self,
        request: Request<RestoreWorkloadRequest>,
    ) -> Result<Response<RestoreWorkloadResponse>, Status> {
        let operation = self.admit("restore", request.metadata()).await?;
        let (metadata, _, asked) = request.into_parts();
        let actor = Actor::of(
            &metadata,
            &asked.actor_template_namespace,
            &asked.actor_template_name,
            &asked.actor_id,
        )?;
        let dir = actor.dir(&self.0.base);
        check_bundles(&dir, &asked.runsc_path)?;
        let memory = std::fs::read(dir.join("restore-state/checkpoint.img"))?;
        self.host(operation, actor, memory);
        Ok(Response::new(RestoreWorkloadResponse {}))
    }
}

#[tonic::async_trait]
impl WorkerControl for FakeAteom {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<WorkerState>, Status> {
        let answer = self.0.orders.lock().unwrap().answer.clone();
        let answer = answer.unwrap_or_else(|| self.0.state.borrow().clone());
        self.0.looks.send_modify(|looks| *looks += 1);
        Ok(Response::new(answer))
    }

    type WatchStream = BoxStream<'static, Result<WorkerState, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut states = self.0.state.subscribe();
        states.mark_changed();
        let states = stream::unfold(states, |mut states| async move {
            states.changed().await.ok()?;
            let state = states.borrow_and_update().clone();
            // A killed ateom has no incarnation any more.
            (!state.ateom_incarnation.is_empty()).then_some((Ok(state), states))
        });
        Ok(Response::new(states.boxed()))
    }

    async fn stop(
        &self,
        request: Request<StopWorkloadRequest>,
    ) -> Result<Response<StopWorkloadResponse>, Status> {
        self.admit("stop", request.metadata()).await?;
        let (metadata, _, asked) = request.into_parts();
        let actor = Actor::of(
            &metadata,
            &asked.actor_template_namespace,
            &asked.actor_template_name,
            &asked.actor_id,
        )?;
        if self.is_hosting(&actor) {
            self.0.state.send_modify(|state| state.hosted = None);
        }
        Ok(Response::new(StopWorkloadResponse {}))
    }

    async fn extend(
        &self,
        _: Request<ExtendWorkloadRequest>,
    ) -> Result<Response<ExtendWorkloadResponse>, Status> {
        self.tended("extend", None);
        Ok(Response::new(ExtendWorkloadResponse {}))
    }

    async fn freeze(
        &self,
        _: Request<FreezeWorkloadRequest>,
    ) -> Result<Response<FreezeWorkloadResponse>, Status> {
        self.tended("freeze", Some(SandboxState::Frozen));
        Ok(Response::new(FreezeWorkloadResponse {}))
    }

    async fn thaw(&self, _: Request<ThawWorkloadRequest>) -> Result<Response<ThawWorkloadResponse>, Status> {
        self.tended("thaw", Some(SandboxState::Running));
        Ok(Response::new(ThawWorkloadResponse {}))
    }
}
