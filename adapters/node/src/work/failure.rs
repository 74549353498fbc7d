//! What a failed step means: the one place that says which failures lose an actor (design section 7,
//! compat.md 1.6) and which pass.

use std::io;
use std::path::PathBuf;

use holdfast_core::failure::Code;
use holdfast_core::id::PodUid;
use holdfast_core::node::{Work, WorkFailure, WorkFailureKind};
use holdfast_images::UnpackError;
use holdfast_objects::{NameError as SnapshotNameError, SnapshotError, UriError};
use holdfast_rpc::failure::from_tonic;
use holdfast_rpc::status::{Reason, reasons};
use holdfast_sandbox::bundle::BundleError;
use holdfast_sandbox::names::{ActorRef, NameError};
use tonic::Status;

use crate::assets::AssetError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Asset(#[from] AssetError),
    #[error("while loading recorded sandbox assets: {path}: {why}", path = .path.display())]
    NoRecord { path: PathBuf, why: String },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("image {image}: {source}")]
    Unpack { image: String, source: UnpackError },
    #[error("image {image} is not here any more; it is pulled again with the next attempt")]
    NoImage { image: String },
    #[error("{path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("ateom of worker {worker}: {message}", message = .status.message())]
    Ateom { worker: PodUid, status: Status },
    #[error("ateom reported no snapshot files for checkpoint")]
    NoFiles,
    #[error(transparent)]
    FileName(#[from] SnapshotNameError),
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the directory of actor {actor} is in use on worker {tenant}; stop the sandbox there first")]
    InUse { actor: ActorRef, tenant: PodUid },
    #[error("{at} belongs to actor {owner}; it stays")]
    NotTheirs { at: String, owner: String },
    #[error("atelet is shutting down; ask again")]
    Interrupted,
    #[error("this step does not belong to its order")]
    Misdirected,
    #[error(
        "the ateom of worker {worker} is the original's, which knows nothing of atespaces; give the worker's pod our \
         ateom image"
    )]
    NoAtespaces { worker: PodUid },
    #[error(
        "the ateom of worker {worker} is the original's, which ends a sandbox only by a checkpoint; actor {actor} is \
         there: suspend it, or delete the worker's pod"
    )]
    CannotStop { worker: PodUid, actor: String },
}

impl StepError {
    pub fn disk(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Disk {
            path: path.into(),
            source,
        }
    }

    /// Whether the sandbox is not where it was looked for.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::NoRecord { .. } => true,
            Self::Ateom { status, .. } => verdict(status) == WorkFailureKind::Gone,
            _ => false,
        }
    }

    /// What it means that this step failed so.
    pub fn into_failure(self, work: &Work) -> WorkFailure {
        WorkFailure {
            code: self.code(),
            kind: self.kind(work),
            message: self.to_string(),
        }
    }

    fn kind(&self, work: &Work) -> WorkFailureKind {
        let is_checkpoint = matches!(work, Work::Capture | Work::Save(_));
        match self {
            Self::Snapshot(error) if error.is_lost() => WorkFailureKind::Fatal,
            // The files are not what was captured, or can never be stored where they are to go.
            Self::Snapshot(
                SnapshotError::Occupied { .. }
                | SnapshotError::Rejected { .. }
                | SnapshotError::Source { .. },
            ) if is_checkpoint => WorkFailureKind::Fatal,
            Self::NoRecord { .. } | Self::NoFiles | Self::FileName(_) if is_checkpoint => {
                WorkFailureKind::Fatal
            }
            Self::FileName(_) if *work == Work::Fetch => WorkFailureKind::Fatal,
            Self::Ateom { status, .. } => verdict(status),
            _ => WorkFailureKind::Transient,
        }
    }

    /// The code for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Snapshot(error) => match error {
                SnapshotError::NotFound { .. }
                | SnapshotError::Corrupt { .. }
                | SnapshotError::Source { .. } => Code::DataLoss,
                SnapshotError::Occupied { .. }
                | SnapshotError::NoBucket { .. }
                | SnapshotError::Denied { .. }
                | SnapshotError::Rejected { .. } => Code::FailedPrecondition,
                SnapshotError::NoSpace { .. } => Code::ResourceExhausted,
                SnapshotError::Disk { .. } => Code::Internal,
                SnapshotError::Retryable { .. } => Code::Unavailable,
            },
            Self::Asset(error) => error.code(),
            Self::Unpack { source, .. } if source.is_disk_full() => Code::ResourceExhausted,
            Self::Unpack { source, .. } if source.needs_pull() => Code::Unavailable,
            Self::Bundle(BundleError::Io(source)) | Self::Disk { source, .. } => disk_code(source),
            Self::NoImage { .. } | Self::Interrupted => Code::Unavailable,
            Self::Unpack { .. }
            | Self::Bundle(_)
            | Self::InUse { .. }
            | Self::NotTheirs { .. }
            | Self::NoAtespaces { .. }
            | Self::CannotStop { .. } => Code::FailedPrecondition,
            Self::Ateom { status, .. } => from_tonic(status.code()),
            Self::Uri(_) | Self::Name(_) => Code::InvalidArgument,
            Self::NoRecord { .. } | Self::NoFiles | Self::FileName(_) | Self::Misdirected => Code::Internal,
        }
    }
}

/// What ateom's answer means. Without a reason, codes that a broken connection may produce leave it open
/// whether ateom did it; a request that it refuses has done nothing; any other code is its verdict on the
/// sandbox, as every error of the original's is.
fn verdict(status: &Status) -> WorkFailureKind {
    match reasons(status).first() {
        Some(Reason::CrashActor) => WorkFailureKind::Fatal,
        Some(Reason::SandboxGone) => WorkFailureKind::Gone,
        Some(Reason::Busy) => WorkFailureKind::Unreachable,
        Some(
            Reason::OperationFailed
            | Reason::NotBegun
            | Reason::Occupied
            | Reason::SessionOver
            | Reason::StaleFence { .. },
        ) => WorkFailureKind::Transient,
        None => match status.code() {
            tonic::Code::Unavailable
            | tonic::Code::Unknown
            | tonic::Code::Cancelled
            | tonic::Code::DeadlineExceeded => WorkFailureKind::Unreachable,
            tonic::Code::InvalidArgument | tonic::Code::Unimplemented => WorkFailureKind::Transient,
            _ => WorkFailureKind::Fatal,
        },
    }
}

fn disk_code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WorkFailureKind::{Fatal, Gone, Transient, Unreachable};
    use holdfast_rpc::status::{crash_actor, with_reason};

    fn ateom(status: Status) -> StepError {
        StepError::Ateom {
            worker: "uid-1".into(),
            status,
        }
    }

    fn with(code: tonic::Code, reason: Reason) -> StepError {
        ateom(with_reason(&Status::new(code, "why"), &reason))
    }

    fn at() -> String {
        "gs://b/s/manifest.json".into()
    }

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn exactly_the_failures_that_lose_an_actor_are_fatal() {
        let save = || Work::Save(vec!["f".into()]);
        let not_found = || StepError::from(SnapshotError::NotFound { at: at() });
        let occupied = || StepError::from(SnapshotError::Occupied { at: at() });
        let network = || {
            StepError::from(SnapshotError::Retryable {
                at: at(),
                cause: "reset".into(),
            })
        };
        let no_record = || StepError::NoRecord {
            path: "/x".into(),
            why: "gone".into(),
        };
        for (work, error, code, kind) in [
            (Work::Fetch, not_found(), Code::DataLoss, Fatal),
            (Work::Fetch, network(), Code::Unavailable, Transient),
            (Work::Fetch, occupied(), Code::FailedPrecondition, Transient),
            (Work::Upload, not_found(), Code::DataLoss, Fatal),
            (save(), network(), Code::Unavailable, Transient),
            (save(), occupied(), Code::FailedPrecondition, Fatal),
            (Work::Capture, no_record(), Code::Internal, Fatal),
            (Work::Boot { until: None }, no_record(), Code::Internal, Transient),
            (Work::Capture, StepError::NoFiles, Code::Internal, Fatal),
            (
                Work::Clear,
                StepError::disk("/x", full()),
                Code::ResourceExhausted,
                Transient,
            ),
            (
                Work::Assemble,
                StepError::Interrupted,
                Code::Unavailable,
                Transient,
            ),
        ] {
            let text = error.to_string();
            let failure = error.into_failure(&work);
            assert_eq!((failure.code, failure.kind), (code, kind), "{work:?}: {text}");
            assert_eq!(failure.message, text);
        }
    }

    #[test]
    fn what_ateom_answers_is_its_verdict_unless_the_connection_may_have_said_it() {
        for (error, kind) in [
            (ateom(Status::internal("runsc restore failed")), Fatal),
            (ateom(crash_actor("runsc restore failed")), Fatal),
            (ateom(Status::invalid_argument("no container")), Transient),
            (ateom(Status::unavailable("cannot connect")), Unreachable),
            (ateom(Status::deadline_exceeded("late")), Unreachable),
            (ateom(Status::unknown("transport")), Unreachable),
            (with(tonic::Code::NotFound, Reason::SandboxGone), Gone),
            (with(tonic::Code::Unavailable, Reason::SandboxGone), Gone),
            (with(tonic::Code::Aborted, Reason::Busy), Unreachable),
            (with(tonic::Code::Unavailable, Reason::OperationFailed), Transient),
            (with(tonic::Code::FailedPrecondition, Reason::Occupied), Transient),
        ] {
            assert_eq!(error.into_failure(&Work::Capture).kind, kind);
        }
    }
}
