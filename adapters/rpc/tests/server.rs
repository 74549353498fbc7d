//! Real servers and clients: what arrives at the other end of a call.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use holdfast_core::effect::Fenced;
use holdfast_core::id::{Fence, Name};
use holdfast_rpc::atelet::ateom_herder_client::AteomHerderClient;
use holdfast_rpc::atelet::ateom_herder_server::{self, AteomHerder, AteomHerderServer};
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
};
use holdfast_rpc::holdfast_v1::admin_client::AdminClient;
use holdfast_rpc::holdfast_v1::worker_control_client::WorkerControlClient;
use holdfast_rpc::holdfast_v1::worker_control_server::{WorkerControl, WorkerControlServer};
use holdfast_rpc::holdfast_v1::{
    DescribeRequest, ExplainActorRequest, ExtendWorkloadRequest, ExtendWorkloadResponse,
    FreezeWorkloadRequest, FreezeWorkloadResponse, StopWorkloadRequest, StopWorkloadResponse,
    ThawWorkloadRequest, ThawWorkloadResponse, WatchRequest, WorkerState,
};
use holdfast_rpc::metadata::Credentials;
use holdfast_rpc::reflection::introspected;
use holdfast_rpc::server;
use holdfast_rpc::status::{
    Reason, crash_actor, forward, reasons, retry_after, with_reason, with_retry_after,
};
use holdfast_rpc::trailer::ELAPSED;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Channel, Listener, Transport};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A node that crashes actors on Restore, is stale on Checkpoint, and forwards Run to another node.
#[derive(Clone, Default)]
struct Node {
    next: Option<AteomHerderClient<Channel>>,
}

#[tonic::async_trait]
impl AteomHerder for Node {
    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        if let Some(mut next) = self.next.clone() {
            next.restore(RestoreRequest::default())
                .await
                .map_err(|status| forward(&status))?;
        }
        let credentials = Credentials::read(request.metadata())?;
        match request.get_ref().actor_id.as_str() {
            "stuck" => std::future::pending().await,
            "fenced" if credentials.actor_fence != Some(Fence(7)) => Err(Status::internal("no fence")),
            _ => Ok(Response::new(RunResponse {})),
        }
    }

    async fn checkpoint(
        &self,
        _: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let reason = Reason::StaleFence {
            of: Fenced::Actor,
            highest: Fence(12),
        };
        let status = with_reason(&Status::aborted("stale fence"), &reason);
        Err(with_retry_after(&status, Duration::from_millis(250)))
    }

    async fn restore(&self, _: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        Err(crash_actor("snapshot corrupt"))
    }
}

#[tonic::async_trait]
impl WorkerControl for Node {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<WorkerState>, Status> {
        Ok(Response::new(WorkerState::default()))
    }

    type WatchStream = BoxStream<'static, Result<WorkerState, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let states = [
            Ok(WorkerState::default()),
            Err(Status::unavailable("ateom stops")),
        ];
        Ok(Response::new(futures_util::stream::iter(states).boxed()))
    }

    async fn stop(&self, _: Request<StopWorkloadRequest>) -> Result<Response<StopWorkloadResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn extend(
        &self,
        _: Request<ExtendWorkloadRequest>,
    ) -> Result<Response<ExtendWorkloadResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn freeze(
        &self,
        _: Request<FreezeWorkloadRequest>,
    ) -> Result<Response<FreezeWorkloadResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn thaw(&self, _: Request<ThawWorkloadRequest>) -> Result<Response<ThawWorkloadResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Server {
    channel: Channel,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(node: Node) -> Self {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let channel = Channel::new(listener.address().clone(), Transport::default());
        let shutdown = Shutdown::new();
        let routes =
            Routes::new(AteomHerderServer::new(node.clone())).add_service(WorkerControlServer::new(node));
        let (routes, _) = introspected(routes, &[ateom_herder_server::SERVICE_NAME])
            .await
            .unwrap();
        let serving = server::serve(
            listener,
            routes,
            Transport::default(),
            Arc::new(SystemClock),
            shutdown.triggered(),
        );
        Self {
            channel,
            shutdown,
            task: tokio::spawn(serving),
        }
    }

    fn node(&self) -> AteomHerderClient<Channel> {
        AteomHerderClient::new(self.channel.clone())
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

fn elapsed(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(ELAPSED)?.to_str().ok()?.parse().ok()
}

#[tokio::test]
async fn a_method_that_the_server_does_not_have_is_named_in_the_answer() {
    let server = Server::start(Node::default()).await;
    let mut stranger = AdminClient::new(server.channel.clone());
    let unknown = stranger.explain_actor(ExplainActorRequest::default()).await;
    let status = unknown.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let expected = "this server has no method /holdfast.v1.Admin/ExplainActor";
    assert_eq!(status.message(), expected);
    server.stop().await;
}

#[tokio::test]
async fn the_trailer_is_there_on_success_and_on_failure() {
    let server = Server::start(Node::default()).await;
    let success = server.node().run(RunRequest::default()).await.unwrap();
    assert!(elapsed(success.metadata()).is_some(), "{:?}", success.metadata());

    let failure = server
        .node()
        .restore(RestoreRequest::default())
        .await
        .unwrap_err();
    assert!(elapsed(failure.metadata()).is_some(), "{:?}", failure.metadata());

    let mut request = Request::new(RunRequest {
        actor_id: "stuck".to_owned(),
        ..RunRequest::default()
    });
    request
        .metadata_mut()
        .insert("grpc-timeout", "20m".parse().unwrap());
    let late = server.node().run(request).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(elapsed(late.metadata()).unwrap() >= 20_000);

    let mut watch = WorkerControlClient::new(server.channel.clone())
        .watch(WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    watch.message().await.unwrap().unwrap();
    let broken = watch.message().await.unwrap_err();
    assert_eq!(broken.code(), Code::Unavailable);
    assert!(
        elapsed(broken.metadata()).is_some(),
        "a stream that fails later has it as well"
    );
    server.stop().await;
}

#[tokio::test]
async fn reasons_survive_every_hop() {
    let last = Server::start(Node::default()).await;
    let first = Server::start(Node {
        next: Some(last.node()),
    })
    .await;

    let stale = last
        .node()
        .checkpoint(CheckpointRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        reasons(&stale),
        [Reason::StaleFence {
            of: Fenced::Actor,
            highest: Fence(12)
        }]
    );
    assert_eq!(retry_after(&stale), Some(Duration::from_millis(250)));

    let crashed = first.node().run(RunRequest::default()).await.unwrap_err();
    assert_eq!(
        (crashed.code(), crashed.message()),
        (Code::DataLoss, "snapshot corrupt")
    );
    assert_eq!(reasons(&crashed), [Reason::CrashActor]);
    assert_eq!(
        crashed.metadata().get_all(ELAPSED).iter().count(),
        1,
        "each server speaks for itself"
    );
    first.stop().await;
    last.stop().await;
}

#[tokio::test]
async fn fences_travel_as_metadata() {
    let server = Server::start(Node::default()).await;
    let mut request = Request::new(RunRequest {
        actor_id: "fenced".to_owned(),
        ..RunRequest::default()
    });
    let credentials = Credentials {
        actor_fence: Some(Fence(7)),
        atespace: Some(Name::from("team-a")),
        ..Credentials::default()
    };
    credentials.write(request.metadata_mut()).unwrap();
    server.node().run(request).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_server_tells_its_services_and_their_health() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = Server::start(Node::default()).await;
    let service = ateom_herder_server::SERVICE_NAME.to_owned();
    let health = HealthClient::new(server.channel.clone())
        .check(HealthCheckRequest {
            service: service.clone(),
        })
        .await
        .unwrap();
    assert_eq!(
        health.get_ref().status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );

    let ask = |message_request| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        async move {
            let requests = futures_util::stream::iter([request]);
            let mut answers = client
                .server_reflection_info(requests)
                .await
                .unwrap()
                .into_inner();
            answers
                .message()
                .await
                .unwrap()
                .unwrap()
                .message_response
                .unwrap()
        }
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("a list of services");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert_eq!(
        names,
        [
            "atelet.AteomHerder",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection"
        ]
    );
    let described = ask(MessageRequest::FileContainingSymbol(service)).await;
    assert!(
        matches!(described, MessageResponse::FileDescriptorResponse(_)),
        "{described:?}"
    );
    server.stop().await;
}
