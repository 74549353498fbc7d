//! What becomes of an embedded store whose file has been damaged.

mod samples;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_runtime::clock::SystemClock;
use holdfast_store::Store;
use holdfast_store::embedded::{Embedded, OpenError};
use samples::{actor, put};

const PAGE_BYTES: usize = 4096;
const ACTORS: usize = 300;

fn open(path: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(path, Arc::new(SystemClock))
}

async fn count(store: &Embedded) -> usize {
    let list = StoreOp::ListActors {
        atespace: None,
        after: None,
        limit: 10_000,
    };
    match store.execute(list).await {
        Ok(StoreReply::Actors { actors, next: None }) => actors.len(),
        other => panic!("{other:?}"),
    }
}

/// One page after the other is overwritten: the store is as it was, or refused by its name, or what could be
/// saved is there once that has been told. It is never a panic, which would fail this test.
#[tokio::test]
async fn a_page_that_was_overwritten_is_told_of_before_the_store_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path).unwrap();
    for index in 0..ACTORS {
        store
            .execute(put(&actor(&format!("a{index}")), None, None))
            .await
            .unwrap();
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    for page in 0..whole.len() / PAGE_BYTES {
        let mut damaged = whole.clone();
        let (from, to) = (page * PAGE_BYTES + 64, page * PAGE_BYTES + 192);
        damaged[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(&path, damaged).unwrap();
        match open(&path) {
            Ok(store) => assert_eq!(count(&store).await, ACTORS, "page {page}"),
            Err(error) => {
                refused += 1;
                let told = error.to_string();
                assert!(told.starts_with(&path.display().to_string()), "{told}");
                assert!(told.contains("restore it from a backup"), "{told}");
                if matches!(error, OpenError::Repaired { .. }) {
                    assert!(count(&open(&path).unwrap()).await <= ACTORS, "page {page}");
                }
            }
        }
    }
    assert!(refused > 10, "only {refused} pages made a difference");
}

#[test]
fn a_store_that_was_cut_to_nothing_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    drop(open(&path).unwrap());
    fs::write(&path, "").unwrap();
    let Err(error @ OpenError::Empty { .. }) = open(&path) else {
        panic!("it was")
    };
    let told = error.to_string();
    assert!(
        told.contains("store: is empty") && told.contains("restore it"),
        "{told}"
    );
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "it is left as it is");
}

#[test]
fn a_store_that_was_cut_short_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    drop(open(&path).unwrap());
    let whole = fs::read(&path).unwrap();
    for length in [1, PAGE_BYTES, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let Err(error) = open(&path) else {
            panic!("{length} of {} bytes were opened", whole.len())
        };
        assert!(
            error.to_string().starts_with(&path.display().to_string()),
            "{error}"
        );
    }
}
