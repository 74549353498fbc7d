//! DebugClear: everything that callers have made is deleted, record by record, so that it works on every store
//! and those who watch workers hear of it. Reports of nodes stay, so that workers which are really there come
//! back free, and what deleted actors left behind is still collected.

use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::{LeaseToken, ReplicaId};
use holdfast_runtime::entropy::fresh_u64;
use holdfast_store::Store;
use tonic::Status;

const PAGE: u32 = 1000;
/// What is written meanwhile is deleted in the next pass.
const PASSES_MAX: u32 = 5;

/// Deletes all actors, workers and atespaces.
///
/// # Errors
/// `Unavailable` when the store does not answer; `Aborted` when others write faster than this deletes.
pub async fn clear(store: &dyn Store) -> Result<(), Status> {
    for _ in 0..PASSES_MAX {
        let deleted = pass(store).await.map_err(|error| match error {
            StoreError::Unavailable(why) => Status::unavailable(format!("store unavailable: {why}")),
            StoreError::Refused(why) => Status::failed_precondition(format!("store: {why}")),
        })?;
        if deleted == 0 {
            return Ok(());
        }
        tracing::warn!(records = deleted, "DebugClear has deleted");
    }
    Err(Status::aborted("concurrent update conflict, please retry"))
}

/// How many actors and atespaces there were to delete.
async fn pass(store: &dyn Store) -> Result<u64, StoreError> {
    let mut found = 0;
    // Nobody's lease: those of workflows under way end by themselves, when their writes are refused.
    let release = LeaseToken {
        replica: ReplicaId(fresh_u64()),
        seq: fresh_u64(),
    };
    let mut after = None;
    loop {
        let list = StoreOp::ListActors {
            atespace: None,
            after,
            limit: PAGE,
        };
        let StoreReply::Actors { actors, next } = store.execute(list).await? else {
            return Err(misfit());
        };
        for actor in actors {
            found += 1;
            let expect = actor.edition();
            let key = actor.key;
            store
                .execute(StoreOp::DeleteActor { key, expect, release })
                .await?;
        }
        match next {
            None => break,
            next => after = next,
        }
    }
    let StoreReply::Workers(workers) = store.execute(StoreOp::ListWorkers).await? else {
        return Err(misfit());
    };
    // Not counted: replicas write those again that a node still reports.
    for worker in workers {
        let expect = worker.edition();
        let key = worker.key;
        store.execute(StoreOp::DeleteWorker { key, expect }).await?;
    }
    let StoreReply::Atespaces(atespaces) = store.execute(StoreOp::ListAtespaces).await? else {
        return Err(misfit());
    };
    for name in atespaces {
        found += 1;
        store.execute(StoreOp::DeleteAtespace(name)).await?;
    }
    Ok(found)
}

fn misfit() -> StoreError {
    StoreError::Refused("an answer does not fit its question".to_owned())
}
