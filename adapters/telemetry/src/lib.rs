//! What operators are told: metrics in the form that Prometheus reads, and whether a process is alive and ready.
//!
//! ```text
//! calls  --CallObserver-->  rpc ------+
//! Replica machine --inputs, outputs--> replica --+--> Registry --> http: /metrics
//!                                        |
//!                                        +--> Health ------------> http: /readyz, /healthz; grpc.health.v1
//! ```
//!
//! Nothing is measured inside of a machine: what it hears, what it asks for, and when, say it all. So the core
//! knows nothing of metrics, and what is counted is what was decided.

pub mod health;
pub mod http;
pub mod node;
pub mod otlp;
pub mod replica;
pub mod rpc;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_rpc::trace::Tracer;
use holdfast_runtime::entropy;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use health::Health;

/// All metrics of a process, and its health. Clones are the same.
#[derive(Clone)]
pub struct Telemetry {
    registry: Arc<Mutex<Registry>>,
    rpc: Arc<rpc::Calls>,
    health: Health,
    tracer: Tracer,
}

impl Telemetry {
    /// Of a process of this name, one of several.
    pub fn new(service: &'static str) -> Telemetry {
        let mut registry = Registry::default();
        let target = Info::new([
            ("service_name", service.to_owned()),
            ("service_instance_id", format!("{:032x}", entropy::fresh_u128())),
        ]);
        registry.register("target", "Which process this is", target);
        let rpc = Arc::new(rpc::Calls::new(&mut registry));
        Telemetry {
            registry: Arc::new(Mutex::new(registry)),
            rpc,
            health: Health::default(),
            tracer: Tracer::default(),
        }
    }

    /// The same, and spans are made by this one.
    #[must_use]
    pub fn traced(self, tracer: Tracer) -> Telemetry {
        Telemetry { tracer, ..self }
    }

    /// Makes spans, or none.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Whether the process is alive and ready.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Who is told of every call.
    pub fn calls(&self) -> Arc<rpc::Calls> {
        self.rpc.clone()
    }

    /// Has more metrics registered.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as they are now, in the text form of OpenMetrics 1.0.
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}
