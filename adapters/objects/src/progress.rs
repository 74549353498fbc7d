//! How far a transfer has come.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts bytes while they move; read it from anywhere, at any time.
///
/// `done` grows towards `total`; both may start at zero and `total` grows as sizes become known. Uploads count what
/// is read from disk, downloads what arrives from the store.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// Bytes moved so far.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    /// Bytes to be moved, as far as known.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn expect(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
