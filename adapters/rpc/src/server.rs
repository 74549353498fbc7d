//! How every Holdfast server serves.

use std::sync::Arc;

use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{self, DeadlineLayer, Listener, Transport};
use tonic::service::Routes;
use tower::Layer;

use crate::trailer::{CallObserver, TrailerLayer};

/// Serves `routes` as [`net::serve`] does, keeping callers' deadlines and accounting for every call,
/// those that their deadline ends included.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    transport: Transport,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    serve_observed(None, listener, routes, transport, clock, stop).await;
}

/// The same, and `observer` is told of every call.
pub async fn serve_observed(
    observer: Option<Arc<dyn CallObserver>>,
    listener: Listener,
    routes: Routes,
    transport: Transport,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    let service = TrailerLayer::new(clock)
        .observed(observer)
        .layer(DeadlineLayer.layer(routes.prepare()));
    net::serve(listener, service, transport, stop).await;
}
