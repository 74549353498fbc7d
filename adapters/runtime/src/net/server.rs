//! Serving gRPC on a listener until told to stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::{Service, ServiceExt};

use super::{Executor, Listener, Peer, PeerCertificates, ServerTls, Socket, Timer, Transport};

/// The stages of a server, in order. A connection acts on each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Calls in flight end by themselves; no new ones are taken.
    Draining,
    /// Whatever is left is cut.
    Closed,
}

/// Serves `service` on `listener` until `stop` resolves; then takes no new connections and calls, lets
/// those in flight run on for at most [`Transport::drain_timeout`], and returns when all have ended.
///
/// `service` is a `tonic::service::Routes`, bare or inside layers. Requests carry tonic's connection info.
/// A call whose client goes away is dropped where it stands: what must not stop half-way is spawned.
///
/// Failing to accept a connection never ends the server. Out of file descriptors, say, it tries again
/// after a while, when connections may have been closed.
pub async fn serve<S>(listener: Listener, service: S, transport: Transport, stop: impl Future<Output = ()>)
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let stage = watch::Sender::new(Stage::Serving);
    // Each connection holds a sender; the receiver ends when the last one is gone.
    let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
    let accepting = async {
        let mut backoff = Backoff::default();
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    backoff = Backoff::default();
                    let (service, stage) = (service.clone(), stage.subscribe());
                    let (tls, alive) = (listener.tls(), alive.clone());
                    tokio::spawn(async move {
                        greeted(socket, tls, peer, service, transport, stage).await;
                        drop(alive);
                    });
                }
                Err(error) => backoff.wait(&listener, &error).await,
            }
        }
    };
    tokio::select! {
        biased;
        () = stop => {}
        () = accepting => {}
    }
    drop(listener);
    drop(alive);
    stage.send_replace(Stage::Draining);
    if tokio::time::timeout(transport.drain_timeout, all_ended.recv())
        .await
        .is_err()
    {
        tracing::warn!(after = ?transport.drain_timeout, "cutting the calls that are still in flight");
        stage.send_replace(Stage::Closed);
        all_ended.recv().await;
    }
}

/// One connection, from accept to its end, the TLS handshake included where there is one.
async fn greeted<S>(
    socket: Socket,
    tls: Option<Arc<dyn ServerTls>>,
    peer: Peer,
    service: S,
    transport: Transport,
    mut stage: watch::Receiver<Stage>,
) where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let Some(tls) = tls else {
        return connection(socket, None, peer, service, transport, stage).await;
    };
    // Nothing is in flight before it has ended, so nobody misses it when the server stops.
    let greeted = tokio::select! {
        biased;
        _ = stage.wait_for(|stage| *stage >= Stage::Draining) => return,
        greeted = socket.accept_tls(&*tls, transport.connect_timeout) => greeted,
    };
    match greeted {
        Ok((socket, shown)) => connection(socket, Some(shown), peer, service, transport, stage).await,
        Err(error) => tracing::debug!(?peer, %error, "connection refused"),
    }
}

/// One connection that can be read. Errors on it are the peer's business, and logged as such.
async fn connection<S>(
    socket: Socket,
    shown: Option<PeerCertificates>,
    peer: Peer,
    service: S,
    transport: Transport,
    mut stage: watch::Receiver<Stage>,
) where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let origin = peer.clone();
    let handler = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        introduce(&origin, request.extensions_mut());
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        service.clone().oneshot(request)
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http2::Builder::new(Executor)
            .timer(Timer)
            .keep_alive_interval(transport.keepalive_interval)
            .keep_alive_timeout(transport.keepalive_timeout)
            .max_concurrent_streams(transport.max_concurrent_streams)
            .serve_connection(TokioIo::new(socket), handler)
    );
    // `None`: the server moved on to the stage first.
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
        tracing::debug!(?peer, %error, "connection ended");
    }
}

/// What `tonic::Request::remote_addr` looks for.
fn introduce(peer: &Peer, extensions: &mut http::Extensions) {
    match peer {
        Peer::Tcp { local, remote } => {
            extensions.insert(TcpConnectInfo {
                local_addr: *local,
                remote_addr: Some(*remote),
            });
        }
        Peer::Unix => {}
    }
}

/// Waits longer after each failure in a row, so that a host out of descriptors is not also out of CPU.
struct Backoff {
    wait: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { wait: Self::SHORTEST }
    }
}

impl Backoff {
    const SHORTEST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);

    async fn wait(&mut self, listener: &Listener, error: &std::io::Error) {
        tracing::warn!(address = %listener.address(), %error, retry_in = ?self.wait, "cannot accept a connection");
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(Self::LONGEST);
    }
}
