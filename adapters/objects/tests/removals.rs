//! Snapshots that nobody needs any more.

mod checkpoint;
mod faulty;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use checkpoint::{checkpoint, plan, upload, uri, uri_path};
use faulty::{Fault, Faulty};
use holdfast_objects::{Backend, Config, Progress, SnapshotError};
use holdfast_runtime::tokio;
use object_store::{ObjectStoreExt as _, PutPayload};

/// S66.
#[tokio::test]
async fn removing_takes_the_manifest_first_and_nothing_of_anybody_else() {
    let source = checkpoint();
    for call in 0.. {
        let store = Faulty::new();
        upload(&store, source.path()).await.expect("uploads");
        let others = [
            uri_path().join("deeper").join("pages.img.zstd"),
            uri_path().join("notes.txt"),
        ];
        let sibling =
            object_store::path::Path::parse(format!("{}-2/pages.img.zstd", uri_path())).expect("a path");
        for path in others.iter().chain([&sibling]) {
            store
                .inner
                .put(path, PutPayload::from_static(b"x"))
                .await
                .expect("writes");
        }
        store.arm(call, Fault::Refuse);
        let backend = Backend::over(Arc::new(store.clone()));
        let first = backend.delete(&uri()).await;
        let calls = store.calls();
        assert_eq!(calls[0], format!("delete {}/manifest.json", uri_path()));
        let fired = store.disarm();
        if fired {
            assert!(first.expect_err("refused").is_retryable());
        }
        if call > 0 {
            assert!(matches!(
                backend.read_manifest(&uri()).await,
                Err(SnapshotError::NotFound { .. })
            ));
        }
        backend.delete(&uri()).await.expect("removes the rest");
        let left: Vec<String> = store.objects().await.into_iter().collect();
        let mut expected: Vec<String> = others.iter().chain([&sibling]).map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(left, expected);
        if !fired {
            break;
        }
    }
    let root = tempfile::tempdir().expect("a directory");
    let backend = Backend::new(Config::file(root.path()).expect("a configuration"));
    backend
        .delete(&uri())
        .await
        .expect("nothing there is removed already");
    backend
        .upload(&uri(), source.path(), &plan(), &Progress::default())
        .await
        .expect("uploads");
    backend.delete(&uri()).await.expect("removes");
    assert!(content_is_empty(root.path()), "no directories stay behind");
}

fn content_is_empty(root: &Path) -> bool {
    fs::read_dir(root).expect("lists").next().is_none()
}
