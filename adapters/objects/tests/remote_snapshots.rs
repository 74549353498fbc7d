//! Snapshots in object stores: whole or not there, whatever the store does.

mod faulty;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use faulty::{Fault, Faulty};
use futures_util::future::{Either, select};
use holdfast_objects::{
    Backend, Config, LocalSnapshots, Manifest, Progress, SnapshotError, SnapshotUri, SourceError,
};
use holdfast_runtime::tokio;
use object_store::{ObjectStoreExt as _, PutPayload};
use tempfile::TempDir;

const NAMES: [&str; 3] = ["checkpoint.img", "pages.img", "pages_meta.img"];

/// Incompressible: more than one part.
fn pages() -> &'static [u8] {
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
fn checkpoint() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(NAMES[0]), "the state of the kernel").expect("writes");
    fs::write(directory.path().join(NAMES[1]), pages()).expect("writes");
    let sparse = File::create(directory.path().join(NAMES[2])).expect("creates");
    sparse.set_len(1 << 20).expect("a hole");
    sparse.write_all_at(b"meta", 500_000).expect("writes");
    directory
}

fn plan() -> Manifest {
    Manifest {
        sandbox_class: "gvisor".into(),
        snapshot_files: NAMES.iter().map(|name| name.parse().expect("a name")).collect(),
        operation_id: Some("op-1".into()),
        ..Manifest::default()
    }
}

fn uri() -> SnapshotUri {
    "gs://bucket/a1/2026-06-30T12:00:00+02:00-ABC"
        .parse()
        .expect("a prefix")
}

fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
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

async fn upload(store: &Faulty, from: &Path) -> Result<Manifest, SnapshotError> {
    Backend::over(Arc::new(store.clone()))
        .upload(&uri(), from, &plan(), &Progress::default())
        .await
}

/// Uploads until done, or until the store hangs and the caller has had enough.
async fn upload_or_leave(store: &Faulty, from: &Path) -> Option<Result<Manifest, SnapshotError>> {
    let hung = std::pin::pin!(store.hung.notified());
    match select(std::pin::pin!(upload(store, from)), hung).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

/// Downloads until done, or until the store hangs and the caller has had enough.
async fn download_or_leave(
    store: &Faulty,
    manifest: &Manifest,
    into: &Path,
) -> Option<Result<(), SnapshotError>> {
    let backend = Backend::over(Arc::new(store.clone()));
    let (from, progress) = (uri(), Progress::default());
    let hung = std::pin::pin!(store.hung.notified());
    match select(
        std::pin::pin!(backend.download(&from, manifest, into, &progress)),
        hung,
    )
    .await
    {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

/// What the next resume would get.
async fn restore(store: &Faulty) -> Result<BTreeMap<String, Vec<u8>>, SnapshotError> {
    let backend = Backend::over(store.inner.clone());
    let manifest = backend.read_manifest(&uri()).await?;
    let dest = tempfile::tempdir().expect("a directory");
    backend
        .download(&uri(), &manifest, dest.path(), &Progress::default())
        .await?;
    Ok(content(dest.path()))
}

#[tokio::test]
async fn a_snapshot_comes_back_as_it_went() {
    let root = tempfile::tempdir().expect("a directory");
    let source = checkpoint();
    let backend = Backend::new(Config::file(root.path()).expect("a configuration"));
    for prefix in [
        "gs://bucket/a1/2026-06-30T12:00:00+02:00-ABC/",
        "s3://bucket/with%20space",
        "x://bucket",
    ] {
        let uri: SnapshotUri = prefix.parse().expect(prefix);
        let progress = Progress::default();
        let manifest = backend
            .upload(&uri, source.path(), &plan(), &progress)
            .await
            .expect("uploads");
        let logical: u64 = manifest.files.values().map(|file| file.size).sum();
        assert_eq!(
            (progress.done_bytes(), progress.total_bytes()),
            (logical, logical)
        );
        assert_eq!(backend.read_manifest(&uri).await.expect("reads"), manifest);

        let dest = tempfile::tempdir().expect("a directory");
        let progress = Progress::default();
        backend
            .download(&uri, &manifest, dest.path(), &progress)
            .await
            .expect("downloads");
        let stored: u64 = manifest
            .files
            .values()
            .filter_map(|file| file.stored)
            .map(|stored| stored.size)
            .sum();
        assert_eq!((progress.done_bytes(), progress.total_bytes()), (stored, stored));
        assert!(
            content(dest.path()) == content(source.path()),
            "the content differs"
        );
        let mode = fs::metadata(dest.path().join(NAMES[0]))
            .expect("stat")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let directory = root.path().join("bucket/a1/2026-06-30T12:00:00+02:00-ABC");
    let names: Vec<String> = content(&directory).into_keys().collect();
    assert_eq!(
        names,
        [
            "checkpoint.img.zstd",
            "manifest.json",
            "pages.img.zstd",
            "pages_meta.img.zstd"
        ]
    );
}

#[tokio::test]
async fn snapshots_of_the_original_restore() {
    let store = Faulty::new();
    let source = checkpoint();
    upload(&store, source.path()).await.expect("uploads");
    let path = |name: &str| uri_path().join(name);
    let text = r#"{"sandboxClass":"gvisor","assets":{"runsc":{"url":"gs://x/runsc","sha256":"00"}},"snapshotFiles":["checkpoint.img","pages.img","pages_meta.img"]}"#;
    store
        .inner
        .put(&path("manifest.json"), text.into())
        .await
        .expect("writes");
    let plain = zstd::encode_all(&b"the state of the kernel"[..], 3).expect("compresses");
    store
        .inner
        .put(&path("checkpoint.img.zstd"), plain.into())
        .await
        .expect("writes");
    assert!(
        restore(&store).await.expect("restores") == content(source.path()),
        "the content differs"
    );
}

fn uri_path() -> object_store::path::Path {
    object_store::path::Path::parse(format!("bucket/{}", uri().path())).expect("a path")
}

/// S20 and S25, at every call an upload makes and for every way it can go wrong.
#[tokio::test]
async fn an_upload_interrupted_anywhere_is_whole_or_not_there_and_a_repeated_one_completes_it() {
    let source = checkpoint();
    let whole = content(source.path());
    for fault in [
        Fault::Refuse,
        Fault::LoseAnswer,
        Fault::Cut,
        Fault::Flip,
        Fault::Hang,
    ] {
        for call in 0.. {
            let store = Faulty::new();
            store.arm(call, fault);
            let result = upload_or_leave(&store, source.path()).await;
            let calls = store.calls();
            let case = format!("{fault:?} at call {call}, {:?}", calls.get(call));
            if !store.disarm() {
                assert!(call >= 10, "an upload of this size makes more calls: {calls:?}");
                result.expect("nothing hung").expect("nothing went wrong");
                break;
            }
            match &result {
                Some(Ok(_)) => assert_ne!(fault, Fault::Refuse, "{case}"),
                Some(Err(error)) => assert!(error.is_retryable(), "{case}: {error}"),
                None => assert_eq!(fault, Fault::Hang, "{case}"),
            }
            match restore(&store).await {
                Ok(found) => assert!(found == whole, "{case}: a resume sees something else"),
                Err(error) => {
                    assert!(error.is_lost(), "{case}: {error}");
                    let claimed = matches!(result, Some(Ok(_)));
                    assert!(
                        !claimed || fault == Fault::Flip,
                        "{case}: reported as stored: {error}"
                    );
                }
            }
            upload(&store, source.path())
                .await
                .unwrap_or_else(|error| panic!("{case}, repeated: {error}"));
            match restore(&store).await {
                Ok(found) => assert!(found == whole, "{case}: a resume sees something else"),
                // A bit that flips between here and the store, unseen by both: found when it is read.
                Err(error) => assert!(
                    fault == Fault::Flip && error.is_lost(),
                    "{case}, repeated: {error}"
                ),
            }
        }
        let _ = fs::remove_file(source.path().join(".upload.json"));
    }
}

#[tokio::test]
async fn the_manifest_is_written_after_everything_else() {
    let store = Faulty::new();
    upload(&store, checkpoint().path()).await.expect("uploads");
    let expected: Vec<String> = NAMES
        .iter()
        .map(|name| uri_path().join(format!("{name}.zstd")).to_string())
        .collect();
    let seen = store.objects_at_manifest();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0].iter().collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    let calls = store.calls();
    assert!(
        calls[calls.len() - 1].starts_with("get") && calls[calls.len() - 2].starts_with("put"),
        "{calls:?}"
    );
}

/// S25.
#[tokio::test]
async fn what_is_stored_already_is_not_sent_again() {
    let store = Faulty::new();
    let source = checkpoint();
    let calls_of_an_upload = {
        let other = Faulty::new();
        upload(&other, source.path()).await.expect("uploads");
        other.calls().len()
    };
    // The manifest is the last but one call.
    store.arm(calls_of_an_upload - 2, Fault::Refuse);
    assert!(
        upload(&store, source.path())
            .await
            .expect_err("refused")
            .is_retryable()
    );
    store.disarm();
    let progress = Progress::default();
    let backend = Backend::over(Arc::new(store.clone()));
    backend
        .upload(&uri(), source.path(), &plan(), &progress)
        .await
        .expect("completes");
    let writes: Vec<String> = store
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("put") || call.starts_with("create"))
        .collect();
    assert_eq!(writes, [format!("put {}/manifest.json", uri_path())]);
    assert_eq!(progress.done_bytes(), progress.total_bytes());
    assert!(
        !source.path().join(".upload.json").exists(),
        "nothing is left beside the files"
    );

    // A file that was touched since is another file.
    let store = Faulty::new();
    store.arm(calls_of_an_upload - 2, Fault::Refuse);
    assert!(upload(&store, source.path()).await.is_err());
    store.disarm();
    fs::write(source.path().join(NAMES[0]), "another state").expect("writes");
    upload(&store, source.path()).await.expect("completes");
    assert!(
        restore(&store).await.expect("restores") == content(source.path()),
        "the content differs"
    );
}

/// I4: what `latest` may point to does not change.
#[tokio::test]
async fn a_complete_snapshot_is_returned_when_it_is_the_same_and_kept_when_it_is_not() {
    let store = Faulty::new();
    let source = checkpoint();
    let first = upload(&store, source.path()).await.expect("uploads");
    store.disarm();
    assert_eq!(upload(&store, source.path()).await.expect("is done"), first);
    assert!(
        store
            .calls()
            .iter()
            .all(|call| call.starts_with("get") || call.starts_with("head")),
        "{:?}",
        store.calls()
    );

    let whole = content(source.path());
    fs::write(source.path().join(NAMES[0]), "a later state").expect("writes");
    let error = upload(&store, source.path()).await.expect_err("occupied");
    assert!(matches!(error, SnapshotError::Occupied { .. }), "{error}");
    assert!(
        restore(&store).await.expect("restores") == whole,
        "the old snapshot was altered"
    );
}

#[tokio::test]
async fn a_damaged_snapshot_is_repaired_by_who_still_has_the_files() {
    for damage in ["manifest.json", "pages.img.zstd"] {
        let store = Faulty::new();
        let source = checkpoint();
        upload(&store, source.path()).await.expect("uploads");
        store
            .inner
            .put(&uri_path().join(damage), PutPayload::from_static(b"junk"))
            .await
            .expect("writes");
        assert!(restore(&store).await.expect_err("damaged").is_lost());
        upload(&store, source.path()).await.expect("repairs");
        assert!(
            restore(&store).await.expect("restores") == content(source.path()),
            "the content differs"
        );
    }
}

/// S26.
#[tokio::test]
async fn a_bit_that_rots_in_the_store_is_refused() {
    let store = Faulty::new();
    upload(&store, checkpoint().path()).await.expect("uploads");
    for name in [
        "checkpoint.img.zstd",
        "pages.img.zstd",
        "pages_meta.img.zstd",
        "manifest.json",
    ] {
        let path = uri_path().join(name);
        let good = store
            .inner
            .get(&path)
            .await
            .expect("is there")
            .bytes()
            .await
            .expect("reads");
        // Every bit of the small ones; of the large one, its ends and places between.
        let bits: Vec<usize> = match good.len() {
            len @ ..1000 => (0..len * 8).collect(),
            len => (0..7).map(|place| place * (len * 8 - 1) / 6).collect(),
        };
        for bit in bits {
            let mut rotten = good.to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            store.inner.put(&path, rotten.into()).await.expect("writes");
            let error = restore(&store).await.expect_err("refused");
            assert!(
                matches!(error, SnapshotError::Corrupt { .. }),
                "{name} bit {bit}: {error}"
            );
            assert!(error.to_string().contains(name), "{error}");
        }
        store.inner.put(&path, good.into()).await.expect("writes");
    }
    restore(&store).await.expect("is good again");
}

#[tokio::test]
async fn a_download_interrupted_anywhere_shows_only_whole_files_and_a_repeated_one_completes_it() {
    let store = Faulty::new();
    let source = checkpoint();
    let whole = content(source.path());
    let manifest = upload(&store, source.path()).await.expect("uploads");
    for fault in [
        Fault::Refuse,
        Fault::LoseAnswer,
        Fault::Cut,
        Fault::Flip,
        Fault::Hang,
    ] {
        for call in 0.. {
            let dest = tempfile::tempdir().expect("a directory");
            fs::write(dest.path().join(".pages.img.partial"), "left by a crash").expect("writes");
            store.arm(call, fault);
            let into = dest.path();
            let result = download_or_leave(&store, &manifest, into).await;
            let case = format!("{fault:?} at call {call}, {:?}", store.calls().get(call));
            let is_head = store
                .calls()
                .get(call)
                .is_some_and(|call| call.starts_with("head"));
            if !store.disarm() {
                assert!(call >= 7, "a download of this size makes more calls");
                result.expect("nothing hung").expect("nothing went wrong");
                assert!(content(into) == whole, "{case}");
                break;
            }
            match result {
                Some(Ok(())) => assert!(is_head && matches!(fault, Fault::Cut | Fault::Flip), "{case}"),
                Some(Err(error)) if fault == Fault::Flip => assert!(error.is_lost(), "{case}: {error}"),
                Some(Err(error)) => assert!(error.is_retryable(), "{case}: {error}"),
                None => assert_eq!(fault, Fault::Hang, "{case}"),
            }
            for (name, bytes) in content(into).iter().filter(|(name, _)| !name.starts_with('.')) {
                assert!(*bytes == whole[name], "{case}: {name} is not what was saved");
            }
            let again = Backend::over(Arc::new(store.clone()));
            again
                .download(&uri(), &manifest, into, &Progress::default())
                .await
                .expect("completes");
            assert!(content(into) == whole, "{case}, repeated");
        }
    }
}

#[tokio::test]
async fn missing_damaged_and_unreachable_are_three_answers() {
    let store = Faulty::new();
    let backend = Backend::over(Arc::new(store.clone()));
    assert!(matches!(
        backend.read_manifest(&uri()).await,
        Err(SnapshotError::NotFound { .. })
    ));
    let source = checkpoint();
    let manifest = upload(&store, source.path()).await.expect("uploads");
    store.arm(0, Fault::Refuse);
    assert!(matches!(
        backend.read_manifest(&uri()).await,
        Err(SnapshotError::Retryable { .. })
    ));
    store.disarm();
    store
        .inner
        .delete(&uri_path().join("pages.img.zstd"))
        .await
        .expect("deletes");
    let dest = tempfile::tempdir().expect("a directory");
    let error = backend
        .download(&uri(), &manifest, dest.path(), &Progress::default())
        .await
        .expect_err("a file is gone");
    assert!(
        matches!(error, SnapshotError::NotFound { .. }) && error.to_string().contains("pages.img"),
        "{error}"
    );
    let huge = vec![b' '; 2 << 20];
    store
        .inner
        .put(&uri_path().join("manifest.json"), huge.into())
        .await
        .expect("writes");
    assert!(matches!(
        backend.read_manifest(&uri()).await,
        Err(SnapshotError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn files_that_are_not_what_was_saved_are_not_stored() {
    let node = tempfile::tempdir().expect("a directory");
    let source = checkpoint();
    let local = LocalSnapshots::new(node.path().join("local-checkpoint"));
    let name = "a1-1".parse().expect("a name");
    let whole = content(source.path());
    local.save(source.path(), &name, &plan()).expect("saves");
    let store = Faulty::new();
    let backend = Backend::over(Arc::new(store.clone()));

    let path = local.path(&name).join(NAMES[0]);
    let mut rotten = whole[NAMES[0]].clone();
    rotten[0] ^= 1;
    fs::write(&path, rotten).expect("writes");
    let error = backend
        .upload_local(&uri(), &local, &name, &Progress::default())
        .await
        .expect_err("rot");
    assert!(
        matches!(
            error,
            SnapshotError::Source {
                cause: SourceError::Altered { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains(NAMES[0]), "{error}");
    assert!(matches!(
        backend.read_manifest(&uri()).await,
        Err(SnapshotError::NotFound { .. })
    ));

    fs::write(&path, &whole[NAMES[0]]).expect("writes");
    let manifest = backend
        .upload_local(&uri(), &local, &name, &Progress::default())
        .await
        .expect("uploads");
    assert_eq!(manifest.operation_id.as_deref(), Some("op-1"));
    assert!(
        restore(&store).await.expect("restores") == whole,
        "the content differs"
    );

    let error = backend
        .upload(&uri(), source.path(), &plan(), &Progress::default())
        .await
        .expect_err("no files");
    assert!(matches!(error, SnapshotError::Source { .. }), "{error}");
}

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
