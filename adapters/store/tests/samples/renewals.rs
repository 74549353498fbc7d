//! Many leases that are renewed at once.

use futures_util::future::join_all;
use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_core::id::ActorKey;
use holdfast_core::time::Duration;
use holdfast_store::Store;

use crate::samples::token;

/// Renews two hundred leases at once, each third of which is somebody else's.
pub async fn renew_many(store: &dyn Store) {
    let ttl = Duration::from_secs(600);
    let keys: Vec<ActorKey> = (0..200)
        .map(|n| ActorKey::new("team-a", format!("many-{n}")))
        .collect();
    for key in &keys {
        let acquire = StoreOp::AcquireLease {
            key: key.clone(),
            token: token(1),
            ttl,
            steal: None,
        };
        assert_eq!(store.execute(acquire).await, Ok(StoreReply::Acquired(None)));
    }
    let renewals = keys.iter().enumerate().map(async |(nth, key)| {
        let is_ours = nth % 3 != 0;
        let renew = StoreOp::RenewLease {
            key: key.clone(),
            token: token(if is_ours { 1 } else { 2 }),
            ttl,
        };
        let expected = if is_ours {
            StoreReply::Done
        } else {
            StoreReply::NotOwner
        };
        assert_eq!(store.execute(renew).await, Ok(expected), "{key:?}");
    });
    join_all(renewals).await;
}
