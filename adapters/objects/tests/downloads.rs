//! Out of an object store: what was written, or nothing.

mod checkpoint;
mod faulty;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use checkpoint::{checkpoint, content, restore, upload, uri, uri_path};
use faulty::{Fault, Faulty};
use futures_util::future::{Either, join_all, select};
use holdfast_objects::{Backend, Manifest, Progress, SnapshotError};
use holdfast_runtime::tokio;
use object_store::ObjectStoreExt as _;

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

/// More files at once than there are buffers, each of more ranges than are fetched ahead: nobody waits for memory
/// while holding some.
#[tokio::test]
async fn downloads_never_wait_for_each_other_in_a_circle() {
    let source = tempfile::tempdir().expect("a directory");
    let names = ["pages-0.img", "pages-1.img"];
    fs::write(source.path().join(names[0]), checkpoint::pages().repeat(2)).expect("writes");
    fs::hard_link(source.path().join(names[0]), source.path().join(names[1])).expect("links");
    let names = names.map(|name| name.parse().expect("a name"));
    let plan = Manifest {
        sandbox_class: "gvisor".into(),
        snapshot_files: names.into(),
        ..Manifest::default()
    };
    let backend = Backend::over(Arc::new(Faulty::new()));
    let (from, progress) = (uri(), Progress::default());
    let manifest = backend
        .upload(&from, source.path(), &plan, &progress)
        .await
        .expect("uploads");
    let dests: Vec<_> = (0..6)
        .map(|_| tempfile::tempdir().expect("a directory"))
        .collect();
    let downloads = dests
        .iter()
        .map(|dest| backend.download(&from, &manifest, dest.path(), &progress));
    join_all(downloads)
        .await
        .into_iter()
        .for_each(|done| done.expect("downloads"));
    assert!(
        content(dests[5].path()) == content(source.path()),
        "the content differs"
    );
}
