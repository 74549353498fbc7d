//! Why a pull did not succeed.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::{Digest, Platform};

/// Why a pull did not succeed. [`retryable`](Self::retryable) tells whether doing the same again may help.
///
/// Messages name what failed and what to do, and never contain credentials or the queries of addresses,
/// which may be signed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The place works and does not have it.
    #[error("{place} has no {what}; check its name, or push it there")]
    NotFound {
        /// Manifest or blob.
        what: String,
        /// Registry and repository, or directory.
        place: String,
    },
    /// The registry wants to know who asks, or does not like the answer.
    #[error(
        "{place} refuses access to {what}: {reason}; check that it exists and that credentials allow pulling it"
    )]
    Unauthorized {
        /// Manifest or blob.
        what: String,
        /// Registry and repository.
        place: String,
        /// What was refused, for example `HTTP 401`.
        reason: String,
    },
    /// An index without an image for this platform.
    #[error("{what} has no image for {wanted}, only for {available}; build it for {wanted} too")]
    NoPlatform {
        /// The index.
        what: String,
        /// What was asked for.
        wanted: Platform,
        /// What is there.
        available: String,
    },
    /// A manifest, index or answer that breaks its format.
    #[error("{what} is not valid: {reason}; push the image again")]
    Malformed {
        /// Manifest, index, configuration or answer.
        what: String,
        /// Where it breaks.
        reason: String,
    },
    /// An image of a kind that is not supported.
    #[error("{what} cannot be used: {reason}")]
    Unsupported {
        /// Manifest or layer.
        what: String,
        /// What about it is not supported, and what is.
        reason: String,
    },
    /// Other bytes than the digest promises. What came is thrown away.
    #[error("{what} should have digest {expected} and has {got}; the source or the way to it corrupts data")]
    DigestMismatch {
        /// Manifest or blob, with its place.
        what: String,
        /// What the reference, manifest or registry says.
        expected: Digest,
        /// What the bytes say.
        got: Digest,
    },
    /// More or fewer bytes than the manifest promises.
    #[error("{what} should have {expected} bytes and has {got}; push the image again")]
    SizeMismatch {
        /// Manifest or blob, with its place.
        what: String,
        /// What the manifest says.
        expected: u64,
        /// How many there are.
        got: u64,
    },
    /// More than the limits allow.
    #[error("{what} is {amount} {unit}, above the limit of {limit}; use a smaller image or raise the limit")]
    TooLarge {
        /// Manifest, blob or image.
        what: String,
        /// How much it is.
        amount: u64,
        /// Bytes or layers.
        unit: &'static str,
        /// How much may be.
        limit: u64,
    },
    /// The connection could not be made or broke.
    #[error("while reading {what}: {causes}", causes = causes(source.as_ref()))]
    Network {
        /// The address, without its query.
        what: String,
        /// What broke.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The registry answered with an error of its own.
    #[error("{what} answers HTTP {status}")]
    Status {
        /// The address, without its query.
        what: String,
        /// The status code.
        status: u16,
    },
    /// A connection that the settings do not allow.
    #[error("{what}: {reason}")]
    Refused {
        /// The address or reference.
        what: String,
        /// The rule, and how to allow it.
        reason: &'static str,
    },
    /// The certificates to check servers by cannot be loaded.
    #[error("no usable CA certificates: {reason}; install the system's CA certificates or set SSL_CERT_FILE")]
    NoTrust {
        /// What is wrong with them.
        reason: String,
    },
    /// The cache or a layout on disk cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The process is shutting down.
    #[error("the pull was interrupted because the process is shutting down")]
    Interrupted,
}

impl PullError {
    /// Whether another source of the same image may do better.
    pub(crate) fn is_of_source(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::Unauthorized { .. }
                | Self::Malformed { .. }
                | Self::DigestMismatch { .. }
                | Self::SizeMismatch { .. }
                | Self::Network { .. }
                | Self::Status { .. }
        )
    }

    /// Whether the same pull may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            // A mismatch was thrown away and the next attempt fetches everything anew.
            Self::Network { .. } | Self::DigestMismatch { .. } | Self::Interrupted => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::NoPlatform { .. }
            | Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::NoTrust { .. }
            | Self::Disk(_) => false,
        }
    }

    /// Whether the disk or the quota is used up: somebody has to make room first.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}

/// A file or directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = path.display())]
pub struct DiskError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system says.
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self {
            path: path.into(),
            source: source.into(),
        }
    }

    /// Whether the disk or the quota is used up: somebody has to make room first.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// HTTP clients wrap what happened several times, and only the innermost cause says what it was.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_full_disk_is_told_from_other_disk_errors_and_is_not_retried() {
        let disk = |errno: Errno| PullError::from(DiskError::new("cache", errno));
        assert!(disk(Errno::NOSPC).is_disk_full());
        assert!(disk(Errno::DQUOT).is_disk_full());
        assert!(!disk(Errno::IO).is_disk_full());
        assert!(!disk(Errno::NOSPC).retryable());
    }

    #[test]
    fn only_statuses_that_pass_are_retried() {
        let retryable = |status| {
            let what = "registry".to_owned();
            PullError::Status { what, status }.retryable()
        };
        assert!([429, 500, 502, 503, 504, 408].into_iter().all(retryable));
        assert!(![400, 405, 418].into_iter().any(retryable));
    }

    #[test]
    fn a_network_error_tells_the_innermost_cause() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let inner = io::Error::other(reset).to_string();
        let error = PullError::Network {
            what: "host/app".to_owned(),
            source: Box::new(DiskError::new("socket", io::ErrorKind::ConnectionReset)),
        };
        assert!(error.to_string().ends_with(&inner), "{error}");
    }
}
