//! What a sandbox is asked to run, and the errors of asking.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::bundle::BundleError;
use crate::layout::ActorDirs;
use crate::names::{ActorRef, Label};
use crate::network::NetworkError;
use crate::readyz::{HttpGet, ReadyzError};
use crate::runsc::RunscError;

/// One actor to be run or restored. Its bundles are prepared, its snapshot files are in place.
#[derive(Clone)]
pub struct Activation {
    /// Which actor.
    pub actor: ActorRef,
    /// Where it lives on this node.
    pub dirs: ActorDirs,
    /// The runsc binary; gVisor needs one, plain processes do not.
    pub runsc: Option<PathBuf>,
    /// The user's containers, in the order they start.
    pub containers: Vec<Container>,
    /// Where their output goes.
    pub output: Arc<dyn Output>,
}

/// One of the user's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name: also its id in the runtime, and the name of its bundle.
    pub name: Label,
    /// When it is ready to serve; it counts as ready at once without.
    pub readyz: Option<HttpGet>,
    /// Where it sees durable volumes.
    pub durable_mounts: Vec<String>,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Memory, file systems and durable directories.
    Full,
    /// Durable directories only.
    Data,
}

/// Where the output of containers goes.
pub trait Output: Send + Sync {
    /// A file that becomes both standard output and standard error of `container`.
    fn open(&self, container: &Label) -> io::Result<OwnedFd>;
}

/// An [`Output`] that forgets everything.
#[derive(Debug, Clone, Copy)]
pub struct Discard;

impl Output for Discard {
    fn open(&self, _: &Label) -> io::Result<OwnedFd> {
        Ok(std::fs::OpenOptions::new().write(true).open("/dev/null")?.into())
    }
}

impl fmt::Debug for Activation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Activation")
            .field("actor", &self.actor)
            .field("runsc", &self.runsc)
            .field("containers", &self.containers)
            .finish_non_exhaustive()
    }
}

/// A sandbox operation that failed. What it had begun is cleaned up.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A runsc command failed, or the sandbox did.
    #[error(transparent)]
    Runsc(#[from] RunscError),
    /// The network could not be made ready.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A bundle is unusable.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A container did not become ready.
    #[error(transparent)]
    Readyz(#[from] ReadyzError),
    /// The file system refused.
    #[error("cannot {step}: {source}")]
    Io {
        /// What was being done.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A gVisor sandbox without runsc.
    #[error(
        "the request names no runsc binary; give the SandboxConfig a `runsc` asset for this architecture"
    )]
    NoRunsc,
    /// A plain process cannot be snapshotted with its memory.
    #[error(
        "the process sandbox cannot snapshot memory: set onPause and onCommit to Data and give the \
         ActorTemplate a durableDir volume, or run on a machine with runsc"
    )]
    MemoryNotSupported,
    /// A data snapshot of an actor without data.
    #[error("no durable-dir volumes found for DATA snapshot")]
    NoDurableDir,
    /// A data snapshot in the form of a runtime that this one does not read.
    #[error(
        "the snapshot holds no {archive}, and runsc {version} cannot read directory snapshots of its own kind; \
         restore it on a worker with the runsc that made it"
    )]
    ForeignSnapshot {
        /// The file that is missing.
        archive: &'static str,
        /// This runsc's release date.
        version: u32,
    },
    /// A program of the image that is not there or not usable.
    #[error("container {container}: program {program:?} {fault}; check `command` against the image")]
    Program {
        /// The container.
        container: String,
        /// Its first argument.
        program: String,
        /// What is wrong.
        fault: String,
    },
    /// A readyz probe where there is no network to ask over.
    #[error("container {container}: readyz needs a network, and this worker gives its actors none")]
    NoNetworkToProbe {
        /// The container.
        container: String,
    },
    /// A container ended by itself.
    #[error("container {container} exited ({status}); its log says why")]
    Exited {
        /// The container.
        container: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
}

impl SandboxError {
    /// Whether the sandbox itself failed, as opposed to what surrounds it: trying the same snapshot again
    /// cannot be expected to help.
    pub fn is_sandbox_failure(&self) -> bool {
        match self {
            Self::Runsc(error) => {
                let is_ours = matches!(
                    error,
                    RunscError::Binary { .. } | RunscError::UnknownVersion { .. } | RunscError::TooOld { .. }
                );
                !is_ours && !error.is_out_of_space()
            }
            Self::Exited { .. } | Self::Readyz(ReadyzError::SandboxDied { .. }) => true,
            _ => false,
        }
    }

    /// Whether the sandbox failed in a way that another moment may spare it: somebody may have killed it. Not if it
    /// took all the time that there is.
    pub fn may_be_the_moment(&self) -> bool {
        let took_too_long = match self {
            Self::Runsc(error) => error.is_timeout() || matches!(error, RunscError::Unkillable { .. }),
            _ => false,
        };
        self.is_sandbox_failure() && !took_too_long
    }
}

/// A checkpoint that failed, and what became of the sandbox.
#[derive(Debug, Error)]
#[error("{cause}; the sandbox is {}", match .sandbox { Fate::Alive => "unharmed", Fate::Dead => "gone" })]
pub struct CheckpointError {
    /// Why.
    #[source]
    pub cause: SandboxError,
    /// Whether the actor still runs.
    pub sandbox: Fate,
}

/// What became of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs on as if nothing had happened.
    Alive,
    /// It is gone.
    Dead,
}

/// Attaches the step to an error of the file system.
pub(crate) fn step(what: &str) -> impl FnOnce(io::Error) -> SandboxError + '_ {
    move |source| SandboxError::Io {
        step: what.to_owned(),
        source,
    }
}
