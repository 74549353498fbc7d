//! The account of one request, written to the log when it is over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_core::id::ActorKey;
use holdfast_core::time::Instant;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::OwnedSemaphorePermit;
use http::{Method, StatusCode};

/// One request from its head to the last byte of its response. Dropping it writes the log line and makes
/// room for the next request.
pub(crate) struct Exchange {
    method: Method,
    /// Without the query, which may hold what a log must not.
    path: String,
    started: Instant,
    pub(crate) activity: Arc<Activity>,
    pub(crate) actor: Option<ActorKey>,
    pub(crate) worker: Option<SocketAddr>,
    pub(crate) attempts: u32,
    /// When a worker had been connected to.
    connected: Option<Instant>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) end: End,
    /// `None` when the request was refused for want of room.
    _room: Option<OwnedSemaphorePermit>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// The client has gone away. This is so until something else is known.
    Abandoned,
    /// The router itself gave the response.
    Answered,
    /// The worker's response has been passed on to its end.
    Complete,
    /// The worker's response broke off.
    Cut,
    /// No byte moved for too long.
    Stalled,
}

impl Exchange {
    pub(crate) fn new(
        method: Method,
        path: String,
        activity: Arc<Activity>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            method,
            path,
            started: activity.clock.now(),
            activity,
            actor: None,
            worker: None,
            attempts: 0,
            connected: None,
            status: None,
            end: End::Abandoned,
            _room: room,
        }
    }

    /// A worker has been connected to. Waiting for that was no stall.
    pub(crate) fn connected(&mut self) {
        self.activity.moved(Direction::Up, 0);
        self.connected = Some(self.activity.clock.now());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let millis = |until: Instant| until.since(self.started).as_millis();
        tracing::info!(
            method = %self.method,
            path = self.path,
            actor = self.actor.as_ref().map(tracing::field::display),
            worker = self.worker.map(tracing::field::display),
            attempts = self.attempts,
            status = self.status.map(|status| status.as_u16()),
            end = ?self.end,
            connect_ms = self.connected.map(millis),
            total_ms = millis(self.activity.clock.now()),
            bytes_up = self.activity.up.load(Ordering::Relaxed),
            bytes_down = self.activity.down.load(Ordering::Relaxed),
            "request"
        );
    }
}

/// When bytes last moved, and how many have.
pub(crate) struct Activity {
    clock: Arc<dyn Clock>,
    stall_timeout: Duration,
    last_micros: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// Which way bytes move.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    /// To the worker.
    Up,
    /// To the client.
    Down,
}

impl Activity {
    pub(crate) fn new(clock: Arc<dyn Clock>, stall_timeout: Duration) -> Arc<Self> {
        let last_micros = AtomicU64::new(clock.now().as_micros());
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self {
            clock,
            stall_timeout,
            last_micros,
            up,
            down,
        })
    }

    pub(crate) fn moved(&self, direction: Direction, bytes: usize) {
        let count = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_micros
            .store(self.clock.now().as_micros(), Ordering::Relaxed);
    }

    /// Resolves once nothing has moved for the stall timeout.
    pub(crate) async fn stalled(self: Arc<Self>) {
        loop {
            let last = Instant::from_micros(self.last_micros.load(Ordering::Relaxed));
            let left = last.plus(self.stall_timeout).since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}
