//! How far a pull has come, for whoever watches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_runtime::tokio::sync::watch;

use crate::Digest;

/// The state of one pull, shared with whoever watches it.
///
/// Hand the same `Progress` to every attempt of a pull: [`Counts::activity`] then grows over all of them,
/// and [`blobs`](Self::blobs) names what they leave behind when the last one is given up.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Shared>);

/// How far a pull has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Grows with every byte that arrives or is checked and never falls. A pull whose activity stands
    /// still for longer than the caller's patience has stalled.
    pub activity: u64,
    /// Bytes of the image that are here. Falls when something has to be fetched again.
    pub done: u64,
    /// Bytes of the image, once its manifest is known.
    pub total: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    counts: watch::Sender<Counts>,
    blobs: Mutex<BTreeMap<Digest, u64>>,
    /// Which of its sources the next attempt begins with.
    source: AtomicUsize,
    /// Whatever any attempt has begun to write.
    brought: Mutex<BTreeSet<Digest>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Shared {
            counts: watch::Sender::new(Counts::default()),
            blobs: Mutex::default(),
            source: AtomicUsize::new(0),
            brought: Mutex::default(),
        }))
    }
}

impl Progress {
    /// The counts at this moment.
    pub fn counts(&self) -> Counts {
        *self.0.counts.borrow()
    }

    /// Follows the counts. Slow readers miss steps, never the last one.
    pub fn subscribe(&self) -> watch::Receiver<Counts> {
        self.0.counts.subscribe()
    }

    /// The blobs of the image as far as they are known; what
    /// [`Cache::discard_partials`](crate::Cache::discard_partials) wants when the pull is given up.
    pub fn blobs(&self) -> BTreeSet<Digest> {
        self.lock().keys().copied().collect()
    }

    pub(crate) fn source(&self) -> usize {
        self.0.source.load(Ordering::Relaxed)
    }

    pub(crate) fn set_source(&self, next: usize) {
        self.0.source.store(next, Ordering::Relaxed);
    }

    /// All that this pull has brought into the cache so far, or begun to; not what was there before.
    pub(crate) fn brought(&self) -> BTreeSet<Digest> {
        self.0
            .brought
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Something is written from now on that was not there.
    pub(crate) fn bring(&self, digest: Digest) {
        self.0
            .brought
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest);
    }

    /// Starts counting an image anew; activity stays.
    pub(crate) fn restart(&self) {
        self.lock().clear();
        self.0.counts.send_modify(|counts| {
            counts.done = 0;
            counts.total = None;
        });
    }

    pub(crate) fn expect(&self, blobs: impl IntoIterator<Item = Digest>, total: u64) {
        self.lock().extend(blobs.into_iter().map(|digest| (digest, 0)));
        self.0.counts.send_modify(|counts| counts.total = Some(total));
    }

    /// `bytes` came in that are no part of a blob: something moves.
    pub(crate) fn stir(&self, bytes: u64) {
        self.0
            .counts
            .send_modify(|counts| counts.activity = counts.activity.saturating_add(bytes));
    }

    /// So many bytes of this blob are here now.
    pub(crate) fn set(&self, blob: Digest, here: u64) {
        let mut blobs = self.lock();
        let before = blobs.insert(blob, here).unwrap_or(0);
        self.0.counts.send_modify(|counts| {
            counts.activity = counts.activity.saturating_add(here.saturating_sub(before));
            counts.done = counts.done.saturating_sub(before).saturating_add(here);
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, u64>> {
        // Every change of the map is a single call, so a panic cannot have left it half changed.
        self.0.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_never_falls_while_done_follows_the_truth() {
        let progress = Progress::default();
        let blob = Digest::of(b"layer");
        progress.expect([blob], 100);
        progress.set(blob, 60);
        progress.set(blob, 0);
        progress.set(blob, 10);
        let expected = Counts {
            activity: 70,
            done: 10,
            total: Some(100),
        };
        assert_eq!(progress.counts(), expected);

        progress.restart();
        let expected = Counts {
            activity: 70,
            done: 0,
            total: None,
        };
        assert_eq!(progress.counts(), expected);
        assert!(progress.blobs().is_empty());
    }

    #[test]
    fn a_subscriber_sees_the_last_step() {
        let progress = Progress::default();
        let seen = progress.subscribe();
        progress.stir(1);
        progress.stir(2);
        assert_eq!(seen.borrow().activity, 3);
    }
}
