//! A small HTTP client for the doors of this very machine: services, the management API, mailbox and traces. Plain HTTP/1.1, one
//! connection per request, always with a time limit. It is not for the internet: no TLS, no redirects, no proxies.

mod events;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request,
    body::Bytes,
    header::{CONTENT_TYPE, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::endpoint::Endpoint;

pub use events::{Event, Events};
pub use hyper::{Method, StatusCode};

const TIME_LIMIT: Duration = Duration::from_secs(15);
const BODY_LIMIT_BYTES: usize = 32 * 1024 * 1024;

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON ({}): {}", self.status, self.text()))
    }

    /// A header as text; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id of the trace that the request is part of.
    ///
    /// # Errors
    /// When the answer does not name one.
    pub fn trace_id(&self) -> Result<String> {
        let id = self.header("traceparent").split('-').nth(1);
        id.map(str::to_owned).context("the answer has no traceparent header")
    }

    /// The answer, unless its status says that the request failed.
    ///
    /// # Errors
    /// When the status is not a 2xx.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.is_success(), "{}: {}", self.status, self.text());
        Ok(self)
    }
}

/// `GET http://127.0.0.1:<port><path>`, whatever comes back.
///
/// # Errors
/// When nothing comes back.
pub async fn get(port: u16, path: &str) -> Result<Answer> {
    request(&Endpoint::local("http", port, "", "", ""), Method::GET, path, None).await
}

/// The same, for the JSON of a successful answer.
///
/// # Errors
/// When nothing comes back, or something else.
pub async fn get_json(port: u16, path: &str) -> Result<Value> {
    get(port, path).await?.success().with_context(|| format!("GET {path} of port {port}"))?.json()
}

/// `POST` of JSON to a port of this machine, whatever comes back.
///
/// # Errors
/// When nothing comes back.
pub async fn post(port: u16, path: &str, body: Option<&Value>) -> Result<Answer> {
    request(&Endpoint::local("http", port, "", "", ""), Method::POST, path, body).await
}

/// The same as [`get`], as somebody who has an access token.
///
/// # Errors
/// When nothing comes back.
pub async fn get_as(port: u16, path: &str, access_token: &str) -> Result<Answer> {
    send(port, Method::GET, path, Some(access_token), &[], None).await
}

/// Any request to a port of this machine, whatever comes back.
///
/// # Errors
/// When nothing comes back.
pub async fn send(
    port: u16,
    method: Method,
    path: &str,
    access_token: Option<&str>,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer> {
    let bearer = access_token.map(|token| format!("Bearer {token}"));
    let mut all: Vec<(&str, &str)> = bearer.as_deref().map(|bearer| ("authorization", bearer)).into_iter().collect();
    all.extend(headers);
    exchange_in_time(&Endpoint::local("http", port, "", "", ""), method, path, &all, body).await
}

/// One request with an optional JSON body; the endpoint's user and password are sent when there is a user.
pub(crate) async fn request(to: &Endpoint, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
    let credentials = (!to.user.is_empty()).then(|| {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", to.user, to.password));
        format!("Basic {pair}")
    });
    let headers: Vec<(&str, &str)> = credentials.as_deref().map(|basic| ("authorization", basic)).into_iter().collect();
    exchange_in_time(to, method, path, &headers, body).await
}

async fn exchange_in_time(
    to: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer> {
    ensure!(to.scheme == "http", "{to}: only plain http is spoken here");
    let what = format!("{method} {path} of {}:{}", to.host, to.port);
    match tokio::time::timeout(TIME_LIMIT, exchange(to, method, path, headers, body)).await {
        Ok(answer) => answer.with_context(|| what),
        Err(_) => anyhow::bail!("{what}: no answer in {} s", TIME_LIMIT.as_secs()),
    }
}

async fn exchange(
    to: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer> {
    let address = format!("{}:{}", to.host, to.port);
    let stream = TcpStream::connect(&address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(method).uri(path).header(HOST, &address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Some(json) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Bytes::from(serde_json::to_vec(json)?)
        }
        None => Bytes::new(),
    };
    let talk = async {
        let (head, body) = sender.send_request(request.body(Full::new(body))?).await?.into_parts();
        let body =
            Limited::new(body, BODY_LIMIT_BYTES).collect().await.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    // The connection has to be driven while the answer is read; it ends when the sender is dropped.
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        end = connection => {
            end?;
            talk.await
        }
    }
}
