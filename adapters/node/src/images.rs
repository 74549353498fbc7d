//! Images of this node: pulling them into the cache, finding them there, and making room.

mod room;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_core::failure::Code;
use holdfast_core::id::Name;
use holdfast_core::pull::{PullFailure, Retry};
use holdfast_core::time::Instant;
use holdfast_images::{Image, Progress, PullError, Puller, Reference};
use holdfast_rpc::holdfast_v1::PullReport;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::Notify;

/// How often the machine hears of a pull that moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How often the log hears of it.
const LOGGED_EVERY_MS: u64 = 10_000;
/// The most images that are remembered as complete, and the most pulls whose progress is.
const REMEMBERED_MAX: usize = 1024;

/// The images of this node.
pub(crate) struct Images {
    puller: Puller,
    clock: Arc<dyn Clock>,
    /// Silence after which a pull is reported as stalled.
    stall_after: Duration,
    state: Mutex<State>,
    /// The disk is full: room is wanted now.
    room_wanted: Notify,
}

#[derive(Default)]
struct State {
    complete: BTreeMap<Name, Image>,
    pulls: BTreeMap<Name, Pull>,
}

/// A pull, over all its attempts.
struct Pull {
    progress: Progress,
    activity: u64,
    moved_at: Instant,
    is_running: Arc<AtomicBool>,
}

impl Pull {
    fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }
}

impl Images {
    pub fn new(puller: Puller, clock: Arc<dyn Clock>, stall_after: Duration) -> Self {
        Self {
            puller,
            clock,
            stall_after,
            state: Mutex::default(),
            room_wanted: Notify::new(),
        }
    }

    /// Makes an image complete in the cache. `tell` hears of bytes that have moved, over all attempts.
    /// Dropping the future ends the attempt; what has arrived is kept for the next.
    pub async fn pull(&self, image: &Name, tell: impl Fn(u64)) -> Result<(), PullFailure> {
        let reference: Reference = image.as_str().parse().map_err(|error| PullFailure {
            code: Code::FailedPrecondition,
            message: format!("{error}"),
            retry: Retry::Useless,
        })?;
        let (progress, _running) = self.begin(image);
        let begun_at = self.clock.now();
        let mut logged_at = begun_at;
        let mut pulling = std::pin::pin!(self.puller.pull(&reference, &progress));
        let pulled = loop {
            tokio::select! {
                biased;
                pulled = pulling.as_mut() => break pulled,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    if let Some(activity) = self.moved(image) {
                        tell(activity);
                    }
                    let now = self.clock.now();
                    if now.since(logged_at).as_millis() >= LOGGED_EVERY_MS.into() {
                        logged_at = now;
                        let counts = progress.counts();
                        tracing::info!(%image, bytes = counts.done, of = counts.total, "pulling an image");
                    }
                }
            }
        };
        match pulled {
            Ok(complete) => {
                let (bytes, took_ms) = (complete.bytes(), self.clock.now().since(begun_at).as_millis());
                tracing::info!(%image, bytes, took_ms, digest = %complete.digest(), "an image is here");
                let mut state = self.lock();
                state.pulls.remove(image);
                if state.complete.len() >= REMEMBERED_MAX {
                    state.complete.pop_first();
                }
                state.complete.insert(image.clone(), complete);
                Ok(())
            }
            Err(error) => {
                if error.is_disk_full() {
                    self.want_room();
                }
                Err(failure(image, &error))
            }
        }
    }

    /// An image that was pulled before.
    pub fn get(&self, image: &Name) -> Option<Image> {
        self.lock().complete.get(image).cloned()
    }

    /// Forgets an image that is not complete any more.
    pub fn forget(&self, image: &Name) {
        self.lock().complete.remove(image);
    }

    /// The pulls that are under way.
    pub fn under_way(&self) -> Vec<PullReport> {
        let now = self.clock.now();
        let state = self.lock();
        let running = state.pulls.iter().filter(|(_, pull)| pull.is_running());
        running
            .map(|(image, pull)| PullReport {
                image: image.to_string(),
                bytes: pull.progress.counts().done,
                stalled: now.since(pull.moved_at) >= self.stall_after,
            })
            .collect()
    }

    fn begin(&self, image: &Name) -> (Progress, Running) {
        let mut state = self.lock();
        if state.pulls.len() >= REMEMBERED_MAX {
            state.pulls.retain(|_, pull| pull.is_running());
        }
        let pull = state.pulls.entry(image.clone()).or_insert_with(|| Pull {
            progress: Progress::default(),
            activity: 0,
            moved_at: Instant::ORIGIN,
            is_running: Arc::default(),
        });
        let running = Running(Arc::new(AtomicBool::new(true)));
        pull.is_running = running.0.clone();
        pull.moved_at = self.clock.now();
        (pull.progress.clone(), running)
    }

    /// All that has moved, if that is more than when last asked.
    fn moved(&self, image: &Name) -> Option<u64> {
        let mut state = self.lock();
        let pull = state.pulls.get_mut(image)?;
        let activity = pull.progress.counts().activity;
        if activity == pull.activity {
            return None;
        }
        pull.activity = activity;
        pull.moved_at = self.clock.now();
        Some(activity)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt. However it ends, the pull is not under way any more.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn failure(image: &Name, error: &PullError) -> PullFailure {
    let code = match error {
        error if error.is_disk_full() => Code::ResourceExhausted,
        error if error.retryable() => Code::Unavailable,
        PullError::TooLarge { .. } => Code::ResourceExhausted,
        PullError::Disk(_) => Code::Internal,
        _ => Code::FailedPrecondition,
    };
    PullFailure {
        code,
        message: format!("while pulling image {image}: {error}"),
        retry: if error.retryable() {
            Retry::Helps
        } else {
            Retry::Useless
        },
    }
}

#[cfg(test)]
mod tests;
