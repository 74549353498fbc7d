//! What a checkpoint leaves on disk, and where the tests store it.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use holdfast_objects::{Backend, Manifest, Progress, SnapshotError, SnapshotUri};
use tempfile::TempDir;

use crate::faulty::Faulty;

pub const NAMES: [&str; 3] = ["checkpoint.img", "pages.img", "pages_meta.img"];

/// Incompressible: more than one part.
pub fn pages() -> &'static [u8] {
    static PAGES: OnceLock<Vec<u8>> = OnceLock::new();
    PAGES.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..9 * 131_072).flat_map(|_| next()).collect()
    })
}

/// What a checkpoint leaves: a small file, a large one, and one with a hole.
pub fn checkpoint() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(NAMES[0]), "the state of the kernel").expect("writes");
    fs::write(directory.path().join(NAMES[1]), pages()).expect("writes");
    let sparse = File::create(directory.path().join(NAMES[2])).expect("creates");
    sparse.set_len(1 << 20).expect("a hole");
    sparse.write_all_at(b"meta", 500_000).expect("writes");
    directory
}

pub fn plan() -> Manifest {
    Manifest {
        sandbox_class: "gvisor".into(),
        snapshot_files: NAMES.iter().map(|name| name.parse().expect("a name")).collect(),
        operation_id: Some("op-1".into()),
        ..Manifest::default()
    }
}

pub fn uri() -> SnapshotUri {
    "gs://bucket/a1/2026-06-30T12:00:00+02:00-ABC"
        .parse()
        .expect("a prefix")
}

pub fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("text")
            .to_owned();
        (name, fs::read(path).expect("reads"))
    };
    fs::read_dir(directory).expect("lists").map(read).collect()
}

pub async fn upload(store: &Faulty, from: &Path) -> Result<Manifest, SnapshotError> {
    Backend::over(Arc::new(store.clone()))
        .upload(&uri(), from, &plan(), &Progress::default())
        .await
}

/// What the next resume would get.
pub async fn restore(store: &Faulty) -> Result<BTreeMap<String, Vec<u8>>, SnapshotError> {
    let backend = Backend::over(store.inner.clone());
    let manifest = backend.read_manifest(&uri()).await?;
    let dest = tempfile::tempdir().expect("a directory");
    backend
        .download(&uri(), &manifest, dest.path(), &Progress::default())
        .await?;
    Ok(content(dest.path()))
}

pub fn uri_path() -> object_store::path::Path {
    object_store::path::Path::parse(format!("bucket/{}", uri().path())).expect("a path")
}
