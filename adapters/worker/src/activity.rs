//! Whether anybody still needs this worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_runtime::tokio;
use tokio::sync::Notify;

/// Counts the calls in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    in_flight: AtomicUsize,
    changed: Notify,
}

/// A call in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct Call(Arc<Inner>);

impl Activity {
    /// A call has come.
    pub(crate) fn begin(&self) -> Call {
        self.0.in_flight.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_one();
        Call(self.0.clone())
    }

    /// Resolves when no call has been in flight for `limit`.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            tokio::select! {
                biased;
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(limit) => {
                    if self.0.in_flight.load(Ordering::SeqCst) == 0 {
                        return;
                    }
                }
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_in_flight_is_activity_however_long_it_takes() {
        let activity = Activity::default();
        let call = activity.begin();
        let limit = Duration::from_millis(5);
        let waited = tokio::time::timeout(20 * limit, activity.idle_for(limit)).await;
        assert!(waited.is_err());
        drop(call);
        activity.idle_for(limit).await;
    }
}
