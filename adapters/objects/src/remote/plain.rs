//! Objects that are no part of a snapshot: the programs of sandboxes are kept in the same stores.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;

use super::{Backend, PART_BYTES};
use crate::error::SnapshotError;
use crate::uri::SnapshotUri;

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
            let size = found.map_err(|error| SnapshotError::store(&*at, error))?.size;
            Ok(stream::try_unfold(0, move |start| {
                let (store, path, at) = (store.clone(), path.clone(), at.clone());
                async move {
                    if start >= size {
                        return Ok(None);
                    }
                    let end = size.min(start + PART_BYTES as u64);
                    let part = store.get_range(&path, start..end).await;
                    let part = part.map_err(|error| SnapshotError::store(&*at, error))?;
                    Ok(Some((part, end)))
                }
            }))
        };
        stream::once(opened).try_flatten()
    }
}
