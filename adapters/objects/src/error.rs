//! What can go wrong with a snapshot, told apart by what the caller has to do about it.

use std::error::Error;
use std::io;

use object_store::Error as StoreError;

use crate::content::SourceError;
use crate::manifest::ManifestError;
use crate::sparse::DecodeError;

type Cause = Box<dyn Error + Send + Sync>;

/// A snapshot could not be written, read or removed. `at` names the snapshot, or the file or object in it.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It does not exist: no manifest, or one that names a file that is not there.
    #[error("{at}: not found; the snapshot was never completed, or was removed")]
    NotFound {
        /// What is missing.
        at: String,
    },
    /// It exists and is not what was written. Retrying cannot help; an older snapshot may.
    #[error("{at}: corrupt: {cause}")]
    Corrupt {
        /// What is damaged.
        at: String,
        /// How.
        cause: Corruption,
    },
    /// Another complete snapshot has this name, and it is not overwritten.
    #[error("{at}: another snapshot is stored there already; a snapshot needs a name of its own")]
    Occupied {
        /// Where.
        at: String,
    },
    /// The bucket does not exist.
    #[error("{at}: the bucket does not exist; create it, or correct the snapshot location of the template")]
    NoBucket {
        /// The snapshot asked for.
        at: String,
    },
    /// The store or the file system refuses access.
    #[error("{at}: access denied; check the credentials and permissions of the node daemon: {cause}")]
    Denied {
        /// What was asked for.
        at: String,
        /// What was answered.
        #[source]
        cause: Cause,
    },
    /// No room, on this disk or in the store.
    #[error("{at}: no space left: {cause}")]
    NoSpace {
        /// What was to be written.
        at: String,
        /// What was answered.
        #[source]
        cause: Cause,
    },
    /// A file that was to be saved cannot be read as one unchanging thing.
    #[error("{at}: cannot be saved: {cause}")]
    Source {
        /// The file on disk.
        at: String,
        /// Why.
        #[source]
        cause: SourceError,
    },
    /// The request can never succeed as it is.
    #[error("{at}: refused by the store: {cause}")]
    Rejected {
        /// What was asked for.
        at: String,
        /// What was answered.
        #[source]
        cause: Cause,
    },
    /// The disk of this node failed.
    #[error("{at}: {cause}")]
    Disk {
        /// The file or directory.
        at: String,
        /// What the file system said.
        #[source]
        cause: io::Error,
    },
    /// The network or the store failed in a way that passes.
    #[error("{at}: {cause}; try again")]
    Retryable {
        /// What was asked for.
        at: String,
        /// What happened.
        #[source]
        cause: Cause,
    },
}

/// How stored bytes differ from what was written.
#[derive(Debug, thiserror::Error)]
pub enum Corruption {
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file.
    #[error(transparent)]
    File(#[from] DecodeError),
}

impl SnapshotError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Retryable { .. })
    }

    /// Whether what was asked for is gone: on a restore, the case in which the actor crashes (design section 7).
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Corrupt { .. })
    }

    pub(crate) fn corrupt(at: impl Into<String>, cause: impl Into<Corruption>) -> Self {
        Self::Corrupt {
            at: at.into(),
            cause: cause.into(),
        }
    }

    pub(crate) fn retryable(at: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Retryable {
            at: at.into(),
            cause: cause.into(),
        }
    }

    /// The local file system said no.
    pub(crate) fn disk(at: impl Into<String>, cause: io::Error) -> Self {
        let at = at.into();
        match cause.kind() {
            kind if is_full(kind) => Self::NoSpace {
                at,
                cause: cause.into(),
            },
            _ => Self::Disk { at, cause },
        }
    }

    /// A file to be saved cannot be opened or read.
    pub(crate) fn source(at: impl Into<String>, cause: impl Into<SourceError>) -> Self {
        Self::Source {
            at: at.into(),
            cause: cause.into(),
        }
    }

    pub(crate) fn decode(at: impl Into<String>, cause: DecodeError) -> Self {
        match cause {
            DecodeError::Write(cause) => Self::disk(at, cause),
            cause => Self::corrupt(at, cause),
        }
    }

    /// The one place that says what an answer of a store means.
    pub(crate) fn store(at: impl Into<String>, error: StoreError) -> Self {
        let at = at.into();
        let text = error.to_string();
        let status = http_status(&text);
        let kind = io_kind(&error);
        // The name S3 and GCS give to this case; the status alone does not tell it from a missing object.
        if text.contains("NoSuchBucket") {
            return Self::NoBucket { at };
        }
        if status == Some(507) || kind.is_some_and(is_full) {
            return Self::NoSpace {
                at,
                cause: error.into(),
            };
        }
        match error {
            StoreError::NotFound { .. } => Self::NotFound { at },
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Self::Denied {
                at,
                cause: error.into(),
            },
            StoreError::InvalidPath { .. }
            | StoreError::NotSupported { .. }
            | StoreError::NotImplemented { .. }
            | StoreError::UnknownConfigurationKey { .. } => Self::Rejected {
                at,
                cause: error.into(),
            },
            error if kind.is_some_and(is_denied) => Self::Denied {
                at,
                cause: error.into(),
            },
            error if status.is_some_and(is_final) => Self::Rejected {
                at,
                cause: error.into(),
            },
            error => Self::Retryable {
                at,
                cause: error.into(),
            },
        }
    }
}

/// Client errors other than those that pass: timeout, conflict, precondition, too early, too many.
fn is_final(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 409 | 412 | 425 | 429)
}

fn is_denied(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The status a store answered with. `object_store` keeps it in a type of its own that is not public, so it is read
/// from the message; what cannot be read counts as a fault that passes.
fn http_status(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("status code: ")?;
    after.get(..3)?.parse().ok()
}

/// The kind of the I/O error among the causes, if there is one.
fn io_kind(error: &StoreError) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Cause>) -> StoreError {
        StoreError::Generic {
            store: "test",
            source: source.into(),
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_passing_fault() {
        let full = generic(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(
            SnapshotError::store("x", full),
            SnapshotError::NoSpace { .. }
        ));
        let reset = generic(io::Error::from(io::ErrorKind::ConnectionReset));
        let error = SnapshotError::store("x", reset);
        assert!(error.is_retryable() && !error.is_lost(), "{error}");
        let read_only = generic(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(matches!(
            SnapshotError::store("x", read_only),
            SnapshotError::Denied { .. }
        ));
    }

    #[test]
    fn only_a_missing_or_damaged_snapshot_is_a_lost_one() {
        let missing = StoreError::NotFound {
            path: "p".into(),
            source: "none".into(),
        };
        assert!(SnapshotError::store("x", missing).is_lost());
        assert!(SnapshotError::decode("x", DecodeError::Truncated).is_lost());
        let full = DecodeError::Write(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!SnapshotError::decode("x", full).is_lost());
        let denied = StoreError::PermissionDenied {
            path: "p".into(),
            source: "no".into(),
        };
        assert!(!SnapshotError::store("x", denied).is_lost());
    }
}
