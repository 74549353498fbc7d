//! One object in parts: writing it without knowing its length, and knowing what it held in the end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use holdfast_runtime::tokio::runtime::Handle;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _};

use super::off_thread;
use super::parts::{Notes, Parts};
use crate::digest::{Hasher, Sha256};
use crate::error::SnapshotError;
use crate::manifest::StoredRecord;

/// An object on its way into the store: in one request when it fits into a single part. It appears when
/// [`finish`](Self::finish) returns, never in pieces; dropped before that, its parts are noted or given up.
pub(super) struct ObjectWriter<'a> {
    store: &'a dyn ObjectStore,
    path: &'a ObjectPath,
    sending: FuturesUnordered<Sending>,
    upload: Upload<'a>,
}

type Sending = BoxFuture<'static, object_store::Result<Option<(usize, PartId)>>>;

/// What has become of an object that does not fit into a single part.
enum Upload<'a> {
    /// It has not turned out yet that it does not fit.
    None(Option<(&'a Arc<dyn MultipartStore>, Notes<'a>)>),
    /// The store cannot say what it calls parts: they are of use to this attempt only.
    Once(AbortOnDrop),
    /// What is sent is of use to later attempts, too.
    Parts(Parts<'a>),
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

    /// The digest of all parts so far.
    pub(super) fn prefix(&self) -> Sha256 {
        self.hasher.clone().finish()
    }

    pub(super) fn finish(self) -> StoredRecord {
        StoredRecord {
            size: self.size,
            sha256: self.hasher.finish(),
        }
    }
}

impl<'a> ObjectWriter<'a> {
    /// With `parts`, what is sent is noted, and what an earlier attempt has sent is used.
    pub(super) fn new(
        store: &'a dyn ObjectStore,
        path: &'a ObjectPath,
        parts: Option<(&'a Arc<dyn MultipartStore>, Notes<'a>)>,
    ) -> Self {
        let resumed = parts.and_then(|(store, notes)| Parts::resume(store, path, notes));
        Self {
            store,
            path,
            sending: FuturesUnordered::new(),
            upload: resumed.map_or(Upload::None(parts), Upload::Parts),
        }
    }

    /// Waits for `work` while the parts handed over so far are being sent.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> object_store::Result<T> {
        let mut work = pin!(work);
        while !self.sending.is_empty() {
            match select(work.as_mut(), self.sending.next()).await {
                Either::Left((value, _)) => return Ok(value),
                Either::Right((sent, _)) => self.sent(sent.transpose())?,
            };
        }
        Ok(work.await)
    }

    /// Whether the next part may have been sent by an earlier attempt.
    pub(super) fn may_be_sent(&self) -> bool {
        matches!(&self.upload, Upload::Parts(parts) if parts.may_be_sent())
    }

    /// Whether the next part, which is the last in `account`, was sent by an earlier attempt.
    pub(super) fn is_sent(&mut self, account: &Account) -> bool {
        match &mut self.upload {
            Upload::Parts(parts) => parts.is_sent(account.prefix()),
            _ => false,
        }
    }

    /// A part that was handed over is in the account now.
    pub(super) fn accounted(&mut self, account: &Account) {
        if let Upload::Parts(parts) = &mut self.upload {
            parts.accounted(account.prefix());
        }
    }

    /// Hands over a full part; it is sent while the caller awaits anything of this writer.
    pub(super) async fn send(&mut self, part: Bytes) -> object_store::Result<()> {
        if let Upload::None(parts) = &self.upload {
            self.upload = match parts {
                Some((store, notes)) => Upload::Parts(Parts::begin(store, self.path, *notes).await?),
                None => Upload::Once(AbortOnDrop(Some(self.store.put_multipart(self.path).await?))),
            };
        }
        match &mut self.upload {
            Upload::Parts(parts) => self.sending.push(parts.send(part).map_ok(Some).boxed()),
            Upload::Once(AbortOnDrop(Some(upload))) => {
                self.sending
                    .push(upload.put_part(part.into()).map_ok(|()| None).boxed());
            }
            Upload::Once(AbortOnDrop(None)) | Upload::None(_) => {}
        }
        Ok(())
    }

    /// Sends the rest and makes the object appear.
    pub(super) async fn finish(mut self, rest: Bytes) -> object_store::Result<()> {
        if let Upload::None(_) = self.upload {
            return self.store.put(self.path, rest.into()).await.map(drop);
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        while let Some(sent) = self.sending.next().await {
            self.sent(sent.map(Some))?;
        }
        match &mut self.upload {
            Upload::Parts(parts) => parts.complete().await?,
            Upload::Once(upload) => {
                if let Some(parts) = &mut upload.0 {
                    parts.complete().await?;
                }
                upload.0 = None;
            }
            Upload::None(_) => {}
        }
        Ok(())
    }

    fn sent(
        &mut self,
        sent: object_store::Result<Option<Option<(usize, PartId)>>>,
    ) -> object_store::Result<()> {
        let Upload::Parts(parts) = &mut self.upload else {
            return sent.map(drop);
        };
        match sent {
            Ok(Some(Some((index, part)))) => parts.sent(index, part),
            Ok(_) => {}
            Err(error) => {
                // Parts that it has not are sent to another upload with the next attempt.
                if matches!(error, object_store::Error::NotFound { .. }) {
                    parts.forget();
                }
                return Err(error);
            }
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
