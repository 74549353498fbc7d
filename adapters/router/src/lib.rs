//! The HTTP router of `ate dev`: a request to `<actor>.<atespace>.actors.resources.substrate.ate.dev`
//! resumes that actor and goes on to its worker.
//!
//! ```text
//! client --> server (limits, draining) --> forward --> activation --> Activator (ResumeActor)
//!                                             |
//!                                             +--> worker (one connection per request)
//! ```
//!
//! What it promises:
//! * A request reaches a worker at most once. It is tried again only while no byte of it has been sent.
//! * No connection to a worker outlives its request: after a suspend, another actor may live at the same
//!   address, and a connection that was kept would deliver to it what was meant for the first.
//! * Bodies stream both ways; what is held of one is bounded by socket and read buffers.
//! * However many requests wait for an actor, one activation of it runs at a time.

mod activation;
mod body;
mod exchange;
mod forward;
mod headers;
mod host;
mod server;
mod status;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use holdfast_core::failure::Code;
use holdfast_core::id::ActorKey;

pub use host::{DOMAIN, HostError, parse_host};
pub use server::serve;
pub use status::http_status;

/// Brings actors to life. `ResumeActor` behind whatever leads to it.
#[async_trait]
pub trait Activator: Send + Sync + 'static {
    /// Makes sure that `actor` runs, and tells where.
    ///
    /// `stale` is an address that an earlier call gave for the same actor and that then could not be
    /// connected to. The call may be dropped where it stands when time runs out.
    ///
    /// # Errors
    /// Why the actor does not run.
    async fn resume(&self, actor: &ActorKey, stale: Option<SocketAddr>) -> Result<Route, RouteFailure>;
}

/// Where an actor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where its worker takes HTTP requests.
    pub address: SocketAddr,
}

/// Why an actor cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFailure {
    /// What kind of failure. It decides about the HTTP status, see [`http_status`].
    pub code: Code,
    /// What happened, and what to do. The client sees it.
    pub message: String,
    /// When trying again may help, if that is known.
    pub retry_after: Option<Duration>,
}

impl RouteFailure {
    /// Whether another attempt may succeed without anything being changed first.
    pub fn is_retryable(&self) -> bool {
        self.retry_after.is_some() || matches!(self.code, Code::Aborted | Code::Unavailable)
    }
}

/// How the router behaves. The defaults suit `ate dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a request may wait for its actor, all attempts together.
    pub activation_budget: Duration,
    /// The pause after a first attempt that failed. Each further pause is half as long again, and up to a
    /// fifth is added by chance.
    pub first_pause: Duration,
    /// How long a worker has to accept a connection.
    pub connect_timeout: Duration,
    /// Requests that may be in progress at once; more are refused.
    pub max_requests: usize,
    /// Connections that clients may have open at once; more wait.
    pub max_connections: usize,
    /// The most that the head of a request or a response may take, in bytes. At least 8 KiB.
    pub max_head_bytes: usize,
    /// How long a client may take to send the head of a request, and how long it may keep a connection
    /// without sending one.
    pub head_timeout: Duration,
    /// How long a request may go without any byte moving, in either direction.
    pub stall_timeout: Duration,
    /// How long requests in progress may run on when the router stops.
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            activation_budget: Duration::from_secs(15),
            first_pause: Duration::from_millis(200),
            connect_timeout: Duration::from_secs(2),
            max_requests: 1024,
            max_connections: 4096,
            max_head_bytes: 64 << 10,
            head_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(20),
        }
    }
}
