//! Taking connections until told to stop.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{Listener, Peer, Socket, Timer};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::forward::Forwarder;
use crate::{Activator, Settings};

/// How long to wait after a connection could not be accepted, for descriptors to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The stages of a server, in order. A connection acts on each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Requests in progress end by themselves; no new ones are taken.
    Draining,
    /// Whatever is left is cut.
    Closed,
}

/// How long a router that stops waits for calls of its own that are under way: long enough for what they begin to be on
/// record, where whoever puts actors to sleep after it sees it. A pull may take minutes.
const LAST_CALLS_WITHIN: Duration = Duration::from_secs(2);

/// Routes requests that come to `listener` until `stop` resolves; then takes no new ones, tells those that
/// still wait for their actor so at once, lets those that a worker has run on for at most
/// [`Settings::drain_timeout`], and returns when all have ended. It has asked for no actor any more since it began to
/// stop, and what it had asked for by then has ended, or is on record as being resumed.
///
/// Failing to accept a connection never ends it.
pub async fn serve(
    listener: Listener,
    activator: Arc<dyn Activator>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    stop: impl Future<Output = ()>,
) {
    let stopping = Shutdown::new();
    let forwarder = Arc::new(Forwarder::new(activator, clock, settings, stopping.clone()));
    let room = Arc::new(Semaphore::new(settings.max_connections));
    let stage = watch::Sender::new(Stage::Serving);
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    let forwarder = Arc::clone(&forwarder);
                    tokio::spawn(connection(
                        socket,
                        client(&peer),
                        forwarder,
                        settings,
                        stage.subscribe(),
                        place,
                    ));
                }
                Err(error) => {
                    tracing::warn!(address = %listener.address(), %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stop => {}
        () = accepting => {}
    }
    drop(listener);
    stopping.trigger();
    stage.send_replace(Stage::Draining);
    // Each connection holds a receiver.
    let closed = tokio::time::timeout(settings.drain_timeout, stage.closed());
    if closed.await.is_err() {
        tracing::warn!(after = ?settings.drain_timeout, "cutting the requests that are still in progress");
        stage.send_replace(Stage::Closed);
        stage.closed().await;
    }
    let _ = tokio::time::timeout(LAST_CALLS_WITHIN, forwarder.activations_ended()).await;
}

/// One connection, from accept to its end. Errors on it are the client's business, and logged as such.
async fn connection(
    socket: Socket,
    client: Option<IpAddr>,
    forwarder: Arc<Forwarder>,
    settings: Settings,
    mut stage: watch::Receiver<Stage>,
    _place: OwnedSemaphorePermit,
) {
    let handler = service_fn(|request| {
        let forwarder = Arc::clone(&forwarder);
        async move { Ok::<_, Infallible>(forwarder.handle(request, client).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(Timer)
        .header_read_timeout(settings.head_timeout)
        .max_header_size(settings.max_head_bytes);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(socket), handler));
    let served = tokio::select! {
        biased;
        _ = stage.wait_for(|stage| *stage >= Stage::Draining) => None,
        served = connection.as_mut() => Some(served),
    };
    let served = match served {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage >= Stage::Closed) => Ok(()),
                served = connection.as_mut() => served,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(?client, %error, "connection ended");
    }
}

fn client(peer: &Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp { remote, .. } => Some(remote.ip()),
        Peer::Unix => None,
    }
}
