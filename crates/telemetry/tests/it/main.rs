//! The whole way, in one process as in a service: from `init` to a collector that speaks OTLP over gRPC, and to `/metrics`.
//! One test, because telemetry is set up once per process.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use telemetry::Options;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Listens on a free port.
async fn collector() -> (String, Collector, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (collector, stop) = (Collector::default(), CancellationToken::new());
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    let serving = server.serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
    tokio::spawn(serving);
    (endpoint, collector, stop)
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_at_the_collector_and_metrics_are_rendered() {
    let (endpoint, collector, stop) = collector().await;
    let options = Options {
        otel_exporter_otlp_endpoint: Some(endpoint),
        // Logs are off; traces must not care.
        rust_log: "off".to_owned(),
        ..Options::default()
    };
    let telemetry = telemetry::init("orders", "1.2.3", &options).unwrap();
    assert!(telemetry::init("orders", "1.2.3", &options).is_err(), "the second set-up is refused");

    assert_eq!(telemetry::current_trace_id(), None);
    let trace_id = tracing::info_span!("outer").in_scope(|| {
        tracing::info_span!("inner", otel.name = "place order", otel.kind = "producer", "order.lines" = 3).in_scope(
            || {
                let (trace_id, traceparent) =
                    (telemetry::current_trace_id().unwrap(), telemetry::traceparent().unwrap());
                assert!(
                    traceparent.starts_with(&format!("00-{trace_id}-")) && traceparent.ends_with("-01"),
                    "{traceparent}"
                );
                trace_id
            },
        )
    });
    metrics::histogram!("work_seconds").record(0.003);
    metrics::counter!("work_total").increment(2);
    let text = telemetry::render_metrics();
    for expected in [
        "work_seconds_bucket{le=\"0.0025\"} 0",
        "work_seconds_bucket{le=\"0.005\"} 1",
        "work_total 2",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }

    telemetry.shutdown().await;
    stop.cancel();

    let requests = collector.0.lock().unwrap();
    let resources: Vec<_> = requests.iter().flat_map(|request| &request.resource_spans).collect();
    let attributes = format!("{:?}", resources[0].resource);
    for expected in ["service.name", "orders", "service.version", "1.2.3", "service.instance.id"] {
        assert!(attributes.contains(expected), "{expected} is missing in {attributes}");
    }
    let spans: Vec<_> =
        resources.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
    let [inner, outer] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((inner.name.as_str(), outer.name.as_str()), ("place order", "outer"));
    assert_eq!(inner.parent_span_id, outer.span_id);
    let hex: String = inner.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, trace_id);
}
