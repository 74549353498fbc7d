//! Objects that are no part of a snapshot: the programs of sandboxes are kept in the same stores.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use object_store::{GetOptions, ObjectStoreExt as _};

use super::{Backend, RANGE_BYTES};
use crate::SnapshotUri;
use crate::error::SnapshotError;

impl Backend {
    /// The bytes of one object, as it is stored, in pieces. Nothing is asked before the stream is polled;
    /// [`SnapshotError::NotFound`] when there is no such object.
    pub fn read_object(
        &self,
        uri: SnapshotUri,
    ) -> impl Stream<Item = Result<Bytes, SnapshotError>> + Send + use<'_> {
        let opened = async move {
            let at: Arc<str> = uri.to_string().into();
            let place = self.place(&uri)?;
            let (store, path) = (place.store, place.prefix);
            let found = store.head(&path).await;
            let found = found.map_err(|error| SnapshotError::store(&*at, error))?;
            Ok(stream::try_unfold(0, move |start| {
                let (store, path, at, found) = (store.clone(), path.clone(), at.clone(), found.clone());
                async move {
                    if start >= found.size {
                        return Ok(None);
                    }
                    let end = found.size.min(start + RANGE_BYTES as u64);
                    // All of one and the same object, even if somebody replaces it meanwhile.
                    let options = GetOptions {
                        range: Some((start..end).into()),
                        if_match: found.e_tag,
                        ..GetOptions::default()
                    };
                    let answer = match store.get_opts(&path, options).await {
                        Ok(answer) => answer.bytes().await,
                        Err(error) => Err(error),
                    };
                    let part = answer.map_err(|error| SnapshotError::store(&*at, error))?;
                    Ok(Some((part, end)))
                }
            }))
        };
        stream::once(opened).try_flatten()
    }
}
