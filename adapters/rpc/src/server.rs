//! How every Holdfast server serves.

use std::sync::Arc;

use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{self, DeadlineLayer, Listener, Transport};
use tonic::service::Routes;
use tower::Layer;

use crate::trailer::TrailerLayer;

/// Serves `routes` as [`net::serve`] does, keeping callers' deadlines and accounting for every call,
/// those that their deadline ends included.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    transport: Transport,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    let service = TrailerLayer::new(clock).layer(DeadlineLayer.layer(routes.prepare()));
    net::serve(listener, service, transport, stop).await;
}
