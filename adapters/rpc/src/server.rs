//! How every Holdfast server serves.

use std::sync::Arc;

use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{self, DeadlineLayer, Listener, Transport};
use tonic::service::Routes;
use tower::Layer;

use crate::gate::{CrowdLayer, DoorLayer, Gate};
use crate::trace::Tracer;
use crate::trailer::{CallObserver, TrailerLayer};

/// Serves `routes` as [`serve_behind`] does, to everybody.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    transport: Transport,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    let nobody = Observers::default();
    serve_behind(Gate::default(), nobody, listener, routes, transport, clock, stop).await;
}

/// Who is told of the calls of a server. By default nobody.
#[derive(Clone, Default)]
pub struct Observers {
    /// Hears of every call when it has ended.
    pub calls: Option<Arc<dyn CallObserver>>,
    /// Has a span of every call.
    pub tracer: Tracer,
}

/// Serves `routes` as [`net::serve`] does, keeping callers' deadlines and accounting for every call,
/// those that their deadline ends included, and telling `observers` of them. Whom the gate's doorkeeper does not let in
/// gets an answer and nothing else: no trailer and no line in the log, as with the original.
pub async fn serve_behind(
    gate: Gate,
    observers: Observers,
    listener: Listener,
    routes: Routes,
    transport: Transport,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
) {
    let bounded = CrowdLayer::new(gate.calls_max).layer(DeadlineLayer.layer(routes.prepare()));
    let counted = TrailerLayer::new(clock).observed(observers).layer(bounded);
    let service = DoorLayer(gate.doorkeeper).layer(counted);
    net::serve(listener, service, transport, stop).await;
}
