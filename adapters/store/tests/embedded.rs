//! The suite on the embedded store, and what only a file can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_core::time::Instant;
use holdfast_runtime::clock::Clock;
use holdfast_store::Store;
use holdfast_store::conformance::Subject;
use holdfast_store::embedded::Embedded;
use tempfile::TempDir;

/// A clock that only tests move.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst) / 1000
    }
}

struct OnFile {
    store: Arc<dyn Store>,
    clock: Arc<Hand>,
    _directory: TempDir,
}

impl OnFile {
    async fn start() -> OnFile {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        let store = Embedded::open(directory.path().join("store"), clock.clone()).unwrap();
        OnFile { store: Arc::new(store), clock, _directory: directory }
    }
}

impl Subject for OnFile {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn peer(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.0.fetch_add(u64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}

mod suite {
    holdfast_store::conformance_suite!(super::OnFile::start());
}
