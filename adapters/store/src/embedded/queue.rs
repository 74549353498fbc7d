//! Writes that wait for the disk go down together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_runtime::tokio::sync::oneshot;

use super::{Inner, blocking};

/// The most writes that share one flush: more would only make the first of them wait.
const BATCH: usize = 256;

/// The writes that wait, and whether somebody is writing.
#[derive(Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    writes: Vec<Write>,
    /// Whether somebody writes until nobody waits.
    busy: bool,
}

struct Write {
    op: StoreOp,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<StoreReply, StoreError>>;

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
        blocking(move || write_all(inner));
    }
    answered
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the write was abandoned half-way".into())))
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is called while this is locked, so that it is whole even where a thread has panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Write> {
        let mut waiting = self.lock();
        let count = waiting.writes.len().min(BATCH);
        waiting.writes.drain(..count).collect()
    }

    /// Whether the caller, who has been writing, may stop.
    fn rest(&self) -> bool {
        let mut waiting = self.lock();
        waiting.busy = !waiting.writes.is_empty();
        !waiting.busy
    }
}

/// Writes until nobody waits. Blocks.
fn write_all(inner: Arc<Inner>) {
    loop {
        let (ops, answers): (Vec<_>, Vec<_>) = inner
            .queue
            .take()
            .into_iter()
            .map(|Write { op, answer }| (op, answer))
            .unzip();
        let outcomes = {
            let _others = Others(&inner.queue);
            inner.write(&ops)
        };
        let outcomes = answers.into_iter().zip(outcomes);
        if inner.queue.rest() {
            // Whoever has heard the last answer may close the store and open it again.
            drop(inner);
            return tell(outcomes);
        }
        tell(outcomes);
    }
}

fn tell(outcomes: impl Iterator<Item = (Answer, Result<StoreReply, StoreError>)>) {
    for (answer, outcome) in outcomes {
        // Nobody may be waiting for it any more; it has happened all the same.
        let _ = answer.send(outcome);
    }
}

/// Those who wait while somebody writes: a panic there must not leave them waiting for ever.
struct Others<'a>(&'a Queue);

impl Drop for Others<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = self.0.lock();
            waiting.writes.clear();
            waiting.busy = false;
        }
    }
}
