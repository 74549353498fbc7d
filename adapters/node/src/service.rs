//! The node's services: requests become orders, answers become statuses.

use std::sync::Arc;

use holdfast_core::failure::Code;
use holdfast_core::node::Order;
use holdfast_rpc::atelet::ateom_herder_server::AteomHerder;
use holdfast_rpc::atelet::{
    CheckpointRequest, CheckpointResponse, RestoreRequest, RestoreResponse, RunRequest, RunResponse,
};
use holdfast_rpc::failure::node_to_status;
use holdfast_rpc::holdfast_v1::node_control_server::NodeControl;
use holdfast_rpc::holdfast_v1::{
    DiscardRequest, DiscardResponse, InventoryRequest, InventoryResponse, StopRequest, StopResponse,
    ThawRequest, ThawResponse, UploadRequest, UploadResponse,
};
use tonic::{Request, Response, Status};

use crate::desk::{Desk, Gone};
use crate::disposal::Disposal;
use crate::heartbeat::Heartbeat;
use crate::order;

/// `atelet.AteomHerder` and `holdfast.v1.NodeControl`.
#[derive(Clone)]
pub(crate) struct Service {
    pub desk: Desk,
    pub heartbeat: Arc<Heartbeat>,
    pub disposal: Disposal,
    /// This machine's architecture, in the names Go has for them.
    pub architecture: Arc<str>,
}

impl Service {
    async fn place(&self, order: Order) -> Result<(), Status> {
        let is_originals = order.op.is_none();
        match self.desk.place(order).await {
            // The original's control plane hands codes on to whoever asked, to whom this one would say that there
            // is no such actor. A worker that is not here yet may be in a moment.
            Ok(Err(failure)) if is_originals && failure.code == Code::NotFound => {
                Err(Status::unavailable(failure.message))
            }
            Ok(reply) => reply.map_err(|failure| node_to_status(&failure)),
            Err(Gone) => Err(Status::unavailable("atelet is shutting down; ask again")),
        }
    }
}

#[tonic::async_trait]
impl AteomHerder for Service {
    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        self.place(order::run(request, &self.architecture)?).await?;
        Ok(Response::new(RunResponse {}))
    }

    async fn checkpoint(
        &self,
        request: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        self.place(order::checkpoint(request)?).await?;
        Ok(Response::new(CheckpointResponse {}))
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        self.place(order::restore(request)?).await?;
        Ok(Response::new(RestoreResponse {}))
    }
}

#[tonic::async_trait]
impl NodeControl for Service {
    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        self.place(order::stop(request)?).await?;
        Ok(Response::new(StopResponse {}))
    }

    async fn thaw(&self, request: Request<ThawRequest>) -> Result<Response<ThawResponse>, Status> {
        self.place(order::thaw(request)?).await?;
        Ok(Response::new(ThawResponse {}))
    }

    async fn upload(&self, request: Request<UploadRequest>) -> Result<Response<UploadResponse>, Status> {
        self.place(order::upload(request)?).await?;
        Ok(Response::new(UploadResponse {}))
    }

    async fn discard(&self, request: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        self.disposal.discard(&order::discard(request)?).await?;
        Ok(Response::new(DiscardResponse {}))
    }

    async fn inventory(&self, _: Request<InventoryRequest>) -> Result<Response<InventoryResponse>, Status> {
        let workers = self.heartbeat.workers();
        Ok(Response::new(InventoryResponse { workers }))
    }
}
