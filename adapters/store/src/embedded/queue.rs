//! Writes that wait for the disk go down together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_runtime::tokio::sync::oneshot;
use holdfast_runtime::tokio::task::spawn_blocking;

use super::Inner;

/// The most writes that share one flush: more would only make the first of them wait.
const BATCH: usize = 256;

/// The writes that wait, and whether somebody is writing.
#[derive(Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    writes: Vec<Write>,
    /// Whether somebody takes from `writes` until there are none.
    busy: bool,
}

struct Write {
    op: StoreOp,
    answer: oneshot::Sender<Result<StoreReply, StoreError>>,
}

/// Queues a write and waits until it is durable, or refused. Whoever finds nobody writing starts to.
pub(super) async fn write(inner: &Arc<Inner>, op: StoreOp) -> Result<StoreReply, StoreError> {
    let (answer, answered) = oneshot::channel();
    let idle = {
        let mut waiting = inner.queue.lock();
        waiting.writes.push(Write { op, answer });
        !std::mem::replace(&mut waiting.busy, true)
    };
    if idle {
        let inner = inner.clone();
        spawn_blocking(move || Writing(&inner).run());
    }
    answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the write was abandoned half-way".into())))
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is called while this is locked, so that it is whole even where a thread has panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch; `None` means that the caller has stopped writing.
    fn take(&self) -> Option<Vec<Write>> {
        let mut waiting = self.lock();
        if waiting.writes.is_empty() {
            waiting.busy = false;
            return None;
        }
        let count = waiting.writes.len().min(BATCH);
        Some(waiting.writes.drain(..count).collect())
    }
}

/// Whoever is writing at this time.
struct Writing<'a>(&'a Inner);

impl Writing<'_> {
    fn run(self) {
        while let Some(writes) = self.0.queue.take() {
            let (ops, answers): (Vec<_>, Vec<_>) =
                writes.into_iter().map(|Write { op, answer }| (op, answer)).unzip();
            for (answer, outcome) in answers.into_iter().zip(self.0.write(&ops)) {
                // Nobody may be waiting for it any more; it has happened all the same.
                let _ = answer.send(outcome);
            }
        }
    }
}

impl Drop for Writing<'_> {
    /// A panic while writing must not leave the others waiting for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = self.0.queue.lock();
            waiting.writes.clear();
            waiting.busy = false;
        }
    }
}
