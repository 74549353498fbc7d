//! What labels call the core's words.

use holdfast_core::actor::Status;
use holdfast_core::effect::{StoreOp, Verb};
use holdfast_core::failure::{Code, Failure};
use holdfast_core::request::Request;

/// The workflow that most is asked for.
pub const RESUME: &str = "resume";

/// The workflow that a request asks for, if it asks for one.
pub fn workflow(request: &Request) -> Option<&'static str> {
    match request {
        Request::Resume(..) => Some(RESUME),
        Request::Suspend(_) => Some("suspend"),
        Request::Pause(_) => Some("pause"),
        Request::Delete(_) => Some("delete"),
        Request::Revert(_) => Some("revert"),
        _ => None,
    }
}

/// What a node is asked for.
pub fn verb(verb: &Verb) -> &'static str {
    match verb {
        Verb::Run { .. } => "run",
        Verb::Restore { .. } => "restore",
        Verb::Checkpoint { .. } => "checkpoint",
        Verb::Upload { .. } => "upload",
        Verb::Thaw => "thaw",
        Verb::Stop => "stop",
    }
}

/// What a store is asked for.
pub fn operation(op: &StoreOp) -> &'static str {
    match op {
        StoreOp::GetActor(_) => "get_actor",
        StoreOp::PutActor { .. } => "put_actor",
        StoreOp::DeleteActor { .. } => "delete_actor",
        StoreOp::ListActors { .. } => "list_actors",
        StoreOp::AcquireLease { .. } => "acquire_lease",
        StoreOp::RenewLease { .. } => "renew_lease",
        StoreOp::ReleaseLease { .. } => "release_lease",
        StoreOp::GetWorker(_) => "get_worker",
        StoreOp::PutWorker { .. } => "put_worker",
        StoreOp::DeleteWorker { .. } => "delete_worker",
        StoreOp::ListWorkers => "list_workers",
        StoreOp::PutNode(_) => "put_node",
        StoreOp::LapseNode { .. } => "lapse_node",
        StoreOp::ListNodes => "list_nodes",
        StoreOp::CreateAtespace(_) => "create_atespace",
        StoreOp::GetAtespace(_) => "get_atespace",
        StoreOp::ListAtespaces => "list_atespaces",
        StoreOp::DeleteAtespace(_) => "delete_atespace",
        StoreOp::PutSession { .. } => "put_session",
        StoreOp::GetSession(_) => "get_session",
        StoreOp::DropSession(_) => "drop_session",
        StoreOp::PutGrave(_) => "put_grave",
        StoreOp::ListGraves { .. } => "list_graves",
        StoreOp::DropGrave { .. } => "drop_grave",
    }
}

/// A state of an actor.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Resuming => "resuming",
        Status::Running => "running",
        Status::Suspending => "suspending",
        Status::Suspended => "suspended",
        Status::Pausing => "pausing",
        Status::Paused => "paused",
        Status::Crashed => "crashed",
    }
}

/// How a workflow ended.
pub fn verdict(failure: Option<&Failure>) -> &'static str {
    failure.map_or("OK", |failure| code(failure.code))
}

/// A code as the original's metrics have it.
pub fn code(code: Code) -> &'static str {
    crate::rpc::name(tonic::Code::from(code as i32))
}
