//! A small HTTP server for the pages of the mailbox, the traces and the stack. HTTP/1.1 on loopback; bodies are small and whole. What a path
//! means is up to the handler.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, LOCATION, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::endpoint;

const BODY_LIMIT_BYTES: usize = 1024 * 1024;
const HEAD_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Scripts and styles are files of ours, never part of a page: what others send is text, whatever it looks like. Frames hold only what
/// the page itself serves, and nobody else frames it.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                              frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A request, as much of it as a handler needs.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Decoded segments of the path.
    pub(crate) path: Vec<String>,
    /// Decoded pairs of the query.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

pub(crate) type Reply = Response<Full<Bytes>>;

pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

pub(crate) fn json(status: StatusCode, value: &Value) -> Reply {
    reply(status, "application/json", value.to_string())
}

pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body.into())
}

pub(crate) fn page(body: String) -> Reply {
    html(body, CONTENT_POLICY)
}

/// HTML with a content policy of its own.
pub(crate) fn html(body: String, policy: &'static str) -> Reply {
    let mut page = reply(StatusCode::OK, "text/html; charset=utf-8", body);
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    page.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    page
}

/// A file that is part of this program.
pub(crate) fn asset(content_type: &'static str, body: &'static str) -> Reply {
    let mut asset = reply(StatusCode::OK, content_type, body);
    // A new build has new files under the same names.
    asset.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    asset
}

/// Somewhere else instead.
pub(crate) fn redirect(to: &str) -> Reply {
    let mut reply = text(StatusCode::SEE_OTHER, "");
    if let Ok(to) = HeaderValue::try_from(to) {
        reply.headers_mut().insert(LOCATION, to);
    }
    reply
}

/// Text as HTML shows it, also inside a double-quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Answers requests until `stop`.
pub(crate) async fn serve<H, F>(listener: TcpListener, stop: CancellationToken, handler: H)
where
    H: Fn(Ask) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let handler = Arc::new(handler);
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or a client that is already gone: others still want an answer.
                Err(_) => { tokio::time::sleep(Duration::from_millis(50)).await; continue }
            },
        };
        let handler = Arc::clone(&handler);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &*handler));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_LIMIT);
            // A broken connection is the client's business.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer<F: Future<Output = Reply>>(
    request: Request<Incoming>,
    handler: &(impl Fn(Ask) -> F + Sync),
) -> Result<Reply, Infallible> {
    // A page of the internet must not read mails through a name that it points at 127.0.0.1 (DNS rebinding).
    if !request.headers().get(HOST).and_then(|host| host.to_str().ok()).is_some_and(is_this_machine) {
        return Ok(text(StatusCode::MISDIRECTED_REQUEST, "This is only served as localhost.\n"));
    }
    let (head, body) = request.into_parts();
    let Ok(Ok(body)) = tokio::time::timeout(HEAD_TIME_LIMIT, Limited::new(body, BODY_LIMIT_BYTES).collect()).await
    else {
        return Ok(text(StatusCode::BAD_REQUEST, "The body is too large, too slow or cut off.\n"));
    };
    let decoded = |text: &str| endpoint::decode(text).unwrap_or_else(|_| text.to_owned());
    let pairs = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decoded(key), decoded(&value.replace('+', " "))))
        .collect();
    let path = head.uri.path().split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
    Ok(handler(Ask { method: head.method, path, query, body: body.to_bytes() }).await)
}

fn is_this_machine(host: &str) -> bool {
    if host == "localhost" || host.starts_with("localhost:") {
        return true;
    }
    let address = host.parse::<SocketAddr>().map(|address| address.ip());
    address.or_else(|_| host.trim_matches(['[', ']']).parse()).is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_served() {
        for own in ["localhost", "localhost:8025", "127.0.0.1:8025", "127.0.0.1", "[::1]:8025", "[::1]"] {
            assert!(is_this_machine(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:8025", "localhost.evil.example", "10.0.0.1:8025", ""] {
            assert!(!is_this_machine(foreign), "{foreign}");
        }
    }

    #[test]
    fn markup_is_shown_as_text() {
        assert_eq!(escape(r#"<a href="x" id='y'>&"#), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
    }
}
