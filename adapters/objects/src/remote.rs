//! Snapshots in an object store.

mod buffers;
mod download;
mod object;
mod parts;
mod plain;
mod upload;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use holdfast_runtime::tokio::task;
use object_store::multipart::MultipartStore;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};

use self::buffers::Buffers;
use crate::SnapshotUri;
use crate::config::{Config, Extent};
use crate::error::SnapshotError;
use crate::manifest::{MANIFEST_NAME, MAX_MANIFEST_LEN, Manifest, ManifestError};
use crate::name::FileName;

/// Objects are written in parts of this size. S3 wants at least 5 MiB.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// Objects are read in ranges of this size.
pub(crate) const RANGE_BYTES: usize = 4 * 1024 * 1024;

/// How many files of one snapshot are moved at once.
const FILES_AT_ONCE: usize = 4;

/// The largest file, in logical bytes, that is uploaded, or downloaded where no size was recorded.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// S3 allows 10,000 parts, and compression can make data a little longer.
const _: () = assert!(MAX_FILE_BYTES + MAX_FILE_BYTES / 64 <= 10_000 * PART_BYTES as u64);

/// How many clients, one for each bucket, are kept.
const MAX_CLIENTS: usize = 16;

/// The suffix of a file's object.
const STORED_SUFFIX: &str = ".zstd";

/// An object store: all snapshots of a node go through one of these.
pub struct Backend {
    source: Source,
    /// Most recently used last.
    clients: Mutex<Vec<Client>>,
    buffers: Arc<Buffers>,
}

enum Source {
    Config(Config),
    /// One store for all buckets, which are the first part of each path.
    Store(Arc<dyn ObjectStore>, Option<Arc<dyn MultipartStore>>),
}

#[derive(Clone)]
struct Client {
    bucket: String,
    store: Arc<dyn ObjectStore>,
    /// The same store, if an upload in parts can be continued there.
    parts: Option<Arc<dyn MultipartStore>>,
    extent: Extent,
}

impl Backend {
    /// A backend for the configured service. Nothing is contacted yet.
    pub fn new(config: Config) -> Self {
        Self::over_source(Source::Config(config))
    }

    /// A backend on a store of one's own, in which buckets are the first part of each path: for tests, which wrap a
    /// real store in one that fails.
    pub fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self::over_source(Source::Store(store, None))
    }

    /// The same, on a store in which an upload in parts can be continued.
    pub fn over_parts<S: ObjectStore + MultipartStore>(store: Arc<S>) -> Self {
        Self::over_source(Source::Store(store.clone(), Some(store)))
    }

    fn over_source(source: Source) -> Self {
        Self {
            source,
            clients: Mutex::new(Vec::new()),
            buffers: Buffers::new(),
        }
    }

    /// Reads the manifest of a snapshot. [`SnapshotError::NotFound`]: there is no complete snapshot.
    /// [`SnapshotError::Corrupt`]: there was one. [`SnapshotError::Retryable`]: it is not known.
    pub async fn read_manifest(&self, uri: &SnapshotUri) -> Result<Manifest, SnapshotError> {
        let text = self.place(uri)?.read_manifest_text().await?;
        Manifest::from_json(&text).map_err(|error| SnapshotError::corrupt(at(uri, MANIFEST_NAME), error))
    }

    /// Removes a snapshot: the manifest first, so that nobody finds half of one; then its files. What is not there
    /// is removed already. Nothing but the objects of a snapshot, and none further down, is touched.
    pub async fn delete(&self, uri: &SnapshotUri) -> Result<(), SnapshotError> {
        let place = self.place(uri)?;
        place.remove(MANIFEST_NAME).await?;
        let children = place.store.list_with_delimiter(Some(&place.prefix)).await;
        let children = match children.map_err(|error| SnapshotError::store(uri.to_string(), error)) {
            Ok(children) => children.objects,
            Err(SnapshotError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let names = children.iter().filter_map(|object| object.location.filename());
        let stored = names.filter(|name| {
            name.strip_suffix(STORED_SUFFIX)
                .is_some_and(|name| name.parse::<FileName>().is_ok())
        });
        let removals: Vec<_> = stored.map(|name| place.remove(name)).collect();
        let mut removals = futures_util::stream::iter(removals).buffer_unordered(FILES_AT_ONCE);
        while let Some(removed) = removals.next().await {
            removed?;
        }
        Ok(())
    }

    /// Where the snapshot is: the client of its bucket, made when it is first needed.
    fn place<'a>(&self, uri: &'a SnapshotUri) -> Result<Place<'a>, SnapshotError> {
        let client = match &self.source {
            Source::Store(store, parts) => Client {
                bucket: uri.bucket().to_owned(),
                store: store.clone(),
                parts: parts.clone(),
                extent: Extent::AllBuckets,
            },
            Source::Config(config) => self.client(config, uri)?,
        };
        let path = ObjectPath::parse(uri.path())
            .map_err(|error| SnapshotError::store(uri.to_string(), error.into()))?;
        let prefix = match client.extent {
            Extent::Bucket => path,
            Extent::AllBuckets => std::iter::once(client.bucket.as_str().into())
                .chain(path.parts())
                .collect(),
        };
        Ok(Place {
            uri,
            store: client.store,
            parts: client.parts,
            prefix,
        })
    }

    fn client(&self, config: &Config, uri: &SnapshotUri) -> Result<Client, SnapshotError> {
        let bucket = uri.bucket();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clients
            .iter()
            .position(|client| client.bucket == bucket)
            .map(|index| clients.remove(index));
        let client = match known {
            Some(client) => client,
            None => {
                let opened = config
                    .open(bucket)
                    .map_err(|error| SnapshotError::store(uri.to_string(), error))?;
                Client {
                    bucket: bucket.to_owned(),
                    store: opened.store,
                    parts: opened.parts,
                    extent: opened.extent,
                }
            }
        };
        if clients.len() == MAX_CLIENTS {
            clients.remove(0);
        }
        clients.push(client.clone());
        Ok(client)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Config(config) => f.debug_tuple("Backend").field(config).finish(),
            Source::Store(store, _) => f.debug_tuple("Backend").field(&store.to_string()).finish(),
        }
    }
}

/// One snapshot in one store.
struct Place<'a> {
    uri: &'a SnapshotUri,
    store: Arc<dyn ObjectStore>,
    parts: Option<Arc<dyn MultipartStore>>,
    prefix: ObjectPath,
}

impl Place<'_> {
    fn path(&self, object: &str) -> ObjectPath {
        self.prefix.clone().join(object)
    }

    /// The text as it is stored, of bounded length.
    async fn read_manifest_text(&self) -> Result<Vec<u8>, SnapshotError> {
        let at = at(self.uri, MANIFEST_NAME);
        let failed = |error| SnapshotError::store(at.as_str(), error);
        let answer = self.store.get(&self.path(MANIFEST_NAME)).await.map_err(failed)?;
        if answer.meta.size > MAX_MANIFEST_LEN as u64 {
            return Err(SnapshotError::corrupt(
                at,
                ManifestError::TooLong(answer.meta.size),
            ));
        }
        Ok(answer.bytes().await.map_err(failed)?.into())
    }

    async fn remove(&self, object: &str) -> Result<(), SnapshotError> {
        match self.store.delete(&self.path(object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(SnapshotError::store(at(self.uri, object), error)),
        }
    }
}

/// How an object of a snapshot is called in messages.
fn at(uri: &SnapshotUri, object: &str) -> String {
    format!("{}/{object}", uri.to_string().trim_end_matches('/'))
}

fn stored_name(name: &FileName) -> String {
    format!("{name}{STORED_SUFFIX}")
}

/// Runs a bounded piece of work (hashing, compression, disk) away from the async threads.
#[allow(
    deprecated,
    reason = "the simulator's tokio marks what it runs in line, as is fine for bounded work"
)]
async fn off_thread<T: Send + 'static>(
    at: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SnapshotError> {
    task::spawn_blocking(work)
        .await
        .map_err(|error| SnapshotError::retryable(at, error))
}
