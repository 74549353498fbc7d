//! Object store to disk.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::future::join;
use futures_util::{StreamExt as _, stream};
use holdfast_runtime::tokio::sync::OwnedSemaphorePermit;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt as _};

use super::object::Account;
use super::{Backend, FILES_AT_ONCE, MAX_FILE_BYTES, Place, RANGE_BYTES, at, off_thread, stored_name};
use crate::SnapshotUri;
use crate::dir::Dir;
use crate::error::SnapshotError;
use crate::manifest::{FileRecord, Manifest};
use crate::name::FileName;
use crate::progress::Progress;
use crate::sparse::{DecodeError, Decoder, same_digest};

/// How many ranges of one file are asked for ahead of the one being written.
const RANGES_AHEAD: usize = 4;

impl Backend {
    /// Downloads the files of `manifest` into `dest`, which must exist, with mode 0600.
    ///
    /// A file appears under its name only once it is complete and has the recorded size and digests; manifests of the
    /// original record none, and their files are checked for their structure. On an error some files may be there;
    /// all of those are good.
    pub async fn download(
        &self,
        uri: &SnapshotUri,
        manifest: &Manifest,
        dest: &Path,
        progress: &Progress,
    ) -> Result<(), SnapshotError> {
        manifest
            .check()
            .map_err(|error| SnapshotError::corrupt(uri.to_string(), error))?;
        let on_disk = |error| SnapshotError::disk(dest.display().to_string(), error);
        let download = Download {
            backend: self,
            place: self.place(uri)?,
            dest: Dir::open(dest).map_err(on_disk)?,
            dest_path: dest,
            progress,
        };
        download.dest.remove_temps().map_err(on_disk)?;
        // Collected, because a closure that is kept over an await makes the whole future unfit for a task.
        let files: Vec<_> = manifest
            .snapshot_files
            .iter()
            .map(|name| download.file(name, manifest.files.get(name)))
            .collect();
        let mut files = stream::iter(files).buffer_unordered(FILES_AT_ONCE);
        while let Some(done) = files.next().await {
            done?;
        }
        Ok(())
    }
}

struct Download<'a> {
    backend: &'a Backend,
    place: Place<'a>,
    dest: Dir,
    dest_path: &'a Path,
    progress: &'a Progress,
}

/// A range that has arrived, with the room in memory that it takes until it is written.
struct Chunk {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Download<'_> {
    async fn file(&self, name: &FileName, expected: Option<&FileRecord>) -> Result<(), SnapshotError> {
        let object = stored_name(name);
        let path = self.place.path(&object);
        let at = at(self.place.uri, &object);
        let here = self.dest_path.join(name.as_str()).display().to_string();
        let on_disk = |error| SnapshotError::disk(here.as_str(), error);
        let damaged = |error| match error {
            DecodeError::Write(error) => SnapshotError::disk(here.as_str(), error),
            error => SnapshotError::decode(at.as_str(), error),
        };

        let meta = self
            .place
            .store
            .head(&path)
            .await
            .map_err(|error| SnapshotError::store(at.as_str(), error))?;
        let recorded = expected.and_then(|record| record.stored);
        if let Some(recorded) = recorded.filter(|recorded| recorded.size != meta.size) {
            return Err(damaged(DecodeError::StoredSize {
                expected: recorded.size,
                found: meta.size,
            }));
        }
        self.progress.expect(meta.size);

        let temp = self.dest.create_temp(name.as_str()).map_err(on_disk)?;
        let file = temp.file.try_clone().map_err(on_disk)?;
        let mut decoder = Decoder::new(file, expected.copied(), MAX_FILE_BYTES).map_err(on_disk)?;
        let ranges = (0..meta.size)
            .step_by(RANGE_BYTES)
            .map(|from| from..meta.size.min(from + RANGE_BYTES as u64));
        let mut chunks =
            stream::iter(ranges.map(|range| self.chunk(&path, &at, &meta, range))).buffered(RANGES_AHEAD);
        let mut account = recorded.map(|recorded| (recorded, Account::default()));
        let mut next = chunks.next().await;
        while let Some(chunk) = next {
            let chunk = chunk?;
            let length = chunk.bytes.len() as u64;
            let bytes = chunk.bytes.clone();
            let written = off_thread(&at, move || decoder.push(&bytes).map(|()| decoder));
            // Three at once: this range is written, its digest taken, and the next one fetched. The last may have to
            // wait for room, so this one is let go as soon as the first two are done.
            let handled = async {
                let added = async {
                    match account.take() {
                        Some((recorded, account)) => {
                            let account = account.add(&at, chunk.bytes.clone()).await?;
                            Ok(Some((recorded, account)))
                        }
                        None => Ok(None),
                    }
                };
                let done = join(written, added).await;
                drop(chunk);
                done
            };
            let ((written, added), arrived) = join(handled, chunks.next()).await;
            decoder = written?.map_err(damaged)?;
            account = added?;
            next = arrived;
            self.progress.advance(length);
        }
        if let Some((recorded, account)) = account {
            same_digest("stored bytes", recorded.sha256, account.finish().sha256).map_err(damaged)?;
        }
        off_thread(&at, move || decoder.finish())
            .await?
            .map_err(damaged)?;
        // Here and not in a thread of its own: dropped before this line, the file never appears.
        temp.publish().map_err(on_disk)
    }

    async fn chunk(
        &self,
        path: &ObjectPath,
        at: &str,
        meta: &ObjectMeta,
        range: Range<u64>,
    ) -> Result<Chunk, SnapshotError> {
        let room = self.backend.buffers.room().await;
        let length = range.end - range.start;
        // All ranges of one and the same object, even if somebody replaces it meanwhile.
        let options = GetOptions {
            range: Some(range.into()),
            if_match: meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let refused = |error| SnapshotError::store(at, error);
        let answer = self.place.store.get_opts(path, options).await.map_err(refused)?;
        let bytes = answer.bytes().await.map_err(refused)?;
        if bytes.len() as u64 != length {
            let cause = format!("the store sent {} bytes of the {length} asked for", bytes.len());
            return Err(SnapshotError::retryable(at, cause));
        }
        Ok(Chunk { bytes, _room: room })
    }
}
