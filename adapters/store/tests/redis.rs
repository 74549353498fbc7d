//! The suite on a real `redis-server`, and what only a server can do.

mod server;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_store::Store;
use holdfast_store::conformance::Subject;
use holdfast_store::redis::{Redis, Timing};
use server::Server;

fn store(server: &Server) -> Arc<dyn Store> {
    Arc::new(Redis::new(server.url().parse().unwrap(), Timing::default()))
}

struct OnRedis {
    store: Arc<dyn Store>,
    peer: Arc<dyn Store>,
    _server: Server,
}

impl OnRedis {
    async fn start() -> OnRedis {
        let server = Server::start(&[]);
        OnRedis { store: store(&server), peer: store(&server), _server: server }
    }
}

impl Subject for OnRedis {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn peer(&self) -> Arc<dyn Store> {
        self.peer.clone()
    }

    /// The server's clock is that of this host, and it ends a lease in the millisecond that it names.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time + Duration::from_millis(20)))
    }
}

mod suite {
    holdfast_store::conformance_suite!(super::OnRedis::start());
}
