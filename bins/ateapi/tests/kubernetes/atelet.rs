//! An atelet that does nothing, and answers as the original's does: no fences, no reports, none of our own calls.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_rpc::atelet::ateom_herder_server::{AteomHerder, AteomHerderServer};
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
    WorkloadSpec, restore_request,
};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use tonic::{Request, Response, Status};

/// An atelet for every node, on one free port of loopback.
pub struct Atelet {
    heard: Heard,
    port: u16,
    shutdown: Shutdown,
    serving: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Call>>>);

#[derive(Clone)]
struct Call {
    said: String,
    uid: String,
    env: Vec<(String, String)>,
}

impl Atelet {
    pub fn serve() -> Atelet {
        let (heard, shutdown) = (Heard::default(), Shutdown::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let local: Address = "127.0.0.1:0".parse().unwrap();
        let listener = runtime.block_on(Listener::bind(&local)).unwrap();
        let address = listener.address().to_string();
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let routes = tonic::service::Routes::new(AteomHerderServer::new(heard.clone()));
        let stop = shutdown.triggered();
        let serving = std::thread::spawn(move || {
            let clock = Arc::new(SystemClock);
            runtime.block_on(holdfast_rpc::server::serve(
                listener,
                routes,
                Transport::default(),
                clock,
                stop,
            ));
        });
        Atelet {
            heard,
            port,
            shutdown,
            serving: Some(serving),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every call so far: what, on which pod, for which actor.
    pub fn calls(&self) -> Vec<String> {
        self.heard.all().into_iter().map(|call| call.said).collect()
    }

    /// The pod of the last call.
    pub fn last_uid(&self) -> String {
        self.heard.all().pop().unwrap().uid
    }

    /// The environment of the container in the last call.
    pub fn last_env(&self) -> Vec<(String, String)> {
        self.heard.all().pop().unwrap().env
    }
}

impl Drop for Atelet {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(serving) = self.serving.take() {
            // It panics only if we are wrong, and then a test has already failed.
            let _ = serving.join();
        }
    }
}

impl Heard {
    fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, verb: &str, uid: &str, actor: &str, more: &str, spec: Option<WorkloadSpec>) {
        let containers = spec.unwrap_or_default().containers;
        let env = containers.into_iter().flat_map(|container| container.env);
        let call = Call {
            said: format!("{verb} {uid} {actor} {more}").trim_end().to_owned(),
            uid: uid.to_owned(),
            env: env.map(|entry| (entry.name, entry.value)).collect(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

#[tonic::async_trait]
impl AteomHerder for Heard {
    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        let request = request.into_inner();
        self.note(
            "Run",
            &request.target_ateom_uid,
            &request.actor_id,
            "",
            request.spec,
        );
        Ok(Response::new(RunResponse {}))
    }

    async fn checkpoint(
        &self,
        request: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let request = request.into_inner();
        self.note(
            "Checkpoint",
            &request.target_ateom_uid,
            &request.actor_id,
            "",
            request.spec,
        );
        Ok(Response::new(CheckpointResponse {}))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        let request = request.into_inner();
        let from = match request.config {
            Some(restore_request::Config::ExternalConfig(config)) => config.snapshot_uri_prefix,
            Some(restore_request::Config::LocalConfig(config)) => config.snapshot_prefix,
            None => String::new(),
        };
        self.note(
            "Restore",
            &request.target_ateom_uid,
            &request.actor_id,
            &from,
            request.spec,
        );
        Ok(Response::new(RestoreResponse {}))
    }
}
