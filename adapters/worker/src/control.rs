//! What the original's service lacks.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use holdfast_core::time::Instant;
use holdfast_rpc::holdfast_v1::worker_control_server::WorkerControl;
use holdfast_rpc::holdfast_v1::{
    DescribeRequest, ExtendWorkloadRequest, ExtendWorkloadResponse, FreezeWorkloadRequest,
    FreezeWorkloadResponse, StopWorkloadRequest, StopWorkloadResponse, ThawWorkloadRequest,
    ThawWorkloadResponse, WatchRequest, WorkerState,
};
use holdfast_runtime::shutdown::Shutdown;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::activity::Activity;
use crate::request::{Kind, NamesActor, Operation};
use crate::slot::Slot;

pub(crate) struct ControlService {
    pub slot: Arc<Slot>,
    pub activity: Activity,
    pub shutdown: Shutdown,
}

impl ControlService {
    async fn perform(
        &self,
        metadata: &MetadataMap,
        body: &impl NamesActor,
        kind: Kind,
    ) -> Result<(), Status> {
        let _call = self.activity.begin();
        let operation = Operation::read(metadata, body, kind)?;
        self.slot.perform(operation, None).await.map(drop)
    }
}

#[tonic::async_trait]
impl WorkerControl for ControlService {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<WorkerState>, Status> {
        let _call = self.activity.begin();
        Ok(Response::new(self.slot.watch().borrow().clone()))
    }

    type WatchStream = BoxStream<'static, Result<WorkerState, Status>>;

    /// The state now, and after each change. A reader that is slow sees the newest, not every one.
    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut receiver = self.slot.watch();
        receiver.mark_changed();
        let watching = (receiver, self.activity.begin());
        let states = stream::unfold(watching, |(mut receiver, call)| async move {
            receiver.changed().await.ok()?;
            let state = receiver.borrow_and_update().clone();
            Some((Ok(state), (receiver, call)))
        });
        // A server that stops waits for its calls, and this one would never end.
        Ok(Response::new(
            states.take_until(self.shutdown.triggered()).boxed(),
        ))
    }

    async fn stop(
        &self,
        request: Request<StopWorkloadRequest>,
    ) -> Result<Response<StopWorkloadResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        self.perform(&metadata, &body, Kind::Stop).await?;
        Ok(Response::new(StopWorkloadResponse {}))
    }

    async fn extend(
        &self,
        request: Request<ExtendWorkloadRequest>,
    ) -> Result<Response<ExtendWorkloadResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        let until = Instant::from_micros(body.until_us);
        self.perform(&metadata, &body, Kind::Extend(until)).await?;
        Ok(Response::new(ExtendWorkloadResponse {}))
    }

    async fn freeze(
        &self,
        request: Request<FreezeWorkloadRequest>,
    ) -> Result<Response<FreezeWorkloadResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        self.perform(&metadata, &body, Kind::Freeze).await?;
        Ok(Response::new(FreezeWorkloadResponse {}))
    }

    async fn thaw(
        &self,
        request: Request<ThawWorkloadRequest>,
    ) -> Result<Response<ThawWorkloadResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        let until = body.until_us.map(Instant::from_micros);
        self.perform(&metadata, &body, Kind::Thaw(until)).await?;
        Ok(Response::new(ThawWorkloadResponse {}))
    }
}
