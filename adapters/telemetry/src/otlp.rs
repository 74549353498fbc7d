//! Spans on their way to an OpenTelemetry collector: OTLP over gRPC, in batches, by a task of its own.
//!
//! Nobody waits for it. While the collector is away spans are lost and counted; that it is away, and that it is back, is
//! one line in the log each.

mod message;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_rpc::trace::{Finished, Kind, Recorded};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{Channel, Transport, deadline};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::oneshot;
use holdfast_runtime::tokio::task::JoinHandle;
use http::uri::PathAndQuery;
use prometheus_client::metrics::counter::Counter;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::Telemetry;
pub use holdfast_rpc::trace::Tracer;
use message::{
    AnyValue, EXPORT, ExportRequest, ExportResponse, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans,
};
pub use settings::{Defaults, Settings, SettingsError, TraceFlags};

/// How long what is left at the end may take.
const FLUSHED_WITHIN: Duration = Duration::from_secs(2);
/// Whose spans these are.
const SCOPE: &str = "holdfast";

/// Sends spans until it is finished.
pub struct Exporter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Begins, and has `telemetry` make spans and count what becomes of them.
    pub fn begin(settings: Settings, telemetry: Telemetry, clock: Arc<dyn Clock>) -> (Exporter, Telemetry) {
        let (tracer, recorded) = Tracer::new(settings.sampler, clock, settings.queue);
        let (exported, lost) = (Counter::<u64, AtomicU64>::default(), Lost::default());
        telemetry.register(|registry| {
            let help = "Spans that the collector has taken";
            registry.register("holdfast_spans_exported", help, exported.clone());
            let help = "Spans that were lost: the queue was full, or the collector did not take them";
            registry.register("holdfast_spans_lost", help, lost.counter.clone());
        });
        let (stop, stopped) = oneshot::channel();
        let batches = Batches {
            channel: Channel::secured(
                settings.endpoint.clone(),
                Transport::default(),
                settings.security.clone(),
            ),
            settings,
            recorded,
            exported,
            lost,
            is_heard: None,
        };
        let task = tokio::spawn(batches.run(stopped));
        (Exporter { stop, task }, telemetry.traced(tracer))
    }

    /// Sends what is left, and returns soon whether or not anybody takes it.
    pub async fn finish(self) {
        // It has gone already if nobody hears this.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

#[derive(Default)]
struct Lost {
    counter: Counter<u64, AtomicU64>,
    /// How many of those that found no room are counted.
    counted: u64,
}

struct Batches {
    settings: Settings,
    channel: Channel,
    recorded: Recorded,
    exported: Counter<u64, AtomicU64>,
    lost: Lost,
    is_heard: Option<bool>,
}

impl Batches {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            let mut batch = Vec::new();
            let is_last = tokio::select! {
                biased;
                // Whoever dropped the exporter wants no more of it.
                _ = &mut stop => true,
                () = self.collect(&mut batch) => false,
            };
            if is_last {
                return self.flush(batch).await;
            }
            let sent = self.send(batch);
            tokio::select! {
                biased;
                _ = &mut stop => return self.flush(Vec::new()).await,
                () = sent => {}
            }
        }
    }

    /// Waits for spans, and then for more of them for a while. What it has so far it keeps in `batch`.
    async fn collect(&mut self, batch: &mut Vec<Finished>) {
        let Some(first) = self.recorded.finished.recv().await else {
            return std::future::pending().await;
        };
        batch.push(first);
        let more = async {
            while batch.len() < self.settings.batch {
                match self.recorded.finished.recv().await {
                    Some(next) => batch.push(next),
                    None => return,
                }
            }
        };
        // Whether it is full or late, it goes.
        let _ = tokio::time::timeout(self.settings.delay, more).await;
    }

    async fn flush(mut self, mut batch: Vec<Finished>) {
        while let Ok(next) = self.recorded.finished.try_recv() {
            batch.push(next);
        }
        // What is not taken by then is lost with the process.
        let _ = tokio::time::timeout(FLUSHED_WITHIN, self.send(batch)).await;
    }

    async fn send(&mut self, batch: Vec<Finished>) {
        let dropped = self.recorded.dropped.load(Ordering::Relaxed);
        self.lost
            .counter
            .inc_by(dropped.saturating_sub(self.lost.counted));
        self.lost.counted = dropped;
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let mut request = Request::new(self.request(batch));
        *request.metadata_mut() = MetadataMap::from_headers(self.settings.headers.clone());
        match deadline(self.settings.timeout, export(self.channel.clone(), request)).await {
            Ok(response) => {
                let rejected = response.partial_success.map_or(0, |part| part.rejected_spans);
                let rejected = u64::try_from(rejected).unwrap_or_default().min(count);
                self.lost.counter.inc_by(rejected);
                self.exported.inc_by(count - rejected);
                self.heard(true, "");
            }
            Err(status) => {
                self.lost.counter.inc_by(count);
                self.heard(false, status.message());
            }
        }
    }

    /// One line in the log when it changes, not one with every batch.
    fn heard(&mut self, is_heard: bool, error: &str) {
        if self.is_heard.replace(is_heard) == Some(is_heard) {
            return;
        }
        let collector = &self.settings.endpoint;
        if is_heard {
            tracing::info!(%collector, "spans are taken by the collector");
        } else {
            tracing::warn!(%collector, error, "spans are lost: the collector does not take them");
        }
    }

    fn request(&self, batch: Vec<Finished>) -> ExportRequest {
        let attributes = self.settings.resource.iter();
        let attributes = attributes.map(|(key, value)| text(key, value.clone()));
        ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: attributes.collect(),
                }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(Scope {
                        name: SCOPE.to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                    }),
                    spans: batch.into_iter().map(span).collect(),
                }],
            }],
        }
    }
}

async fn export(channel: Channel, request: Request<ExportRequest>) -> Result<ExportResponse, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
    let answer = client
        .unary(request, PathAndQuery::from_static(EXPORT), codec)
        .await?;
    Ok(answer.into_inner())
}

fn span(finished: Finished) -> message::Span {
    /// The numbers of the protocol.
    const ERROR: i32 = 2;
    let attributes = finished.attributes.into_iter();
    message::Span {
        trace_id: finished.context.trace.to_be_bytes().to_vec(),
        span_id: finished.context.span.to_be_bytes().to_vec(),
        parent_span_id: finished
            .parent
            .map(|parent| parent.to_be_bytes().to_vec())
            .unwrap_or_default(),
        name: finished.name.into_owned(),
        kind: match finished.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: finished.began_ns,
        end_time_unix_nano: finished.ended_ns,
        attributes: attributes
            .map(|(key, value)| text(key, value.into_owned()))
            .collect(),
        status: finished
            .failure
            .map(|message| message::Status { message, code: ERROR }),
        flags: u32::from(finished.context.is_sampled),
    }
}

fn text(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { text: Some(value) }),
    }
}
