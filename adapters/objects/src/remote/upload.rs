//! Disk to object store.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::join;
use futures_util::{StreamExt as _, stream};
use object_store::{ObjectStoreExt as _, PutMode};

use super::object::{Account, ObjectWriter};
use super::parts::Notes;
use super::{Backend, FILES_AT_ONCE, MAX_FILE_BYTES, Place, at, off_thread, stored_name};
use crate::SnapshotUri;
use crate::content::{SourceError, Version, measure};
use crate::dir::Dir;
use crate::error::SnapshotError;
use crate::ledger::Ledger;
use crate::local::LocalSnapshots;
use crate::manifest::{FileRecord, MANIFEST_NAME, Manifest};
use crate::name::{FileName, LocalName};
use crate::progress::Progress;
use crate::sparse::{Encoder, Fill};

impl Backend {
    /// Uploads the files of `plan` from `dir` to `uri`, and returns the manifest as it is now stored.
    ///
    /// Success means: every object is there in its full size, and the manifest, written after all of them, has been
    /// read back as it was written. Before that there is no snapshot at `uri`.
    ///
    /// Repeated after any interruption it goes on: objects that are complete are not sent again, and a snapshot that
    /// is complete is returned as it is. A *different* complete snapshot is never touched
    /// ([`SnapshotError::Occupied`]). Files that turn out other than `plan` says are [`SnapshotError::Source`].
    pub async fn upload(
        &self,
        uri: &SnapshotUri,
        dir: &Path,
        plan: &Manifest,
        progress: &Progress,
    ) -> Result<Manifest, SnapshotError> {
        plan.check()
            .map_err(|error| SnapshotError::corrupt(dir.display().to_string(), error))?;
        let upload = Upload {
            backend: self,
            place: self.place(uri)?,
            dir: Dir::open(dir).map_err(|error| SnapshotError::source(dir.display().to_string(), error))?,
            dir_path: dir,
            plan,
            progress,
        };
        if let Some(manifest) = upload.find_completed().await? {
            Ledger::remove(&upload.dir);
            return Ok(manifest);
        }
        let manifest = upload.upload_files().await?;
        upload.write_manifest(&manifest).await?;
        Ledger::remove(&upload.dir);
        Ok(manifest)
    }

    /// Uploads a snapshot that is kept on this node. Its checksums are those taken when it was saved: what has rotted
    /// on disk meanwhile is refused, not stored.
    pub async fn upload_local(
        &self,
        uri: &SnapshotUri,
        local: &LocalSnapshots,
        name: &LocalName,
        progress: &Progress,
    ) -> Result<Manifest, SnapshotError> {
        let plan = local.read_manifest(name)?;
        self.upload(uri, &local.path(name), &plan, progress).await
    }
}

struct Upload<'a> {
    backend: &'a Backend,
    place: Place<'a>,
    dir: Dir,
    dir_path: &'a Path,
    plan: &'a Manifest,
    progress: &'a Progress,
}

impl Upload<'_> {
    /// The manifest of an earlier attempt that came to its end without the caller hearing of it.
    async fn find_completed(&self) -> Result<Option<Manifest>, SnapshotError> {
        let found = match self.place.read_manifest_text().await {
            Ok(text) => Manifest::from_json(&text).ok(),
            Err(SnapshotError::NotFound { .. }) => return Ok(None),
            Err(SnapshotError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(found) = found {
            if !self.is_same(&found).await? {
                return Err(SnapshotError::Occupied {
                    at: self.place.uri.to_string(),
                });
            }
            if self.is_whole(&found).await? {
                return Ok(Some(found));
            }
        }
        // A manifest nobody can restore from. It goes before its files are replaced.
        self.place.remove(MANIFEST_NAME).await?;
        Ok(None)
    }

    /// Whether a stored snapshot has the content of the files here.
    async fn is_same(&self, found: &Manifest) -> Result<bool, SnapshotError> {
        if found.snapshot_files != self.plan.snapshot_files {
            return Ok(false);
        }
        for name in &self.plan.snapshot_files {
            let Some(there) = found.files.get(name) else {
                return Ok(false);
            };
            let here = match self.plan.files.get(name) {
                Some(record) => *record,
                None => {
                    let file = self.open(name)?;
                    let measured = off_thread(&self.here(name), move || measure(&file)).await?;
                    measured.map_err(|error| SnapshotError::source(self.here(name), error))?
                }
            };
            if !here.same_content(there) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether every object of a manifest is there in its size.
    async fn is_whole(&self, manifest: &Manifest) -> Result<bool, SnapshotError> {
        for (name, record) in &manifest.files {
            if !self.is_stored(name, record).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn is_stored(&self, name: &FileName, record: &FileRecord) -> Result<bool, SnapshotError> {
        let object = stored_name(name);
        match self.place.store.head(&self.place.path(&object)).await {
            Ok(meta) => Ok(record.stored.is_some_and(|stored| stored.size == meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(SnapshotError::store(at(self.place.uri, &object), error)),
        }
    }

    async fn upload_files(&self) -> Result<Manifest, SnapshotError> {
        let ledger = Mutex::new(Ledger::load(&self.dir, self.place.uri));
        let noted = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = Vec::with_capacity(self.plan.snapshot_files.len());
        for name in &self.plan.snapshot_files {
            let file = self.open(name)?;
            let size = file
                .metadata()
                .map_err(|error| SnapshotError::source(self.here(name), error))?
                .len();
            if size > MAX_FILE_BYTES {
                let cause = SourceError::TooLarge {
                    size,
                    limit: MAX_FILE_BYTES,
                };
                return Err(SnapshotError::source(self.here(name), cause));
            }
            self.progress.expect(size);
            let expected = self.plan.files.get(name);
            let earlier = noted().find(name, &file);
            let earlier =
                earlier.filter(|record| expected.is_none_or(|expected| expected.same_content(record)));
            files.push((name, file, earlier));
        }
        let ledger = &ledger;
        let uploads = files.into_iter().map(|(name, file, earlier)| async move {
            match earlier {
                Some(record) if self.is_stored(name, &record).await? => {
                    self.progress.advance(record.size);
                    Ok((name, record, Sent::Earlier))
                }
                _ => Ok((name, self.upload_file(name, file, ledger).await?, Sent::Now)),
            }
        });
        // Collected, because a closure that is kept over an await makes the whole future unfit for a task.
        let uploads: Vec<_> = uploads.collect();
        let mut uploads = stream::iter(uploads).buffer_unordered(FILES_AT_ONCE);
        let mut manifest = self.plan.clone();
        while let Some(uploaded) = uploads.next().await {
            let (name, record, sent) = uploaded?;
            manifest.files.insert(name.clone(), record);
            if sent == Sent::Now {
                noted().add(&self.dir, name.clone(), record);
            }
        }
        Ok(manifest)
    }

    async fn upload_file(
        &self,
        name: &FileName,
        file: File,
        ledger: &Mutex<Ledger>,
    ) -> Result<FileRecord, SnapshotError> {
        let object = stored_name(name);
        let path = self.place.path(&object);
        let at = at(self.place.uri, &object);
        let refused = |error| lost_is_retryable(SnapshotError::store(at.as_str(), error));
        let unreadable = |error| SnapshotError::source(self.here(name), error);
        let notes = Notes {
            ledger,
            dir: &self.dir,
            name,
            version: Version::of(&file).map_err(|error| unreadable(error.into()))?,
        };
        let mut encoder = Encoder::new(file).map_err(|error| unreadable(error.into()))?;
        let parts = self.place.parts.as_ref().map(|parts| (parts, notes));
        let mut writer = ObjectWriter::new(&*self.place.store, &path, parts);
        let mut account = Account::default();
        let mut last = Bytes::new();
        let record = loop {
            let read_before = encoder.position();
            // Three at once: this part is read and compressed, the one before is hashed, those before it are sent.
            // Waiting for a buffer holds up none of the others: they are what makes one free.
            let step = async {
                let mut buffer = self.backend.buffers.take().await;
                off_thread(&at, move || {
                    let fill = encoder.fill(&mut buffer.bytes);
                    (encoder, fill, buffer)
                })
                .await
            };
            let is_new = !last.is_empty();
            let (step, added) = writer
                .meanwhile(join(step, account.add(&at, last)))
                .await
                .map_err(refused)?;
            let (stepped, fill, buffer) = step?;
            (encoder, account) = (stepped, added?);
            if is_new {
                writer.accounted(&account);
            }
            self.progress.advance(encoder.position() - read_before);
            last = buffer.into();
            match fill.map_err(unreadable)? {
                Fill::Part if writer.may_be_sent() => {
                    account = account.add(&at, last.clone()).await?;
                    let part = std::mem::take(&mut last);
                    if !writer.is_sent(&account) {
                        writer.send(part).await.map_err(refused)?;
                        writer.accounted(&account);
                    }
                }
                Fill::Part => writer.send(last.clone()).await.map_err(refused)?,
                Fill::Last(record) => {
                    SourceError::check(self.plan.files.get(name), &record).map_err(unreadable)?;
                    let (finished, added) = join(writer.finish(last.clone()), account.add(&at, last)).await;
                    finished.map_err(refused)?;
                    break FileRecord {
                        stored: Some(added?.finish()),
                        ..record
                    };
                }
            }
        };
        if self.is_stored(name, &record).await? {
            Ok(record)
        } else {
            Err(SnapshotError::retryable(
                at.as_str(),
                "the store did not keep the object that it confirmed",
            ))
        }
    }

    /// The last write, which makes the snapshot exist; and the proof that it does (S20).
    async fn write_manifest(&self, manifest: &Manifest) -> Result<(), SnapshotError> {
        use object_store::Error as Answer;
        let at = at(self.place.uri, MANIFEST_NAME);
        let refused = |error| lost_is_retryable(SnapshotError::store(at.as_str(), error));
        let path = self.place.path(MANIFEST_NAME);
        let text = manifest.to_json();
        match self
            .place
            .store
            .put_opts(&path, text.clone().into(), PutMode::Create.into())
            .await
        {
            // Present already: maybe our own, from a request that was sent twice. Reading it back will tell.
            Ok(_) | Err(Answer::AlreadyExists { .. } | Answer::Precondition { .. }) => {}
            Err(Answer::NotImplemented { .. } | Answer::NotSupported { .. }) => {
                self.place
                    .store
                    .put(&path, text.clone().into())
                    .await
                    .map_err(refused)?;
            }
            Err(error) => return Err(refused(error)),
        }
        let stored = self.place.read_manifest_text().await.map_err(lost_is_retryable)?;
        if stored == text {
            return Ok(());
        }
        match Manifest::from_json(&stored) {
            Ok(_) => Err(SnapshotError::Occupied {
                at: self.place.uri.to_string(),
            }),
            Err(_) => Err(SnapshotError::retryable(
                at.as_str(),
                "the manifest reads back other than it was written",
            )),
        }
    }

    fn open(&self, name: &FileName) -> Result<File, SnapshotError> {
        self.dir
            .open_file(name.as_str())
            .map_err(|error| SnapshotError::source(self.here(name), error))
    }

    /// How a file of the source directory is called in messages.
    fn here(&self, name: &FileName) -> String {
        self.dir_path.join(name.as_str()).display().to_string()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Earlier,
    Now,
}

/// While a snapshot is being written, something of it that is missing or damaged is not a loss: the files are here.
fn lost_is_retryable(error: SnapshotError) -> SnapshotError {
    match error {
        SnapshotError::NotFound { ref at } | SnapshotError::Corrupt { ref at, .. } => {
            SnapshotError::retryable(at.clone(), error)
        }
        error => error,
    }
}
