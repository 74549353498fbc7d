//! One transport for gRPC, on real and on simulated sockets.
//!
//! ```text
//! generated client -> Channel -> h2 -> Socket ~~~~ Socket -> h2 -> serve -> DeadlineLayer -> Routes
//! ```
//!
//! tonic's own transport keeps time with timers that the simulator does not have, so the few parts of it
//! that we need are built here on hyper: connect, keepalive, limits, draining. Messages, codecs, statuses
//! and generated code stay tonic's.

mod address;
mod channel;
mod deadline;
#[cfg(not(madsim))]
mod keep_alive;
mod server;
mod socket;
mod time;
mod tls;

use std::time::Duration;

pub use address::{Address, AddressError};
pub use channel::Channel;
pub use deadline::{DeadlineLayer, DeadlineService, deadline};
pub use server::serve;
pub use socket::{BindError, Listener, Peer, Socket};
pub use time::{Executor, Timer};
pub use tls::{Authorization, ClientTls, PeerCertificates, Security, ServerTls};

/// How connections are kept. The defaults suit every link inside a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// How long a client tries to connect before the peer counts as unreachable.
    pub connect_timeout: Duration,
    /// How long nothing may arrive on a connection before the peer is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long the peer has to give that sign before the connection counts as dead.
    pub keepalive_timeout: Duration,
    /// Calls that one connection may have in flight at a server; a client's further calls wait.
    pub max_concurrent_streams: u32,
    /// How long a server that stops lets calls in flight run on before it cuts them.
    pub drain_timeout: Duration,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            max_concurrent_streams: 1024,
            drain_timeout: Duration::from_secs(20),
        }
    }
}
