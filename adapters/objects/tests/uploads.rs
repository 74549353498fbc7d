//! Into an object store: whole or not there, whatever the store does.

mod checkpoint;
mod faulty;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use checkpoint::{NAMES, checkpoint, content, plan, restore, upload, uri, uri_path};
use faulty::{Fault, Faulty};
use futures_util::future::{Either, join_all, select};
use holdfast_objects::{
    Backend, Config, LocalSnapshots, Manifest, Progress, SnapshotError, SnapshotUri, SourceError,
};
use holdfast_runtime::tokio;
use object_store::{ObjectStoreExt as _, PutPayload};

/// Uploads until done, or until the store hangs and the caller has had enough.
async fn upload_or_leave(store: &Faulty, from: &Path) -> Option<Result<Manifest, SnapshotError>> {
    let hung = std::pin::pin!(store.hung.notified());
    match select(std::pin::pin!(upload(store, from)), hung).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
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

/// More files at once than there are buffers, nobody waits for memory while holding some.
#[tokio::test]
async fn uploads_never_wait_for_each_other_in_a_circle() {
    let source = tempfile::tempdir().expect("a directory");
    let names: Vec<String> = (0..4).map(|n| format!("pages-{n}.img")).collect();
    for name in &names {
        fs::write(source.path().join(name), checkpoint::pages()).expect("writes");
    }
    let plan = Manifest {
        sandbox_class: "gvisor".into(),
        snapshot_files: names.iter().map(|name| name.parse().expect("a name")).collect(),
        ..Manifest::default()
    };
    let backend = Backend::over(Arc::new(Faulty::new()));
    let uris: Vec<SnapshotUri> = (0..4)
        .map(|n| format!("gs://b/{n}").parse().expect("a prefix"))
        .collect();
    let progress = Progress::default();
    let uploads = uris
        .iter()
        .map(|uri| backend.upload(uri, source.path(), &plan, &progress));
    for uploaded in join_all(uploads).await {
        assert_eq!(uploaded.expect("uploads").files.len(), names.len());
    }
}

/// A node lets transfers go on when the caller has left: they must be fit for a task of their own.
#[test]
fn transfers_may_be_tasks() {
    fn fit<T: Send>(_: T) {}
    let backend = Backend::over(Arc::new(Faulty::new()));
    let (uri, plan, progress, path) = (uri(), plan(), Progress::default(), Path::new("unused"));
    fit(backend.upload(&uri, path, &plan, &progress));
    fit(backend.download(&uri, &plan, path, &progress));
    fit(backend.read_manifest(&uri));
    fit(backend.delete(&uri));
    fit(backend.read_object(uri.clone()));
}
