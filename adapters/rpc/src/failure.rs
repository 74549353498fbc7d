//! Failures and statuses, in both directions. The core says what went wrong; here it gets its gRPC form.

use holdfast_core::effect::{NodeFailure, NodeFailureKind};
use holdfast_core::failure::{Code, Failure};
use tonic::Status;

use crate::status::{Reason, crash_actor, reasons, with_reason, with_retry_after};

/// A verdict's failure as the caller of ateapi sees it.
pub fn to_status(failure: &Failure) -> Status {
    let status = if failure.crashed {
        crash_actor(failure.message.clone())
    } else {
        Status::new(to_tonic(failure.code), failure.message.clone())
    };
    match failure.retry_after {
        Some(delay) => with_retry_after(&status, delay),
        None => status,
    }
}

/// A failed order as ateapi, ours or the original's, hears of it from a node.
pub fn node_to_status(failure: &NodeFailure) -> Status {
    let status = Status::new(to_tonic(failure.code), failure.message.clone());
    let reason = match failure.kind {
        NodeFailureKind::Crash => return crash_actor(failure.message.clone()),
        NodeFailureKind::SandboxGone => Reason::SandboxGone,
        NodeFailureKind::StaleFence { of, highest } => Reason::StaleFence { of, highest },
        NodeFailureKind::Busy => Reason::Busy,
        NodeFailureKind::SessionOver => Reason::SessionOver,
        NodeFailureKind::Occupied => Reason::Occupied,
        NodeFailureKind::NotBegun => Reason::NotBegun,
        NodeFailureKind::Failed => Reason::OperationFailed,
        // A node does not say of itself that it cannot be reached.
        NodeFailureKind::Unreachable => return status,
    };
    with_reason(&status, &reason)
}

/// What a node's status means. Without a reason of ours (the original attaches one only to crashes) a
/// code that a broken connection may produce leaves the outcome open; any other code is an outcome.
pub fn node_from_status(status: &Status) -> NodeFailure {
    let stated = reasons(status).into_iter().next().map(|reason| match reason {
        Reason::CrashActor => NodeFailureKind::Crash,
        Reason::StaleFence { of, highest } => NodeFailureKind::StaleFence { of, highest },
        Reason::Busy => NodeFailureKind::Busy,
        Reason::SessionOver => NodeFailureKind::SessionOver,
        Reason::Occupied => NodeFailureKind::Occupied,
        Reason::SandboxGone => NodeFailureKind::SandboxGone,
        Reason::NotBegun => NodeFailureKind::NotBegun,
        Reason::OperationFailed => NodeFailureKind::Failed,
    });
    let kind = stated.unwrap_or(match status.code() {
        tonic::Code::Unavailable
        | tonic::Code::Unknown
        | tonic::Code::Cancelled
        | tonic::Code::DeadlineExceeded => NodeFailureKind::Unreachable,
        _ => NodeFailureKind::Failed,
    });
    NodeFailure {
        code: from_tonic(status.code()),
        message: status.message().to_owned(),
        kind,
    }
}

/// The core's code in tonic's words.
pub fn to_tonic(code: Code) -> tonic::Code {
    tonic::Code::from_i32(code as i32)
}

/// Tonic's code in the core's words; there is no failure with OK, so that becomes `Unknown`.
pub fn from_tonic(code: tonic::Code) -> Code {
    match code {
        tonic::Code::Ok | tonic::Code::Unknown => Code::Unknown,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Internal => Code::Internal,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::effect::Fenced;
    use holdfast_core::id::Fence;

    #[test]
    fn what_a_node_says_of_a_failure_survives_the_wire() {
        let highest = Fence(7);
        for (code, kind) in [
            (Code::DataLoss, NodeFailureKind::Crash),
            (Code::DataLoss, NodeFailureKind::SandboxGone),
            (Code::Unavailable, NodeFailureKind::SessionOver),
            (Code::Unavailable, NodeFailureKind::NotBegun),
            (
                Code::FailedPrecondition,
                NodeFailureKind::StaleFence {
                    of: Fenced::Actor,
                    highest,
                },
            ),
            (
                Code::FailedPrecondition,
                NodeFailureKind::StaleFence {
                    of: Fenced::Worker,
                    highest,
                },
            ),
            (Code::Aborted, NodeFailureKind::Busy),
            (Code::FailedPrecondition, NodeFailureKind::Occupied),
            (Code::Unavailable, NodeFailureKind::Failed),
        ] {
            let failure = NodeFailure {
                code,
                message: "why".into(),
                kind,
            };
            assert_eq!(node_from_status(&node_to_status(&failure)), failure);
        }
    }

    #[test]
    fn only_codes_of_broken_connections_leave_the_outcome_open() {
        for n in 1..=16 {
            let code = tonic::Code::from_i32(n);
            let is_open = matches!(n, 1 | 2 | 4 | 14);
            let kind = node_from_status(&Status::new(code, "")).kind;
            assert_eq!(kind == NodeFailureKind::Unreachable, is_open, "{code:?}");
            assert_eq!(to_tonic(from_tonic(code)), code);
        }
    }
}
