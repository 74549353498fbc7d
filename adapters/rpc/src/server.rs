//! How every Holdfast server serves.

use std::sync::Arc;

use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{self, DeadlineLayer, Listener, Transport};
use tonic::service::Routes;
use tower::Layer;

use crate::gate::{CrowdLayer, DoorLayer, Gate};
use crate::trailer::{CallObserver, TrailerLayer};

/// Serves `routes` as [`serve_behind`] does, to everybody.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    transport: Transport,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    serve_behind(Gate::default(), None, listener, routes, transport, clock, stop).await;
}

/// Serves `routes` as [`net::serve`] does, keeping callers' deadlines and accounting for every call,
/// those that their deadline ends included, and telling `observer` of them. Whom the gate's doorkeeper does not let in
/// gets an answer and nothing else: no trailer and no line in the log, as with the original.
pub async fn serve_behind(
    gate: Gate,
    observer: Option<Arc<dyn CallObserver>>,
    listener: Listener,
    routes: Routes,
    transport: Transport,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    let bounded = CrowdLayer::new(gate.calls_max).layer(DeadlineLayer.layer(routes.prepare()));
    let counted = TrailerLayer::new(clock).observed(observer).layer(bounded);
    let service = DoorLayer(gate.doorkeeper).layer(counted);
    net::serve(listener, service, transport, stop).await;
}
