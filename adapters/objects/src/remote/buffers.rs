//! The memory that transfers of one backend may hold, all of them together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use holdfast_runtime::tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PART_BYTES;

/// How many pieces are in memory at most.
const COUNT: usize = 8;

/// A fixed number of buffers for pieces of stored bytes. They are used again while anything moves, and given back to
/// the system when nothing does.
#[derive(Debug)]
pub(super) struct Buffers {
    room: Arc<Semaphore>,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(COUNT)),
            free: Mutex::default(),
        })
    }

    /// Waits for room for one piece that somebody else allocates.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        self.room
            .clone()
            .acquire_owned()
            .await
            .expect("this semaphore is never closed")
    }

    /// Waits for an empty buffer of [`PART_BYTES`].
    pub(super) async fn take(self: &Arc<Self>) -> Buffer {
        let room = self.room().await;
        let reused = self.free().pop();
        Buffer {
            bytes: reused.unwrap_or_else(|| Vec::with_capacity(PART_BYTES)),
            buffers: self.clone(),
            _room: room,
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One buffer. Dropped, or when the last of its [`Bytes`] is, it is free again.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    buffers: Arc<Buffers>,
    _room: OwnedSemaphorePermit,
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Bytes {
        Bytes::from_owner(buffer)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut free = self.buffers.free();
        free.push(bytes);
        let only_this_is_in_use = self.buffers.room.available_permits() + 1 == COUNT;
        if only_this_is_in_use {
            *free = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use holdfast_runtime::tokio;

    use super::*;

    #[tokio::test]
    async fn there_are_so_many_and_no_more_and_none_when_nothing_moves() {
        let buffers = Buffers::new();
        let mut held: Vec<Bytes> = Vec::new();
        for n in 0..COUNT {
            let mut buffer = buffers.take().await;
            assert!(buffer.bytes.is_empty() && buffer.bytes.capacity() >= PART_BYTES);
            buffer.bytes.push(n as u8);
            held.push(buffer.into());
        }
        assert!(buffers.take().now_or_never().is_none(), "one more than there are");
        let last = held.pop().expect("taken");
        let slice = last.slice(..1);
        drop(last);
        assert!(
            buffers.take().now_or_never().is_none(),
            "a slice of it is still held"
        );
        drop(slice);
        assert_eq!(buffers.free().len(), 1);
        held.push(buffers.take().await.into());
        assert_eq!(buffers.free().len(), 0, "the free one is used again");
        held.clear();
        assert_eq!(buffers.free().len(), 0, "nothing is kept for nobody");
    }
}
