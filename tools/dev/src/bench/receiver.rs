//! Collectors to measure with: one that only counts the spans that it is sent, and one that takes connections and never answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

const MESSAGE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Both collectors, until it is dropped.
pub(crate) struct Collectors {
    /// Of the one that counts.
    pub(crate) counting_port: u16,
    /// Of the one that is silent.
    pub(crate) silent_port: u16,
    spans: Arc<AtomicU64>,
    _running: JoinSet<()>,
}

impl Collectors {
    pub(crate) async fn start() -> Result<Self> {
        let (counting, silent) =
            (TcpListener::bind(("127.0.0.1", 0)).await?, TcpListener::bind(("127.0.0.1", 0)).await?);
        let (counting_port, silent_port) = (counting.local_addr()?.port(), silent.local_addr()?.port());
        let spans = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        let service =
            TraceServiceServer::new(Counting(Arc::clone(&spans))).max_decoding_message_size(MESSAGE_MAX_BYTES);
        running.spawn(async move {
            let incoming = TcpIncoming::from(counting).with_nodelay(Some(true));
            // It only ends with an error when the listener is gone, which lives as long as it.
            let _ = Server::builder().serve_with_incoming(service, incoming).await;
        });
        running.spawn(async move {
            let mut taken = Vec::new();
            while let Ok((connection, _)) = silent.accept().await {
                // Neither read nor closed: what is sent fills the buffers of the kernel, and then waits.
                taken.push(connection);
            }
        });
        Ok(Self { counting_port, silent_port, spans, _running: running })
    }

    /// Spans that were counted so far.
    pub(crate) fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }
}

struct Counting(Arc<AtomicU64>);

#[tonic::async_trait]
impl TraceService for Counting {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let groups = request.into_inner().resource_spans;
        let spans = groups.iter().flat_map(|group| &group.scope_spans).map(|scope| scope.spans.len()).sum::<usize>();
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
