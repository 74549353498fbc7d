//! An atelet that does nothing, and answers as the original's does: no fences, none of our own calls. It reports to
//! nobody, unless it is told to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_rpc::atelet::ateom_herder_server::{AteomHerder, AteomHerderServer};
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
    WorkloadSpec, restore_request,
};
use holdfast_rpc::holdfast_v1::nodes_client::NodesClient;
use holdfast_rpc::holdfast_v1::{HeartbeatRequest, HostedActor, WorkerReport};
use holdfast_rpc::metadata::Credentials;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Channel, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use tonic::metadata::MetadataMap;
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
    credentials: Credentials,
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

    /// Reports as the node `n1` does, in a pod that knows its workers by these UIDs alone, until this is dropped.
    pub fn report(&self, endpoint: &str, uids: &[&str]) -> Reporting {
        let (heard, shutdown) = (self.heard.clone(), Shutdown::new());
        let (address, uids) = (
            format!("127.0.0.1:{}", self.port),
            uids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        );
        let replica = Address::to_dial(endpoint).unwrap();
        let stop = shutdown.triggered();
        let reporting = async move {
            let mut client = NodesClient::new(Channel::new(replica, Transport::default()));
            let mut sequence = 0;
            loop {
                sequence += 1;
                let request = HeartbeatRequest {
                    node_name: "n1".into(),
                    node_incarnation: "ab".into(),
                    address: address.clone(),
                    sequence,
                    complete: true,
                    workers: uids.iter().map(|uid| heard.worker(uid)).collect(),
                    session: 1,
                    ..HeartbeatRequest::default()
                };
                // A replica that is on its way is asked again.
                let _ = client.heartbeat(request).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stop => {}
                    () = reporting => {}
                }
            });
        });
        Reporting {
            shutdown,
            thread: Some(thread),
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

/// A node that reports.
pub struct Reporting {
    shutdown: Shutdown,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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

    /// A worker as its node sees it: what was booted last is there, unless it was put to sleep.
    fn worker(&self, uid: &str) -> WorkerReport {
        let calls = self.all();
        let last = calls.iter().rev().find(|call| call.uid == uid);
        let fence = last.and_then(|call| call.credentials.worker_fence);
        let booted = last.filter(|call| !call.said.starts_with("Checkpoint"));
        let hosted = booted.map(|call| HostedActor {
            atespace: call
                .credentials
                .atespace
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            actor_id: call.said.split(' ').nth(2).unwrap_or_default().to_owned(),
            incarnation: call
                .credentials
                .incarnation
                .map(|life| life.0)
                .unwrap_or_default(),
            session: call.credentials.session.unwrap_or_default(),
            ..HostedActor::default()
        });
        let fence = fence.map(|fence| fence.0).unwrap_or_default();
        WorkerReport {
            worker_pod_uid: uid.to_owned(),
            ateom_incarnation: "1f".into(),
            reachable: true,
            // What was put to sleep has used its promise up.
            highest_fence: fence + u64::from(fence > 0 && hosted.is_none()),
            hosted,
            ..WorkerReport::default()
        }
    }

    fn note(
        &self,
        (verb, metadata): (&str, &MetadataMap),
        uid: &str,
        actor: &str,
        more: &str,
        spec: Option<WorkloadSpec>,
    ) {
        let containers = spec.unwrap_or_default().containers;
        let env = containers.into_iter().flat_map(|container| container.env);
        let call = Call {
            credentials: Credentials::read(metadata).unwrap(),
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
        let (metadata, _, request) = request.into_parts();
        self.note(
            ("Run", &metadata),
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
        let (metadata, _, request) = request.into_parts();
        self.note(
            ("Checkpoint", &metadata),
            &request.target_ateom_uid,
            &request.actor_id,
            "",
            request.spec,
        );
        Ok(Response::new(CheckpointResponse {}))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let from = match request.config {
            Some(restore_request::Config::ExternalConfig(config)) => config.snapshot_uri_prefix,
            Some(restore_request::Config::LocalConfig(config)) => config.snapshot_prefix,
            None => String::new(),
        };
        self.note(
            ("Restore", &metadata),
            &request.target_ateom_uid,
            &request.actor_id,
            &from,
            request.spec,
        );
        Ok(Response::new(RestoreResponse {}))
    }
}
