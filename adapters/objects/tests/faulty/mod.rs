//! An object store in memory that fails on demand, at exactly one of its calls.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use holdfast_runtime::tokio::sync::Notify;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and an error says so.
    Refuse,
    /// It happens, and the answer is lost.
    LoseAnswer,
    /// Half of the bytes get through, and nobody says so.
    Cut,
    /// One bit is flipped on the way.
    Flip,
    /// No answer, ever.
    Hang,
}

#[derive(Clone, Debug)]
pub struct Faulty {
    pub inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
    pub hung: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(usize, Fault)>,
    fired: bool,
    calls: Vec<String>,
    /// What was in the store whenever a manifest was written.
    at_manifest: Vec<BTreeSet<String>>,
}

impl Faulty {
    pub fn new() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            state: Arc::default(),
            hung: Arc::default(),
        }
    }

    /// The `call`th call from now on, counted from zero, goes wrong.
    pub fn arm(&self, call: usize, fault: Fault) {
        *self.state() = State {
            armed: Some((call, fault)),
            ..State::default()
        };
    }

    /// Behaves from now on; says whether it did not.
    pub fn disarm(&self) -> bool {
        std::mem::take(&mut *self.state()).fired
    }

    /// The calls since it was last armed or disarmed.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    pub fn objects_at_manifest(&self) -> Vec<BTreeSet<String>> {
        self.state().at_manifest.clone()
    }

    pub async fn objects(&self) -> BTreeSet<String> {
        let objects: Vec<_> = self.inner.list(None).collect().await;
        objects
            .into_iter()
            .map(|object| object.expect("lists").location.to_string())
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    async fn next(&self, what: &str, path: &Path) -> Result<Option<Fault>> {
        let fault = {
            let mut state = self.state();
            let call = state.calls.len();
            state.calls.push(format!("{what} {path}"));
            let fault = state.armed.filter(|(at, _)| *at == call).map(|(_, fault)| fault);
            state.fired |= fault.is_some();
            fault
        };
        match fault {
            Some(Fault::Refuse) => Err(broken()),
            Some(Fault::Hang) => {
                self.hung.notify_one();
                std::future::pending().await
            }
            fault => Ok(fault),
        }
    }
}

fn broken() -> Error {
    Error::Generic {
        store: "faulty",
        source: std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(),
    }
}

fn altered(bytes: Bytes, fault: Option<Fault>) -> Bytes {
    let mut bytes = Vec::from(bytes);
    match fault {
        Some(Fault::Cut) => bytes.truncate(bytes.len() / 2),
        Some(Fault::Flip) => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x04;
        }
        _ => {}
    }
    bytes.into()
}

fn answered<T>(result: T, fault: Option<Fault>) -> Result<T> {
    if fault == Some(Fault::LoseAnswer) {
        Err(broken())
    } else {
        Ok(result)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.next("put", path).await?;
        if path.filename() == Some("manifest.json") {
            let objects = self.objects().await;
            self.state().at_manifest.push(objects);
        }
        let payload = altered(payload.into(), fault);
        answered(self.inner.put_opts(path, payload.into(), options).await?, fault)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.next("create", path).await?;
        let inner = self.inner.put_multipart_opts(path, options).await?;
        answered(
            Box::new(FaultyUpload {
                store: self.clone(),
                path: path.clone(),
                inner,
            }),
            fault,
        )
        .map(|b| b as _)
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let fault = self.next(if head { "head" } else { "get" }, path).await?;
        let result = answered(self.inner.get_opts(path, options).await?, fault)?;
        if head {
            return Ok(result);
        }
        let (meta, range): (ObjectMeta, Range<u64>) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let bytes = altered(result.bytes().await?, fault);
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes,
            extensions,
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                let fault = store.next("delete", &path).await?;
                store.inner.delete(&path).await?;
                answered(path, fault)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fault = self.next("list", prefix.unwrap_or(&Path::default())).await?;
        answered(self.inner.list_with_delimiter(prefix).await?, fault)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[derive(Debug)]
struct FaultyUpload {
    store: Faulty,
    path: Path,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        // A part that is dropped or altered is so before it is handed on: the inner store numbers parts by calls.
        let (store, path) = (self.store.clone(), self.path.clone());
        let fault = {
            let state = store.state();
            state
                .armed
                .filter(|(at, _)| *at == state.calls.len())
                .map(|(_, fault)| fault)
        };
        let sent = self.inner.put_part(altered(payload.into(), fault).into());
        Box::pin(async move {
            let fault = store.next("part", &path).await?;
            sent.await?;
            answered((), fault)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.next("complete", &self.path).await?;
        answered(self.inner.complete().await?, fault)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
