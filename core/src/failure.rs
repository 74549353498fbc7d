//! Verdicts that are not success: what went wrong, whose it is, and whether trying again helps.
//!
//! The texts are the original's (compat.md section 2): users, routers and tests compare them.

use crate::actor::{Loss, Snapshot, Status};
use crate::catalog::AssetsError;
use crate::effect::{NodeFailure, StoreError};
use crate::id::{Name, Version};
use crate::time::Duration;
use alloc::format;
use alloc::string::String;

/// A gRPC status code, without depending on gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller gave up.
    Cancelled = 1,
    /// Nobody knows.
    Unknown = 2,
    /// The request is wrong, whatever the state of the system.
    InvalidArgument = 3,
    /// Time ran out.
    DeadlineExceeded = 4,
    /// There is no such thing.
    NotFound = 5,
    /// There is one already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// Something is used up.
    ResourceExhausted = 8,
    /// The state of the system does not allow it; trying again does not help until that changes.
    FailedPrecondition = 9,
    /// Somebody else was faster; trying again helps.
    Aborted = 10,
    /// Beyond the end.
    OutOfRange = 11,
    /// Not offered.
    Unimplemented = 12,
    /// A fault of ours.
    Internal = 13,
    /// Not now; trying again helps.
    Unavailable = 14,
    /// State is lost.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

/// A verdict that is not success.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// What happened, and what to do.
    pub message: String,
    /// When trying again may help; none if it does not help by itself.
    pub retry_after: Option<Duration>,
    /// Whether the actor crashed, which callers are told in a status detail.
    pub crashed: bool,
}

/// What the original's callers compare, word by word.
const NO_FREE_WORKER: &str = "no free workers available";
const NO_POOL: &str = "no worker pool matches the template's sandboxClass and the template/actor selectors";

const SOON: Duration = Duration::from_millis(200);

impl Failure {
    /// A failure that trying again does not mend.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            retry_after: None,
            crashed: false,
        }
    }

    fn again(code: Code, message: impl Into<String>) -> Failure {
        Failure {
            retry_after: Some(SOON),
            ..Failure::new(code, message)
        }
    }

    /// Whether an actor could not be placed because no worker that it may run on is free.
    pub fn is_for_want_of_a_worker(&self) -> bool {
        self.message.starts_with(NO_FREE_WORKER)
    }

    /// Whether an actor could not be placed because no pool would have it.
    pub fn is_for_want_of_a_pool(&self) -> bool {
        self.message == NO_POOL
    }

    pub(crate) fn actor_not_found(id: &Name) -> Failure {
        Failure::new(Code::NotFound, format!("Actor {id} not found"))
    }

    pub(crate) fn atespace_not_found(code: Code, name: &Name) -> Failure {
        Failure::new(code, format!("Atespace {name} not found"))
    }

    pub(crate) fn lease_held() -> Failure {
        Failure::again(Code::Aborted, "another operation is in progress for this actor")
    }

    pub(crate) fn conflict() -> Failure {
        Failure::again(Code::Aborted, "concurrent update conflict, please retry")
    }

    /// A change that a record's table does not have: wished for by mistake, and not made.
    pub(crate) fn illegal(illegal: &dyn core::fmt::Display) -> Failure {
        Failure::new(Code::Internal, format!("{illegal}"))
    }

    pub(crate) fn lost_lease(why: &str) -> Failure {
        Failure::again(Code::Aborted, format!("lost actor lock during workflow: {why}"))
    }

    pub(crate) fn deadline(secs: u64) -> Failure {
        Failure::again(
            Code::DeadlineExceeded,
            format!(
                "workflow deadline of {secs}s exceeded; what was begun is finished or undone by the system"
            ),
        )
    }

    pub(crate) fn shutting_down() -> Failure {
        Failure::again(Code::Unavailable, "this replica is shutting down; ask another")
    }

    pub(crate) fn store(error: &StoreError) -> Failure {
        match error {
            StoreError::Unavailable(text) => {
                Failure::again(Code::Unavailable, format!("store unavailable: {text}"))
            }
            StoreError::Refused(text) => {
                Failure::new(Code::Internal, format!("internal server error: {text}"))
            }
        }
    }

    pub(crate) fn node(failure: &NodeFailure) -> Failure {
        let retry_after = matches!(
            failure.code,
            Code::Unavailable | Code::Aborted | Code::DeadlineExceeded
        )
        .then_some(SOON);
        Failure {
            code: failure.code,
            message: failure.message.clone(),
            retry_after,
            crashed: false,
        }
    }

    pub(crate) fn crashed(id: &Name) -> Failure {
        Failure {
            crashed: true,
            ..Failure::new(Code::DataLoss, format!("actor {id} crashed"))
        }
    }

    pub(crate) fn no_pool() -> Failure {
        Failure::new(Code::FailedPrecondition, NO_POOL)
    }

    pub(crate) fn no_free_worker() -> Failure {
        Failure {
            retry_after: Some(SOON),
            ..Failure::new(Code::FailedPrecondition, NO_FREE_WORKER)
        }
    }

    pub(crate) fn local_snapshot_unreachable(id: &Name, nodes: &str) -> Failure {
        Failure::new(
            Code::FailedPrecondition,
            format!(
                "{NO_FREE_WORKER} on the nodes that hold the local snapshot of actor {id} ({nodes}); wait \
                 for one, or revert the actor to its last external snapshot"
            ),
        )
    }

    pub(crate) fn node_silent(id: &Name, node: &Name) -> Failure {
        Failure::again(
            Code::Unavailable,
            format!(
                "actor {id} is held still on node {node}, which has not been heard of; wait for the node, or resume \
                 the actor from its last snapshot elsewhere"
            ),
        )
    }

    pub(crate) fn is_crashed(verb: &str, id: &Name) -> Failure {
        Failure::new(
            Code::FailedPrecondition,
            format!("can not {verb} crashed actor {id}"),
        )
    }

    pub(crate) fn not_suspended(id: &Name, status: Status) -> Failure {
        Failure::new(
            Code::FailedPrecondition,
            format!("Actor {id} is not suspended (status: {status})"),
        )
    }

    pub(crate) fn not_running(id: &Name, status: Status) -> Failure {
        Failure::new(
            Code::FailedPrecondition,
            format!("Actor {id} is not running (status: {status}); only a running actor can be paused"),
        )
    }

    pub(crate) fn not_revertible(id: &Name, status: Status) -> Failure {
        Failure::new(
            Code::FailedPrecondition,
            format!(
                "Actor {id} is not crashed (status: {status}); only a crashed or paused actor can be reverted"
            ),
        )
    }

    pub(crate) fn nothing_to_revert_to(id: &Name) -> Failure {
        Failure::new(
            Code::FailedPrecondition,
            format!(
                "Actor {id} has no external snapshot to revert to; suspend it, which uploads its local one"
            ),
        )
    }

    pub(crate) fn lost(id: &Name, latest: Option<&Snapshot>, loss: &Loss) -> Failure {
        let stands_at = match latest {
            Some(Snapshot::External(prefix)) => format!("snapshot {prefix}"),
            Some(Snapshot::Local { name, .. }) => format!("local snapshot {name}"),
            None => String::from("its initial state"),
        };
        Failure::new(
            Code::DataLoss,
            format!(
                "actor {id} lost what it did since {stands_at}: {} (worker {}); the next resume starts from there",
                loss.reason, loss.worker
            ),
        )
    }

    pub(crate) fn template_missing(step: &str, name: &Name) -> Failure {
        Failure::new(
            Code::Internal,
            format!(
                "internal server error: workflow failed at step {step}: while getting ActorTemplate: \
                 actortemplate.ate.dev \"{name}\" not found"
            ),
        )
    }

    pub(crate) fn assets(error: &AssetsError) -> Failure {
        Failure::new(
            Code::Internal,
            format!(
                "internal server error: workflow failed at step CallAteletRestore: while resolving sandbox assets: \
                 {error}"
            ),
        )
    }

    pub(crate) fn placed_too_often(id: &Name, times: u32) -> Failure {
        Failure::again(
            Code::Unavailable,
            format!(
                "{times} workers in a row could not take actor {id}; their nodes may not have reported yet"
            ),
        )
    }

    pub(crate) fn operations_ran_out(id: &Name) -> Failure {
        Failure::again(
            Code::Unavailable,
            format!(
                "what was tried for actor {id} was overtaken again and again; the system goes on with it"
            ),
        )
    }

    pub(crate) fn fences_ran_away(id: &Name, version: Version) -> Failure {
        Failure::again(
            Code::Unavailable,
            format!("nodes keep reporting newer fences for actor {id} than version {version}"),
        )
    }
}
