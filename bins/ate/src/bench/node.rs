//! `ate bench node`: nodes that do nothing. What is ordered of them is done at once, as far as anybody can see.
//!
//! They report to the control plane as nodes do, and say truthfully which actor each worker would host, so that
//! nothing there is repaired that is not broken. The original's control plane asks for no reports; it finds nodes
//! by their pods.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use holdfast_core::id::Fence;
use holdfast_rpc::atelet::ateom_herder_server::{AteomHerder, AteomHerderServer};
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
};
use holdfast_rpc::holdfast_v1::node_control_server::{NodeControl, NodeControlServer};
use holdfast_rpc::holdfast_v1::nodes_client::NodesClient;
use holdfast_rpc::holdfast_v1::{
    DiscardRequest, DiscardResponse, Eviction, HeartbeatRequest, HostedActor, InventoryRequest,
    InventoryResponse, SandboxState, StopRequest, StopResponse, ThawRequest, ThawResponse, UploadRequest,
    UploadResponse, WorkerReport,
};
use holdfast_rpc::metadata::Credentials;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Channel, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::terminal::tell;
use holdfast_runtime::{duration, entropy, tokio};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::cli::{self, Options, TemplateRef};
use crate::failure::Failure;

/// How long a report may go unanswered, and how soon another is tried.
const REPORT_WITHIN: Duration = Duration::from_secs(10);
const REPORT_AGAIN: Duration = Duration::from_secs(1);
/// The most that a control plane accepts of one node.
const WORKERS_PER_NODE: usize = 4096;

#[derive(Debug, Args)]
pub struct Node {
    /// Where to serve: host:port or unix:/path. It is plaintext; port 0 takes any
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8085")]
    listen: Address,
    /// The pool of the workers, which the control plane has to know of
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = cli::template)]
    pool: TemplateRef,
    /// How many workers there are
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    workers: u32,
    /// On how many nodes they are [default: one for 1000 workers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    nodes: Option<u32>,
    /// How long each order takes
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    takes: Duration,
    /// Serve only, and report to nobody, as for a control plane that finds nodes by itself
    #[arg(long)]
    silent: bool,
}

impl Node {
    pub async fn run(self, options: Options) -> Result<(), Failure> {
        let nodes = self.nodes.unwrap_or_else(|| self.workers.div_ceil(1000)) as usize;
        let workers = self.workers as usize;
        if workers.div_ceil(nodes) > WORKERS_PER_NODE {
            return Err(Failure::Input(anyhow::anyhow!(
                "--nodes {nodes} for --workers {workers}: a node has at most {WORKERS_PER_NODE} workers"
            )));
        }
        let listener = Listener::bind(&self.listen)
            .await
            .map_err(|error| Failure::Cluster(anyhow::anyhow!("--listen: {error}")))?;
        let address = listener.address().clone();
        let shutdown = Shutdown::on_signal().map_err(Failure::Runtime)?;
        let service = Service {
            workers: Arc::new(Mutex::new(all(&self.pool, workers))),
            takes: self.takes,
        };
        tell(format_args!(
            "serving {workers} workers of {nodes} nodes on {address}; Ctrl-C ends it"
        ));
        if !self.silent {
            let security = options.trust.open(&options.endpoint)?;
            let channel = Channel::secured(options.endpoint, Transport::default(), security);
            for node in 0..nodes {
                let share = workers * node / nodes..workers * (node + 1) / nodes;
                let name = format!("bench-node-{node}");
                tokio::spawn(report(
                    channel.clone(),
                    service.clone(),
                    name,
                    address.to_string(),
                    share,
                ));
            }
        }
        let routes =
            Routes::new(AteomHerderServer::new(service.clone())).add_service(NodeControlServer::new(service));
        holdfast_rpc::server::serve(
            listener,
            routes,
            Transport::default(),
            Arc::new(SystemClock),
            shutdown.triggered(),
        )
        .await;
        Ok(())
    }
}

/// Reports the workers of one node for ever.
async fn report(
    channel: Channel,
    service: Service,
    name: String,
    address: String,
    share: std::ops::Range<usize>,
) {
    let mut nodes = NodesClient::new(channel);
    let mut request = HeartbeatRequest {
        node_name: name,
        node_incarnation: format!("{:016x}", entropy::fresh_u64()),
        address,
        complete: true,
        ..HeartbeatRequest::default()
    };
    let mut is_heard = true;
    loop {
        request.sequence += 1;
        request.workers = service.reports(share.clone());
        let answer = tokio::time::timeout(REPORT_WITHIN, nodes.heartbeat(request.clone())).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let pause = match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                service.evict(&answer.evictions);
                request.lapsed = answer.lapsed.unwrap_or(request.lapsed).max(request.lapsed);
                is_heard = true;
                Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0))
                    .max(REPORT_AGAIN)
            }
            Err(status) => {
                if std::mem::replace(&mut is_heard, false) {
                    tell(format_args!(
                        "{} is not heard: {}",
                        request.node_name,
                        status.message()
                    ));
                }
                REPORT_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Every worker, by the UID of its pod, which is also their order.
type Workers = BTreeMap<String, WorkerReport>;

fn all(pool: &TemplateRef, count: usize) -> Workers {
    let incarnation = format!("{:016x}", entropy::fresh_u64());
    let worker = |nth: usize| {
        let uid = format!("bench-worker-{nth:07}");
        let [_, a, b, c] = u32::try_from(nth).unwrap_or(0).to_be_bytes();
        let report = WorkerReport {
            worker_namespace: pool.namespace.clone(),
            worker_pool: pool.name.clone(),
            worker_pod: uid.clone(),
            worker_pod_uid: uid.clone(),
            // Nobody sends anything there; a router that did would stay on this machine.
            ip: format!("127.{a}.{b}.{c}"),
            ateom_incarnation: incarnation.clone(),
            reachable: true,
            ..WorkerReport::default()
        };
        (uid, report)
    };
    (0..count).map(worker).collect()
}

#[derive(Clone)]
struct Service {
    workers: Arc<Mutex<Workers>>,
    takes: Duration,
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self, share: std::ops::Range<usize>) -> Vec<WorkerReport> {
        self.lock()
            .values()
            .skip(share.start)
            .take(share.len())
            .cloned()
            .collect()
    }

    fn evict(&self, evictions: &[Eviction]) {
        let mut workers = self.lock();
        for eviction in evictions {
            if let Some(worker) = workers.get_mut(&eviction.worker_pod_uid)
                && worker.highest_fence <= eviction.worker_fence
            {
                worker.hosted = None;
            }
        }
    }

    /// Does what is ordered: from now on the worker hosts that actor, or nobody.
    async fn obey(&self, metadata: &MetadataMap, uid: &str, actor: Option<&str>) -> Result<(), Status> {
        let credentials = Credentials::read(metadata)?;
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let mut workers = self.lock();
        let Some(worker) = workers.get_mut(uid) else {
            // The original's control plane has workers of its own, of which nothing is remembered here.
            return Ok(());
        };
        let fence = credentials.worker_fence.unwrap_or(Fence(0)).0;
        if fence < worker.highest_fence {
            return Err(Status::aborted(format!(
                "worker {uid} has seen fence {}, which is above {fence}",
                worker.highest_fence
            )));
        }
        worker.highest_fence = fence;
        worker.hosted = actor.map(|actor| HostedActor {
            atespace: credentials
                .atespace
                .map(|name| name.to_string())
                .unwrap_or_default(),
            actor_id: actor.to_owned(),
            incarnation: credentials.incarnation.map_or(0, |incarnation| incarnation.0),
            actor_fence: credentials.actor_fence.map_or(0, |fence| fence.0),
            worker_fence: fence,
            operation_id: credentials.operation.map(|op| op.to_string()).unwrap_or_default(),
            state: SandboxState::Running as i32,
            session: credentials.session.unwrap_or(0),
        });
        Ok(())
    }
}

#[tonic::async_trait]
impl AteomHerder for Service {
    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        let (metadata, _, order) = request.into_parts();
        self.obey(&metadata, &order.target_ateom_uid, Some(&order.actor_id))
            .await?;
        Ok(Response::new(RunResponse {}))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        let (metadata, _, order) = request.into_parts();
        self.obey(&metadata, &order.target_ateom_uid, Some(&order.actor_id))
            .await?;
        Ok(Response::new(RestoreResponse {}))
    }

    async fn checkpoint(
        &self,
        request: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let (metadata, _, order) = request.into_parts();
        self.obey(&metadata, &order.target_ateom_uid, None).await?;
        Ok(Response::new(CheckpointResponse {}))
    }
}

#[tonic::async_trait]
impl NodeControl for Service {
    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        let (metadata, _, order) = request.into_parts();
        self.obey(&metadata, &order.target_ateom_uid, None).await?;
        Ok(Response::new(StopResponse {}))
    }

    async fn thaw(&self, request: Request<ThawRequest>) -> Result<Response<ThawResponse>, Status> {
        let (metadata, _, order) = request.into_parts();
        self.obey(&metadata, &order.target_ateom_uid, Some(&order.actor_id))
            .await?;
        Ok(Response::new(ThawResponse {}))
    }

    async fn upload(&self, _: Request<UploadRequest>) -> Result<Response<UploadResponse>, Status> {
        Ok(Response::new(UploadResponse {}))
    }

    async fn discard(&self, _: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        Ok(Response::new(DiscardResponse {}))
    }

    async fn inventory(&self, _: Request<InventoryRequest>) -> Result<Response<InventoryResponse>, Status> {
        let workers = self.lock().values().cloned().collect();
        Ok(Response::new(InventoryResponse { workers }))
    }
}
