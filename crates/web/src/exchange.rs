//! What happens around every request: its span, its metrics, its limits, and an explanation for every failure. One
//! middleware, from the arrival of the head to the last byte of the answer.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpRequest, HttpResponse, ResponseError as _,
    body::{BodySize, BoxBody, MessageBody, None as NoBody},
    dev::{ServiceRequest, ServiceResponse},
    error::{InternalError, PayloadError},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::{Bytes, Data},
};
use futures_util::FutureExt as _;
use opentelemetry::{
    global,
    propagation::Extractor,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tokio::time::timeout;
use tracing::{Instrument as _, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{
    Problem, admission::Place, body, connection::Connection, observer::Observation, route::Route, server::Shared,
};

/// Told to whoever waited in vain.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// Help texts for the metrics of this crate.
pub(crate) fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(
        "http_server_request_duration_seconds",
        Unit::Seconds,
        "From the head of a request to the last byte of its answer."
    );
    describe_gauge!("http_server_active_requests", "Requests that are being answered.");
    describe_gauge!("http_server_open_connections", "Open connections.");
    describe_counter!(
        "http_server_head_timeouts_total",
        "Connections closed because a request head did not arrive in time."
    );
    metrics::counter!("http_server_head_timeouts_total").increment(0);
}

/// The middleware.
pub(crate) async fn exchange(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let route = Route::of(&request);
    let span = server_span(&request, &route);
    let observation = Observation::begin(request.request(), &route);
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let exchange = Exchange::begin(route, &span, connection, observation);
    // A HEAD is answered as its GET; the HTTP implementation leaves the body out.
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    answer(request, next, exchange).instrument(span).await
}

async fn answer(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    mut exchange: Exchange,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let outcome = match exchange.admit(&mut request).await {
        Err(problem) => Ok(request.into_response(problem.error_response())),
        // The place is held until the handler has answered; while the answer goes to a client that takes its time, nothing else waits for it.
        Ok(_place) => {
            let deadline = request.app_data::<Data<Shared>>().map(|shared| shared.options.request_timeout);
            let handled = AssertUnwindSafe(async { next.call(request).await }).catch_unwind();
            match timeout(deadline.unwrap_or(Duration::MAX), handled).await {
                Ok(Ok(outcome)) => outcome.map(ServiceResponse::map_into_boxed_body),
                // The panic hook has logged it, with the ids of this request.
                Ok(Err(_panic)) => Err(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR).into()),
                Err(_elapsed) => Err(too_slow().into()),
            }
        }
    };
    match outcome {
        Ok(response) => {
            let (request, response) = response.into_parts();
            let response = explained(response, Some(&request));
            Ok(ServiceResponse::new(request, exchange.finish(response)))
        }
        // The request is gone with the failed service; actix makes the answer from the error.
        Err(error) => {
            let response = exchange.finish(explained(error.error_response(), None));
            Err(InternalError::from_response(error, response).into())
        }
    }
}

/// What a request is answered with that was worked on for too long: by a database that has vanished, say.
fn too_slow() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "It took too long")
        .detail(
            "Whether it was done is not known. Send the request again, with the same Idempotency-Key if it had one.",
        )
        .retry_after(COME_BACK_AFTER)
}

/// One request and its answer. Ends when the last byte of the answer is handed over, or when the client is gone.
struct Exchange {
    route: Route,
    span: Span,
    connection: Option<Arc<Connection>>,
    started: Instant,
    status: Option<StatusCode>,
    /// Of the answer's body.
    sent_bytes: u64,
    observation: Option<Observation>,
    /// It was not let in. That is counted, and no more: a rush of requests must not become one of lines.
    refused: bool,
}

impl Exchange {
    fn begin(route: Route, span: &Span, connection: Option<Arc<Connection>>, observation: Option<Observation>) -> Self {
        metrics::gauge!("http_server_active_requests").increment(1.0);
        let (span, started) = (span.clone(), Instant::now());
        Self { route, span, connection, started, status: None, sent_bytes: 0, observation, refused: false }
    }

    /// Refuses what is over a limit before a handler sees it; what is let in has a place, if its route has a limit.
    async fn admit(&mut self, request: &mut ServiceRequest) -> Result<Option<Place>, Problem> {
        if self.connection.as_ref().is_some_and(|connection| !connection.begin()) {
            return Err(Problem::of_status(StatusCode::REQUEST_TIMEOUT));
        }
        let Some(shared) = request.app_data::<Data<Shared>>().cloned() else {
            return Ok(None);
        };
        if head_bytes(request) > shared.options.max_head_bytes {
            return Err(Problem::of_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        body::limit(request, &shared.options)?;
        if !shared.admission.concerns(&self.route) {
            return Ok(None);
        }
        body::receive(request, &shared.options).await?;
        let entered = shared.admission.enter(&self.route).await;
        self.refused = entered.is_err();
        entered
    }

    fn finish(mut self, response: HttpResponse) -> HttpResponse {
        let status = response.status();
        self.status = Some(status);
        // The only integer type of OpenTelemetry.
        let code = i64::from(status.as_u16());
        self.span.record("http.response.status_code", code);
        if status.is_server_error() {
            self.span.record("error.type", status.as_str());
            self.span.record("otel.status_code", "ERROR");
        }
        let mut response = response;
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(value) = telemetry::traceparent().and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static("traceparent"), value);
        }
        response.map_body(|_, body| {
            // Though it leaves the body out, the HTTP implementation waits for its end before the next request. A stream may have none.
            let stream = self.route.method == "HEAD" && body.size() == BodySize::Stream;
            let body = if stream { BoxBody::new(NoBody::new()) } else { body };
            BoxBody::new(Tracked { body, exchange: self })
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let seconds = duration.as_secs_f64();
        // 499: no answer, the client went away first (the number that nginx gives it).
        let status = self.status.map_or(499, |status| status.as_u16());
        let Route { method, .. } = self.route;
        let route = self.route.label().to_owned();
        metrics::gauge!("http_server_active_requests").decrement(1.0);
        let observation = self.observation.take().filter(|_| !self.refused);
        self.span.in_scope(|| {
            if let Some(observation) = observation {
                observation.finish(&self.route, status, duration, self.sent_bytes);
            }
            if self.route.is_operations() || self.refused {
                tracing::debug!(method, route, status, seconds, "answered");
            } else {
                tracing::info!(method, route, status, seconds, "answered");
            }
        });
        metrics::histogram!("http_server_request_duration_seconds", "method" => method, "route" => route, "status" => status.to_string())
            .record(seconds);
        if let Some(connection) = &self.connection {
            connection.end();
        }
    }
}

/// The body of an answer; keeps the exchange open, and its span current, until it has been sent.
struct Tracked {
    body: BoxBody,
    exchange: Exchange,
}

impl MessageBody for Tracked {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let Self { body, exchange } = &mut *self;
        let polled = exchange.span.in_scope(|| Pin::new(body).poll_next(cx));
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            exchange.sent_bytes += bytes.len() as u64;
        }
        polled
    }
}

/// The span of the request, in the trace of the caller if it names one. Named as the HTTP semantic conventions want it;
/// the client's address is not recorded.
fn server_span(request: &ServiceRequest, route: &Route) -> Span {
    let span = tracing::info_span!(
        "http request",
        otel.name = route.span_name(),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = route.method,
        http.route = route.pattern,
        http.response.status_code = Empty,
        url.path = route.path,
        url.scheme = "http",
        server.address = Empty,
        server.port = Empty,
        network.protocol.version = Route::protocol(request.version()),
        user_agent.name = route.user_agent,
        error.type = Empty,
    );
    if let Some(authority) = Route::authority(request) {
        span.record("server.address", authority.host());
        span.record("server.port", authority.port_u16().map(i64::from));
    }
    let mut parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(request.headers())));
    if route.is_operations() && !parent.span().span_context().is_valid() {
        parent = parent.with_remote_span_context(unsampled());
    }
    let _disabled = span.set_parent(parent);
    span
}

/// A parent that says: do not record. Probes come every few seconds; their answers have ids all the same.
fn unsampled() -> SpanContext {
    let id = uuid::Uuid::new_v4();
    let (trace_id, span_id) = (id.as_u128(), id.as_u64_pair().1);
    SpanContext::new(TraceId::from(trace_id), SpanId::from(span_id), TraceFlags::NOT_SAMPLED, true, TraceState::NONE)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// About what the client sent as the head; the HTTP implementation itself stops at 128 KiB and 96 headers.
fn head_bytes(request: &ServiceRequest) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    target + headers.sum::<usize>()
}

/// Turns an error answer that is no JSON into a problem: actix's own extractors and routes answer in text, or in nothing.
fn explained(response: HttpResponse, request: Option<&HttpRequest>) -> HttpResponse {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_for_the_client(response.headers()) {
        return response;
    }
    let shared = request.and_then(Shared::of);
    let problem = match response.error() {
        Some(error) if let Some(error) = error.as_error::<PayloadError>() => {
            body::problem(error, shared.map(|shared| shared.options.max_body_bytes))
        }
        Some(error) if status.is_client_error() => {
            Problem::of_status(status).detail(format!("The request is not valid: {error}."))
        }
        _ => Problem::of_status(status),
    };
    let mut explained = problem.error_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            explained.headers_mut().append(name.clone(), value.clone());
        }
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = allow(request, explained.headers());
        explained.headers_mut().insert(header::ALLOW, allow);
    }
    explained
}

/// actix names the methods of a resource, and leaves them out when handlers were registered one by one: then the documentation has them.
fn allow(request: Option<&HttpRequest>, headers: &HeaderMap) -> HeaderValue {
    if let Some(methods) = headers.get(header::ALLOW).and_then(|value| value.to_str().ok()) {
        let with_head = methods.replace("GET", "GET, HEAD");
        return HeaderValue::try_from(with_head).unwrap_or_else(|_| HeaderValue::from_static(""));
    }
    let documented = request.and_then(|request| {
        let pattern = request.resource_map().match_pattern(request.match_info().as_str())?;
        Shared::of(request)?.allowed_methods.get(&pattern)
    });
    let methods = documented.map_or("", String::as_str);
    HeaderValue::from_str(methods).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What a handler wrote itself: a problem, or a page for a person. actix answers in plain text, or in nothing.
fn is_for_the_client(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["application/json", crate::problem::CONTENT_TYPE, "text/html"].iter().any(|kind| content_type.starts_with(kind))
}
