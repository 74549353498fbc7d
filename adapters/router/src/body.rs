//! Bodies on their way through, frame by frame.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use holdfast_runtime::tokio::task::JoinHandle;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::exchange::{Activity, Direction, End, Exchange};

/// The body of a request, on its way to the worker.
pub(crate) struct Upload {
    incoming: Incoming,
    activity: Arc<Activity>,
}

/// The body of a response, on its way to the client.
pub(crate) enum Download {
    /// The router's own words.
    Text { body: Full<Bytes>, _exchange: Exchange },
    /// The worker's.
    Worker(Box<FromWorker>),
}

pub(crate) struct FromWorker {
    incoming: Incoming,
    exchange: Exchange,
    stalled: BoxFuture<'static, ()>,
    _connection: Connection,
}

/// A connection to a worker, which ends with the request that it was made for.
pub(crate) struct Connection {
    pub(crate) task: JoinHandle<()>,
}

/// Why a response breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("the worker's response broke off: {0}")]
    Cut(#[from] hyper::Error),
    #[error("no byte moved for too long")]
    Stalled,
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, activity: Arc<Activity>) -> Self {
        Self { incoming, activity }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.activity.moved(Direction::Up, length(frame));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Download {
    pub(crate) fn text(text: String, mut exchange: Exchange) -> Self {
        if exchange.end == End::Abandoned {
            exchange.end = End::Answered;
        }
        Self::Text {
            body: Full::new(text.into()),
            _exchange: exchange,
        }
    }

    pub(crate) fn worker(incoming: Incoming, exchange: Exchange, connection: Connection) -> Self {
        let stalled = Box::pin(Arc::clone(&exchange.activity).stalled());
        Self::Worker(Box::new(FromWorker {
            incoming,
            exchange,
            stalled,
            _connection: connection,
        }))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        match &mut *self {
            Self::Text { body, .. } => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Worker(download) => download.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text { body, .. } => body.is_end_stream(),
            Self::Worker(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text { body, .. } => body.size_hint(),
            Self::Worker(download) => download.incoming.size_hint(),
        }
    }
}

impl FromWorker {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.exchange.activity.moved(Direction::Down, length(&frame));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.exchange.end = End::Cut;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.exchange.end = End::Complete;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.stalled.as_mut().poll(context));
                self.exchange.end = End::Stalled;
                Poll::Ready(Some(Err(DownloadError::Stalled)))
            }
        }
    }
}

impl Drop for FromWorker {
    fn drop(&mut self) {
        // A body of known length is not polled for its end once all of it has been taken.
        if self.exchange.end == End::Abandoned && self.incoming.is_end_stream() {
            self.exchange.end = End::Complete;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn length(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}
