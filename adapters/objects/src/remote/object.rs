//! One object in parts: writing it without knowing its length, and knowing what it held in the end.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use holdfast_runtime::tokio::runtime::Handle;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, UploadPart};

use super::off_thread;
use crate::digest::Hasher;
use crate::error::SnapshotError;
use crate::manifest::StoredRecord;

/// An object on its way into the store: in one request when it fits into a single part. It appears when
/// [`finish`](Self::finish) returns, never in pieces; dropped before that, its parts are given up.
pub(super) struct ObjectWriter<'a> {
    store: &'a dyn ObjectStore,
    path: &'a ObjectPath,
    sending: FuturesUnordered<UploadPart>,
    upload: Option<AbortOnDrop>,
}

/// Size and digest of an object, part by part.
#[derive(Default)]
pub(super) struct Account {
    size: u64,
    hasher: Hasher,
}

impl Account {
    /// Takes in the next part, away from the async threads: a caller has something else to do meanwhile.
    pub(super) async fn add(mut self, at: &str, part: Bytes) -> Result<Self, SnapshotError> {
        self.size += part.len() as u64;
        off_thread(at, move || {
            self.hasher.update(&part);
            self
        })
        .await
    }

    pub(super) fn finish(self) -> StoredRecord {
        StoredRecord {
            size: self.size,
            sha256: self.hasher.finish(),
        }
    }
}

impl<'a> ObjectWriter<'a> {
    pub(super) fn new(store: &'a dyn ObjectStore, path: &'a ObjectPath) -> Self {
        Self {
            store,
            path,
            sending: FuturesUnordered::new(),
            upload: None,
        }
    }

    /// Waits for `work` while the parts handed over so far are being sent.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> object_store::Result<T> {
        let mut work = pin!(work);
        while !self.sending.is_empty() {
            match select(work.as_mut(), self.sending.next()).await {
                Either::Left((value, _)) => return Ok(value),
                Either::Right((sent, _)) => sent.transpose()?,
            };
        }
        Ok(work.await)
    }

    /// Hands over a full part; it is sent while the caller awaits anything of this writer.
    pub(super) async fn send(&mut self, part: Bytes) -> object_store::Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self
                .upload
                .insert(AbortOnDrop(Some(self.store.put_multipart(self.path).await?))),
        };
        if let Some(upload) = &mut upload.0 {
            self.sending.push(upload.put_part(part.into()));
        }
        Ok(())
    }

    /// Sends the rest and makes the object appear.
    pub(super) async fn finish(mut self, rest: Bytes) -> object_store::Result<()> {
        if self.upload.is_none() {
            return self.store.put(self.path, rest.into()).await.map(drop);
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        while let Some(sent) = self.sending.next().await {
            sent?;
        }
        if let Some(mut upload) = self.upload.take() {
            if let Some(parts) = &mut upload.0 {
                parts.complete().await?;
            }
            upload.0 = None;
        }
        Ok(())
    }
}

/// Gives up a multipart upload that does not come to its end: the store keeps, and bills, its parts otherwise.
struct AbortOnDrop(Option<Box<dyn MultipartUpload>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "cannot give up an unfinished upload; a lifecycle rule of the bucket has to");
                }
            });
        }
    }
}
