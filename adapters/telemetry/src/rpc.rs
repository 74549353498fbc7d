//! Every call that a server has answered: the original's metric, under its name and labels.

use std::time::Duration;

use holdfast_rpc::trailer::CallObserver;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

/// The original's buckets, in seconds, and finer ones below: most calls here take less than its smallest.
const SECONDS: [f64; 18] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    rpc_system_name: &'static str,
    rpc_method: String,
    rpc_response_status_code: &'static str,
}

/// Answered calls by method and code, and how long they took.
#[derive(Debug)]
pub struct Calls(Family<Labels, Histogram, fn() -> Histogram>);

impl Calls {
    pub(crate) fn new(registry: &mut Registry) -> Calls {
        let family: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(durations);
        let help = "How long calls took, by method and status code";
        registry.register_with_unit("rpc_server_call_duration", help, Unit::Seconds, family.clone());
        Calls(family)
    }
}

impl CallObserver for Calls {
    fn ended(&self, method: &str, code: Code, elapsed: Duration) {
        // What nobody serves is asked for under any name: one series for all of them.
        let method = match code {
            Code::Unimplemented => "unknown",
            _ => method.trim_start_matches('/'),
        };
        let labels = Labels {
            rpc_system_name: "grpc",
            rpc_method: method.to_owned(),
            rpc_response_status_code: name(code),
        };
        self.0.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }
}

/// A histogram of times from a quarter of a millisecond to ten seconds.
pub(crate) fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

/// A code as gRPC spells it.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
