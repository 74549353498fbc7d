//! Spans at a collector that somebody else's messages are made for.

use std::sync::Arc;
use std::time::Duration;

use holdfast_rpc::server::serve;
use holdfast_rpc::trace::{Context, Kind};
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::net::{Address, Listener, Transport};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::mpsc;
use holdfast_telemetry::Telemetry;
use holdfast_telemetry::otlp::{Defaults, Exporter, Settings, TraceFlags};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

struct Collector(mpsc::UnboundedSender<(Option<String>, ExportTraceServiceRequest)>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = request.metadata().get("api-key");
        let key = key.map(|key| key.to_str().unwrap().to_owned());
        self.0.send((key, request.into_inner())).unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a free port of loopback.
async fn collector() -> (
    String,
    mpsc::UnboundedReceiver<(Option<String>, ExportTraceServiceRequest)>,
) {
    let (sender, taken) = mpsc::unbounded_channel();
    let local: Address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(&local).await.unwrap();
    let address = listener.address().to_string();
    let routes = Routes::new(TraceServiceServer::new(Collector(sender)));
    let clock = Arc::new(SystemClock);
    tokio::spawn(serve(
        listener,
        routes,
        Transport::default(),
        clock,
        std::future::pending(),
    ));
    (address, taken)
}

fn settings(address: &str, more: &[(&str, &str)]) -> Settings {
    let endpoint = format!("http://{address}");
    let variables = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())], more].concat();
    let find = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let defaults = Defaults::beginning("ateapi");
    TraceFlags::default().plan(defaults, find).unwrap().unwrap()
}

fn begin(settings: Settings) -> (Exporter, Telemetry) {
    Exporter::begin(settings, Telemetry::new("ateapi"), Arc::new(SystemClock))
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let attribute = attributes.iter().find(|attribute| attribute.key == key);
    match &attribute.unwrap().value.as_ref().unwrap().value {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn a_collector_is_told_what_was_done_because_of_what_and_how_it_ended() {
    let (address, mut taken) = collector().await;
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2");
    let (exporter, telemetry) = begin(settings(&address, &[headers]));
    let parent = Context {
        trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
        span: 0xb7ad_6b71_6920_3331,
        is_sampled: true,
    };
    let tracer = telemetry.tracer();
    let mut outer = tracer.span(Kind::Server, "ateapi.Control/ResumeActor", Some(parent));
    let mut inner = tracer.span(Kind::Client, "restore", outer.context());
    inner.set("holdfast.actor", || "team/a1".into());
    inner.fail(|| "no such snapshot".to_owned());
    let ids = [&outer, &inner].map(|span| span.context().unwrap().span.to_be_bytes().to_vec());
    drop(inner);
    outer.set("rpc.system", || "grpc".into());
    drop(outer);
    exporter.finish().await;

    let (key, request) = taken.recv().await.unwrap();
    assert_eq!(key.as_deref(), Some("hunter2"));
    let [of_process] = &request.resource_spans[..] else {
        panic!("{request:?}")
    };
    let resource = of_process.resource.as_ref().unwrap();
    assert_eq!(text(&resource.attributes, "service.name"), "ateapi");
    let [of_scope] = &of_process.scope_spans[..] else {
        panic!("{request:?}")
    };
    assert_eq!(of_scope.scope.as_ref().unwrap().name, "holdfast");
    let [inner, outer] = &of_scope.spans[..] else {
        panic!("{request:?}")
    };
    for span in [inner, outer] {
        assert_eq!(span.trace_id, parent.trace.to_be_bytes());
        assert!(span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    assert_eq!(
        (outer.name.as_str(), outer.kind()),
        ("ateapi.Control/ResumeActor", SpanKind::Server)
    );
    assert_eq!(outer.parent_span_id, parent.span.to_be_bytes());
    assert!(outer.status.is_none());
    assert_eq!((inner.name.as_str(), inner.kind()), ("restore", SpanKind::Client));
    assert_eq!([&outer.span_id, &inner.span_id], [&ids[0], &ids[1]]);
    assert_eq!(inner.parent_span_id, ids[0]);
    assert_eq!(text(&inner.attributes, "holdfast.actor"), "team/a1");
    let status = inner.status.as_ref().unwrap();
    assert_eq!(
        (status.code(), status.message.as_str()),
        (StatusCode::Error, "no such snapshot")
    );
    assert!(
        telemetry.exposition().contains("holdfast_spans_exported_total 2"),
        "{}",
        telemetry.exposition()
    );
}

#[tokio::test]
async fn a_batch_goes_when_it_is_full() {
    let (address, mut taken) = collector().await;
    let never = ("OTEL_BSP_SCHEDULE_DELAY", "86400000");
    let two = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2");
    let (exporter, telemetry) = begin(settings(&address, &[never, two]));
    for _ in 0..5 {
        drop(telemetry.tracer().span(Kind::Internal, "s", None));
    }
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let (_, request) = taken.recv().await.unwrap();
        sizes.push(request.resource_spans[0].scope_spans[0].spans.len());
    }
    assert_eq!(sizes, [2, 2]);
    exporter.finish().await;
    let (_, request) = taken.recv().await.unwrap();
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    // Nobody listens there any more.
    let local: Address = "127.0.0.1:0".parse().unwrap();
    let address = Listener::bind(&local).await.unwrap().address().to_string();
    let soon = ("OTEL_BSP_SCHEDULE_DELAY", "1");
    let (exporter, telemetry) = begin(settings(&address, &[soon]));
    drop(telemetry.tracer().span(Kind::Internal, "s", None));
    let lost = "holdfast_spans_lost_total 1";
    while !telemetry.exposition().contains(lost) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    exporter.finish().await;
    assert!(telemetry.exposition().contains("holdfast_spans_exported_total 0"));
}
