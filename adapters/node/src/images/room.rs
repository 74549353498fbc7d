//! Disk that images take and nobody uses, given back: above a watermark, when the disk is full, and when a pull is given
//! up.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdfast_core::id::Name;
use holdfast_images::{Cache, Collected, DiskError, Watermarks};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::task::spawn_blocking;

use super::Images;

/// How often it is looked at how full the disk is.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What was used so recently stays: an image that has just been pulled is about to be unpacked.
const MIN_AGE: Duration = Duration::from_secs(120);
/// How often, and after which pause, it is tried to remove what an attempt may still be writing to.
const DISCARD_TRIES: u32 = 250;
const DISCARD_RETRY: Duration = Duration::from_millis(20);

/// Why room is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It is time to look.
    Time,
    /// Something did not fit.
    Full,
}

impl Images {
    /// Has room made now, because something did not fit on the disk.
    pub fn want_room(&self) {
        self.room_wanted.notify_one();
    }

    /// Makes room whenever the disk is fuller than it may be. Never returns.
    pub async fn make_room(&self) {
        loop {
            let cause = tokio::select! {
                biased;
                () = self.room_wanted.notified() => Cause::Full,
                () = tokio::time::sleep(LOOK_EVERY) => Cause::Time,
            };
            let (cache, watermarks) = (self.puller.cache().clone(), self.puller.watermarks());
            match spawn_blocking(move || collect(&cache, watermarks, cause)).await {
                Ok(Ok(collected)) if collected != Collected::default() => {
                    let Collected { bytes, blobs, trees } = collected;
                    tracing::info!(bytes, blobs, trees, "images that nobody used were removed");
                }
                Ok(Ok(_)) if cause == Cause::Full => {
                    tracing::warn!(
                        "the disk is full, and no image can be removed: each is in use or was so a moment ago"
                    );
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "cannot make room in the image cache; trying on"),
                // The process is going down.
                Err(_) => return,
            }
        }
    }

    /// Removes what a pull has brought that nobody wants any more.
    pub async fn abandon(&self, image: &Name) {
        let Some(pull) = self.lock().pulls.remove(image) else {
            return;
        };
        for _ in 0..DISCARD_TRIES {
            if !pull.is_running() {
                let (cache, progress, keep) =
                    (self.puller.cache().clone(), pull.progress.clone(), self.layers());
                match spawn_blocking(move || cache.discard(&progress, &keep)).await {
                    Ok(Ok(true)) => {
                        tracing::info!(%image, "a pull that nobody wanted any more is given up, with all that it had brought");
                        return;
                    }
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%image, %error, "cannot remove what a pull has left; it is collected later");
                        return;
                    }
                    Err(_) => return,
                }
            }
            tokio::time::sleep(DISCARD_RETRY).await;
        }
        tracing::warn!(%image, "somebody still writes what a pull has left; it is collected later");
    }

    /// The layers of images that are complete.
    fn layers(&self) -> BTreeSet<holdfast_images::Digest> {
        let state = self.lock();
        let layers = state
            .complete
            .values()
            .flat_map(|image| image.layers().iter().copied());
        layers.collect()
    }
}

/// Blocks on the disk.
fn collect(cache: &Cache, watermarks: Watermarks, cause: Cause) -> Result<Collected, DiskError> {
    let never = AtomicBool::new(false);
    let usage = cache.usage()?;
    let wanted = match cause {
        Cause::Time => watermarks.excess(usage).unwrap_or(0),
        // It may be a quota, or inodes, that are used up.
        Cause::Full => watermarks.above_low(usage).max(1),
    };
    let collected = cache.collect(wanted, MIN_AGE, &never)?;
    if cause == Cause::Time {
        cache.sync_trees()?;
    }
    Ok(collected)
}
