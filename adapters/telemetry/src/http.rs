//! `/metrics`, `/readyz` and `/healthz`, for Prometheus and for kubelets.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{Listener, Socket, Timer};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::{OwnedSemaphorePermit, Semaphore};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::Telemetry;
use crate::health::Readiness;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Who scrapes are few; more connections than this wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection lives, whatever is asked on it.
const CONNECTION_WITHIN: Duration = Duration::from_secs(600);
/// How long to wait after a connection could not be accepted, for descriptors to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on `listener` until the future is dropped: also while the process starts and stops, which is when
/// somebody wants to know.
pub async fn serve(listener: Listener, telemetry: Telemetry, clock: Arc<dyn Clock>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(connection(socket, telemetry.clone(), clock.clone(), place));
            }
            Err(error) => {
                tracing::warn!(address = %listener.address(), %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    socket: Socket,
    telemetry: Telemetry,
    clock: Arc<dyn Clock>,
    _place: OwnedSemaphorePermit,
) {
    let handler = service_fn(|request: Request<Incoming>| {
        let response = answer(&telemetry, &*clock, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(Timer).header_read_timeout(HEAD_WITHIN);
    let served = builder.serve_connection(TokioIo::new(socket), handler);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_WITHIN, served).await {
        tracing::debug!(%error, "connection ended");
    }
}

fn answer(telemetry: &Telemetry, clock: &dyn Clock, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return told(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "only GET and HEAD\n".to_owned(),
        );
    }
    match path {
        "/metrics" => told(StatusCode::OK, OPEN_METRICS, telemetry.exposition()),
        "/readyz" => {
            let readiness = telemetry.health().readiness();
            let status = match readiness {
                Readiness::Ready => StatusCode::OK,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            told(status, TEXT, readiness.describe().to_owned())
        }
        "/healthz" => match telemetry.health().stuck(clock.now()) {
            None => told(StatusCode::OK, TEXT, "ok".to_owned()),
            Some(still) => {
                let text = format!("nothing has moved for {} s", still.as_secs());
                told(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        },
        _ => told(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /metrics, /readyz and /healthz\n".to_owned(),
        ),
    }
}

fn told(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
