//! How many pairs of "take the lease and read" and "write and release" a store does per second.
//!
//! `cargo bench -p holdfast-store`. The figures are of this machine and its disk; the Redis server is a
//! local one that keeps nothing on disk.

#[path = "../tests/samples/mod.rs"]
mod samples;
#[path = "../tests/server/mod.rs"]
#[allow(dead_code, reason = "the tests break it, this does not")]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_runtime::clock::SystemClock;
use holdfast_store::Store;
use holdfast_store::embedded::Embedded;
use holdfast_store::redis::{Config, Redis, Url};
use samples::{actor, put, token};

const FOR: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path().join("store"), Arc::new(SystemClock)).unwrap();
    let server = server::Server::start(&[]);
    let redis = Redis::new(Config::from(server.url().parse::<Url>().unwrap()));
    println!("{:<10} {:>8} {:>12}", "store", "clients", "pairs/s");
    for clients in [1, 16, 64, 256] {
        println!(
            "{:<10} {clients:>8} {:>12.0}",
            "embedded",
            pairs_per_second(&embedded, clients).await
        );
        println!(
            "{:<10} {clients:>8} {:>12.0}",
            "redis",
            pairs_per_second(&redis, clients).await
        );
    }
}

/// Each client has an actor of its own.
async fn pairs_per_second(store: &dyn Store, clients: usize) -> f64 {
    let start = Instant::now();
    let work = (0..clients).map(|client| async move {
        let actor = actor(&format!("of-{clients}-{client}"));
        let mut pairs = 0;
        while start.elapsed() < FOR {
            let token = token(pairs);
            let ttl = Duration::from_secs(30);
            let acquire = StoreOp::AcquireLease {
                key: actor.key.clone(),
                token,
                ttl,
                steal: None,
            };
            let Ok(StoreReply::Acquired(_)) = store.execute(acquire).await else {
                panic!("not acquired")
            };
            let write = put(&actor, (pairs > 0).then_some(pairs), Some(token));
            assert_eq!(store.execute(write).await, Ok(StoreReply::Done));
            pairs += 1;
        }
        pairs
    });
    let pairs: u64 = join_all(work).await.into_iter().sum();
    pairs as f64 / start.elapsed().as_secs_f64()
}
