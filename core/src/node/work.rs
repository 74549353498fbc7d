//! The steps of an operation, as adapters perform them.

use crate::failure::Code;
use crate::id::Name;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;

/// A step of an operation, performed by the adapters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Empty the actor's directories.
    Clear,
    /// Bring the snapshot's files, verified.
    Fetch,
    /// Lay out the containers' bundles; the images are here.
    Assemble,
    /// Have ateom boot or restore the actor, and freeze it then unless it hears more.
    Boot {
        /// Until when it may run; none if no session bounds it.
        until: Option<Instant>,
    },
    /// Have ateom let the frozen actor go on.
    Thaw {
        /// Until when it may run.
        until: Instant,
    },
    /// Have ateom checkpoint the actor.
    Capture,
    /// Store the checkpoint's files where the order says, manifest last, and read it back.
    Save(Vec<Name>),
    /// Copy a local snapshot to the object store.
    Upload,
    /// Have ateom end whatever runs for the actor.
    Stop,
}

/// How a step ended: for [`Work::Capture`], with the names of the checkpoint's files.
pub type WorkResult = Result<Vec<Name>, WorkFailure>;

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkFailure {
    /// What kind of failure, for the caller.
    pub code: Code,
    /// What happened, and what to do.
    pub message: String,
    /// What it means.
    pub kind: WorkFailureKind,
}

/// What a failed step means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkFailureKind {
    /// The snapshot is missing or corrupt, or the sandbox could not do it.
    Fatal,
    /// The sandbox is not there.
    Gone,
    /// Whoever should do it could not be reached.
    Unreachable,
    /// It did not work this time: network, disk, credentials.
    Transient,
}
