//! What a caller is told about a failure, in one place.

use holdfast_rpc::status::{Reason, crash_actor, with_reason};
use holdfast_sandbox::names::ActorRef;
use holdfast_sandbox::readyz::ReadyzError;
use holdfast_sandbox::{CheckpointError, Fate, SandboxError};
use tonic::{Code, Status};

/// A boot that failed loses nothing: there was no state yet.
pub(crate) fn boot(error: &SandboxError) -> Status {
    failed(error)
}

/// A restore by which the sandbox itself failed will fail again: this snapshot does not run.
pub(crate) fn restore(error: &SandboxError) -> Status {
    if error.is_sandbox_failure() {
        crash_actor(error.to_string())
    } else {
        failed(error)
    }
}

/// A checkpoint that took the sandbox with it has lost the actor's state since the last one.
pub(crate) fn checkpoint(error: &CheckpointError) -> Status {
    match error.sandbox {
        Fate::Dead => crash_actor(error.to_string()),
        Fate::Alive => failed(&error.cause),
    }
}

/// Stop, freeze or thaw that failed.
pub(crate) fn control(error: &SandboxError) -> Status {
    failed(error)
}

/// The actor's sandbox is not here.
pub(crate) fn gone(actor: &ActorRef) -> Status {
    let text =
        format!("this worker has no sandbox of actor {actor}; its state since the last snapshot is lost");
    with_reason(&Status::data_loss(text), &Reason::SandboxGone)
}

/// Somebody else's sandbox is here.
pub(crate) fn occupied(actor: &ActorRef) -> Status {
    let text = format!("this worker hosts actor {actor}; stop it first");
    with_reason(&Status::failed_precondition(text), &Reason::Occupied)
}

/// The worker stops.
pub(crate) fn stopping() -> Status {
    with_reason(
        &Status::unavailable("this worker is stopping; use another one"),
        &Reason::OperationFailed,
    )
}

/// A defect in this program.
pub(crate) fn defect(what: impl std::fmt::Display) -> Status {
    Status::internal(format!("defect in the worker: {what}"))
}

fn failed(error: &SandboxError) -> Status {
    with_reason(
        &Status::new(code(error), error.to_string()),
        &Reason::OperationFailed,
    )
}

fn code(error: &SandboxError) -> Code {
    match error {
        SandboxError::Readyz(ReadyzError::Invalid { .. }) => Code::InvalidArgument,
        SandboxError::Readyz(ReadyzError::NotReady { .. }) => Code::DeadlineExceeded,
        SandboxError::NoRunsc
        | SandboxError::MemoryNotSupported
        | SandboxError::NoDurableDir
        | SandboxError::ForeignSnapshot { .. }
        | SandboxError::Program { .. }
        | SandboxError::NoNetworkToProbe { .. } => Code::FailedPrecondition,
        SandboxError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Code::ResourceExhausted
        }
        SandboxError::Runsc(error) if error.is_out_of_space() => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_rpc::status::reasons;
    use holdfast_sandbox::runsc::RunscError;

    fn died() -> SandboxError {
        SandboxError::Runsc(RunscError::SandboxDied {
            during: "restore".into(),
            status: None,
        })
    }

    #[test]
    fn only_lost_state_crashes_an_actor() {
        assert_eq!(reasons(&restore(&died())), [Reason::CrashActor]);
        assert_eq!(reasons(&boot(&died())), [Reason::OperationFailed]);
        assert_eq!(
            reasons(&restore(&SandboxError::NoRunsc)),
            [Reason::OperationFailed]
        );
        let dead = CheckpointError {
            cause: died(),
            sandbox: Fate::Dead,
        };
        assert_eq!(reasons(&checkpoint(&dead)), [Reason::CrashActor]);
        let alive = CheckpointError {
            cause: SandboxError::MemoryNotSupported,
            sandbox: Fate::Alive,
        };
        let status = checkpoint(&alive);
        assert_eq!(
            (status.code(), reasons(&status)),
            (Code::FailedPrecondition, vec![Reason::OperationFailed])
        );
    }

    #[test]
    fn a_full_disk_is_told_from_a_defect() {
        let full = SandboxError::Io {
            step: "archive the durable directories".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        assert_eq!(restore(&full).code(), Code::ResourceExhausted);
        let full = SandboxError::Runsc(RunscError::Failed {
            command: "restore main".into(),
            status: std::process::ExitStatus::default(),
            line: "restoring container: write /x/filestore: no space left on device".into(),
        });
        let status = restore(&full);
        assert_eq!(
            (status.code(), reasons(&status)),
            (Code::ResourceExhausted, vec![Reason::OperationFailed]),
            "the snapshot is as good as before"
        );
    }
}
