//! The original's service.

use std::sync::Arc;

use holdfast_rpc::ateom::ateom_server::Ateom;
use holdfast_rpc::ateom::{
    CheckpointWorkloadRequest, CheckpointWorkloadResponse, RestoreWorkloadRequest, RestoreWorkloadResponse,
    RunWorkloadRequest, RunWorkloadResponse,
};
use tonic::{Request, Response, Status};

use crate::activity::Activity;
use crate::request::{Kind, Operation, Workload, scope};
use crate::slot::Slot;

pub(crate) struct AteomService {
    pub slot: Arc<Slot>,
    pub activity: Activity,
}

#[tonic::async_trait]
impl Ateom for AteomService {
    async fn run_workload(
        &self,
        request: Request<RunWorkloadRequest>,
    ) -> Result<Response<RunWorkloadResponse>, Status> {
        let _call = self.activity.begin();
        let (metadata, _, body) = request.into_parts();
        let operation = Operation::read(&metadata, &body, Kind::Run)?;
        let workload = Workload::read(&metadata, &body.runsc_path, body.spec.as_ref())?;
        self.slot.perform(operation, Some(workload)).await?;
        Ok(Response::new(RunWorkloadResponse {}))
    }

    async fn checkpoint_workload(
        &self,
        request: Request<CheckpointWorkloadRequest>,
    ) -> Result<Response<CheckpointWorkloadResponse>, Status> {
        let _call = self.activity.begin();
        let (metadata, _, body) = request.into_parts();
        let operation = Operation::read(&metadata, &body, Kind::Checkpoint(scope(body.scope)?))?;
        let snapshot_files = self.slot.perform(operation, None).await?;
        Ok(Response::new(CheckpointWorkloadResponse { snapshot_files }))
    }

    async fn restore_workload(
        &self,
        request: Request<RestoreWorkloadRequest>,
    ) -> Result<Response<RestoreWorkloadResponse>, Status> {
        let _call = self.activity.begin();
        let (metadata, _, body) = request.into_parts();
        let operation = Operation::read(&metadata, &body, Kind::Restore(scope(body.scope)?))?;
        let workload = Workload::read(&metadata, &body.runsc_path, body.spec.as_ref())?;
        self.slot.perform(operation, Some(workload)).await?;
        Ok(Response::new(RestoreWorkloadResponse {}))
    }
}
