//! Requests to other services, as spans of the trace that they are made in, which they carry on (OpenTelemetry conventions for HTTP).

use opentelemetry::{global, propagation::Injector};
use reqwest::{
    Client, Request, Response, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tracing::{Instrument as _, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Sends a GET. An answer that says that it failed is an error.
pub(crate) async fn get(client: &Client, url: &str) -> reqwest::Result<Response> {
    let mut request = client.get(url).build()?;
    let span = span(request.url());
    carry_on(&span, &mut request);
    let answer = client.execute(request).instrument(span.clone()).await.and_then(|answer| {
        span.record("http.response.status_code", i64::from(answer.status().as_u16()));
        answer.error_for_status()
    });
    if let Err(error) = &answer {
        let kind = error.status().map_or_else(|| "transport".to_owned(), |status| status.as_str().to_owned());
        span.record("error.type", kind);
        span.record("otel.status_code", "ERROR");
    }
    answer
}

/// Without user, password and query: they may be secret.
pub(crate) fn without_secrets(url: &Url) -> Url {
    let mut shown = url.clone();
    shown.set_query(None);
    // Fails only for a URL that has no user.
    let _without_user: Result<(), ()> = shown.set_username("").and_then(|()| shown.set_password(None));
    shown
}

fn span(url: &Url) -> Span {
    let shown = without_secrets(url);
    tracing::info_span!(
        "GET",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = "GET",
        http.response.status_code = Empty,
        server.address = url.host_str(),
        server.port = url.port_or_known_default().map(i64::from),
        url.full = shown.as_str(),
        error.type = Empty,
    )
}

fn carry_on(span: &Span, request: &mut Request) {
    let context = span.context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Headers(request.headers_mut()));
    });
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
