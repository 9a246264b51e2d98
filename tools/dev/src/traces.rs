//! A trace backend for development and tests: receives spans as OTLP over gRPC, keeps the newest in bounded memory, and answers
//! Jaeger's query API, with pages that find traces, show one as a waterfall, and draw the map of services that follows from all of
//! them. Loopback only; nothing is written to disk.

mod api;
mod gaps;
mod jaeger;
mod map;
mod otlp;
mod pages;
mod search;
mod store;
mod tree;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{http_server, look::Stack};
use store::Store;

pub use store::{Event, Kind, Resource, Span, Status, Value};

/// A running trace backend. It stops when it is dropped.
pub struct TraceStore {
    otlp: SocketAddr,
    http: SocketAddr,
    store: Arc<Store>,
    stack: Stack,
    _tasks: JoinSet<()>,
}

impl TraceStore {
    /// Listens for OTLP/gRPC and for HTTP; port 0 is any free port.
    ///
    /// # Errors
    /// When one of the addresses cannot be listened on.
    pub async fn start(otlp: impl Into<SocketAddr>, http: impl Into<SocketAddr>) -> io::Result<Self> {
        let otlp_listener = TcpListener::bind(otlp.into()).await?;
        let http_listener = TcpListener::bind(http.into()).await?;
        let (otlp, http) = (otlp_listener.local_addr()?, http_listener.local_addr()?);
        let store = Arc::new(Store::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(otlp::serve(otlp_listener, Arc::clone(&store)));
        let pages = Arc::clone(&store);
        // Dropping the set ends the tasks; nobody asks them to stop before.
        let stack = Stack::default();
        let home = stack.clone();
        let answer = move |ask| std::future::ready(home.answer(&ask).unwrap_or_else(|| api::answer(&pages, &ask)));
        tasks.spawn(http_server::serve(http_listener, CancellationToken::new(), answer));
        Ok(Self { otlp, http, store, stack, _tasks: tasks })
    }

    /// Where spans are received.
    #[must_use]
    pub fn otlp_addr(&self) -> SocketAddr {
        self.otlp
    }

    /// Makes it part of a stack, to whose page its own lead back.
    pub(crate) fn is_part_of(&self, page: u16) {
        self.stack.is_at(page);
    }

    /// Where the page and the query API are.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// The spans of a trace that have arrived so far, in the order of their beginning; empty when there are none.
    #[must_use]
    pub fn spans(&self, trace_id: &str) -> Vec<Arc<Span>> {
        self.store.trace(trace_id).unwrap_or_default()
    }
}
