//! Uploads in parts that go on after a failure or a kill, where the store can continue them.

mod checkpoint;
mod faulty;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use checkpoint::{content, uri};
use futures_util::stream::BoxStream;
use holdfast_objects::{Backend, Manifest, Progress, SnapshotError, Unfinished};
use holdfast_runtime::tokio;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

const PART_BYTES: usize = 8 << 20;
const PARTS: usize = 4;
/// So many parts of the first attempt are taken.
const TAKEN: usize = 3;

/// A store in memory that counts parts, and fails from some part on.
#[derive(Debug, Default)]
struct Store {
    inner: InMemory,
    created: AtomicUsize,
    aborted: AtomicUsize,
    sent: AtomicUsize,
    /// So many more parts are taken.
    taken: AtomicUsize,
    /// Whether uploads that were begun are still known.
    has_forgotten: AtomicUsize,
}

impl Store {
    fn new(taken: usize) -> Arc<Self> {
        let store = Self::default();
        store.taken.store(taken, Ordering::SeqCst);
        Arc::new(store)
    }

    /// Parts that were sent since this was last asked.
    fn sent(&self) -> usize {
        self.sent.swap(0, Ordering::SeqCst)
    }

    async fn upload(self: &Arc<Self>, from: &Path) -> std::result::Result<Manifest, SnapshotError> {
        // Each time as another process would.
        let backend = Backend::over_parts(self.clone());
        backend.upload(&uri(), from, &plan(), &Progress::default()).await
    }

    async fn check(self: &Arc<Self>, manifest: &Manifest, expected: &Path) {
        let restored = tempfile::tempdir().expect("a directory");
        let backend = Backend::over_parts(self.clone());
        backend
            .download(&uri(), manifest, restored.path(), &Progress::default())
            .await
            .expect("downloads");
        assert!(
            content(restored.path()) == content(expected),
            "the content differs"
        );
    }
}

fn plan() -> Manifest {
    Manifest {
        snapshot_files: vec!["pages.img".parse().expect("a name")],
        ..Manifest::default()
    }
}

/// A file that nothing makes smaller, of `PARTS` full parts and a bit.
fn source() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    let pages: Vec<u8> = words
        .take(PARTS * PART_BYTES / 8)
        .flat_map(u64::to_le_bytes)
        .collect();
    fs::write(directory.path().join("pages.img"), pages).expect("writes");
    directory
}

/// S25.
#[tokio::test]
async fn an_upload_that_broke_off_goes_on_with_the_parts_that_are_missing() {
    let (store, source) = (Store::new(TAKEN), source());
    assert!(store.upload(source.path()).await.expect_err("cut").is_retryable());
    assert_eq!(store.sent(), TAKEN);
    store.taken.store(usize::MAX, Ordering::SeqCst);
    let manifest = store.upload(source.path()).await.expect("completes");
    let rest = store.sent();
    assert!(
        (PARTS + 1 - TAKEN..=PARTS + 2 - TAKEN).contains(&rest),
        "{rest} parts were sent again"
    );
    assert_eq!(store.created.load(Ordering::SeqCst), 1);
    store.check(&manifest, source.path()).await;
    assert!(!source.path().join(".upload.json").exists());
}

/// The kill is a future that is dropped, and notes that are as old as the last one before it.
#[tokio::test]
async fn after_a_kill_what_was_noted_last_is_not_sent_again() {
    let (store, source) = (Store::new(TAKEN), source());
    assert!(store.upload(source.path()).await.is_err());
    let ledger = source.path().join(".upload.json");
    let mut notes: serde_json::Value =
        serde_json::from_slice(&fs::read(&ledger).expect("notes")).expect("json");
    let parts = notes["open"]["pages.img"]["parts"].as_array_mut().expect("parts");
    parts.truncate(2);
    fs::write(&ledger, notes.to_string()).expect("writes");
    store.sent();
    store.taken.store(usize::MAX, Ordering::SeqCst);
    let manifest = store.upload(source.path()).await.expect("completes");
    assert_eq!(store.sent(), PARTS + 1 - 2);
    store.check(&manifest, source.path()).await;
}

#[tokio::test]
async fn another_file_or_other_bytes_are_sent_anew_from_where_they_differ() {
    let (store, source) = (Store::new(TAKEN), source());
    assert!(store.upload(source.path()).await.is_err());
    let ledger = source.path().join(".upload.json");
    let mut notes: serde_json::Value =
        serde_json::from_slice(&fs::read(&ledger).expect("notes")).expect("json");
    notes["open"]["pages.img"]["parts"][1]["prefix"] = "00".repeat(32).into();
    fs::write(&ledger, notes.to_string()).expect("writes");
    store.sent();
    store.taken.store(1, Ordering::SeqCst);
    assert!(store.upload(source.path()).await.is_err());
    assert_eq!(store.sent(), 1, "the second is the first that is sent");

    // Touched since, so nothing that was noted counts.
    store.taken.store(usize::MAX, Ordering::SeqCst);
    let mut pages = fs::read(source.path().join("pages.img")).expect("reads");
    pages[0] ^= 1;
    fs::write(source.path().join("pages.img"), pages).expect("writes");
    let manifest = store.upload(source.path()).await.expect("completes");
    assert_eq!(store.sent(), PARTS + 1);
    store.check(&manifest, source.path()).await;
}

#[tokio::test]
async fn an_upload_that_the_store_has_forgotten_is_begun_anew() {
    let (store, source) = (Store::new(TAKEN), source());
    assert!(store.upload(source.path()).await.is_err());
    store.taken.store(usize::MAX, Ordering::SeqCst);
    store.has_forgotten.store(1, Ordering::SeqCst);
    assert!(
        store
            .upload(source.path())
            .await
            .expect_err("forgotten")
            .is_retryable()
    );
    store.has_forgotten.store(0, Ordering::SeqCst);
    let manifest = store.upload(source.path()).await.expect("completes");
    assert_eq!(store.created.load(Ordering::SeqCst), 2);
    store.check(&manifest, source.path()).await;
}

#[tokio::test]
async fn parts_of_files_that_are_removed_are_given_up() {
    let (store, source) = (Store::new(TAKEN), source());
    assert!(Unfinished::beside(source.path()).is_none());
    assert!(store.upload(source.path()).await.is_err());
    let unfinished = Unfinished::beside(source.path()).expect("an upload is open");
    Backend::over_parts(store.clone()).give_up(unfinished).await;
    assert_eq!(store.aborted.load(Ordering::SeqCst), 1);
}

#[async_trait]
impl MultipartStore for Store {
    async fn create_multipart(&self, path: &ObjectPath) -> Result<MultipartId> {
        self.created.fetch_add(1, Ordering::SeqCst);
        self.inner.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &ObjectPath,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        if self.has_forgotten.load(Ordering::SeqCst) > 0 {
            return Err(Error::NotFound {
                path: path.to_string(),
                source: "no such upload".into(),
            });
        }
        let take = |left: usize| left.checked_sub(1);
        if self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_err()
        {
            return Err(Error::Generic {
                store: "counting",
                source: std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(),
            });
        }
        self.sent.fetch_add(1, Ordering::SeqCst);
        self.inner.put_part(path, id, part, data).await
    }

    async fn complete_multipart(
        &self,
        path: &ObjectPath,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.inner.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &ObjectPath, id: &MultipartId) -> Result<()> {
        self.aborted.fetch_add(1, Ordering::SeqCst);
        self.inner.abort_multipart(path, id).await
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("counting")
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(
        &self,
        path: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &ObjectPath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
