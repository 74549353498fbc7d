//! Page tokens, as callers hand them back.

use std::sync::{Arc, LazyLock};

use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::tokio::runtime::{Builder, Runtime};
use holdfast_store::Store;
use holdfast_store::embedded::Embedded;

use crate::feed::lines;

struct Empty {
    store: Embedded,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

static EMPTY: LazyLock<Empty> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    Empty {
        store: Embedded::open(directory.path().join("store"), Arc::new(SystemClock)).expect("a store"),
        runtime: Builder::new_current_thread().build().expect("a runtime"),
        _directory: directory,
    }
});

/// A token and perhaps an atespace: of an empty store there is an empty page, or a refusal, and neither
/// is a fault of the store. No token is one of two lists.
pub fn run(data: &[u8]) {
    let Some([token, atespace]) = lines(data) else {
        return;
    };
    let op = StoreOp::ListActors {
        atespace: (!atespace.is_empty()).then(|| atespace.into()),
        after: Some(token.into()),
        limit: 10,
    };
    let is_of_actors = match EMPTY.runtime.block_on(EMPTY.store.execute(op)) {
        Ok(StoreReply::Actors { actors, next }) => {
            assert!(actors.is_empty() && next.is_none());
            true
        }
        Err(StoreError::Refused(_)) => false,
        other => panic!("{other:?}"),
    };
    let op = StoreOp::ListGraves {
        after: Some(token.into()),
        limit: 10,
    };
    match EMPTY.runtime.block_on(EMPTY.store.execute(op)) {
        Ok(StoreReply::Graves { graves, next }) => {
            assert!(graves.is_empty() && next.is_none() && !is_of_actors);
        }
        Err(StoreError::Refused(_)) => {}
        other => panic!("{other:?}"),
    }
}
