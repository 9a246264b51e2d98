//! A stream of server-sent events (WHATWG HTML, section 9.2), read one by one. It does not connect again by itself: whoever reads
//! knows what was seen last.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

const HEAD_TIME_LIMIT: Duration = Duration::from_secs(15);
const EVENT_MAX_BYTES: usize = 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What to name as `Last-Event-ID` to go on behind it; empty when it has none.
    pub id: String,
    /// Its kind; empty when it has none.
    pub event: String,
    /// What it says.
    pub data: String,
}

/// A stream that is open.
pub struct Events {
    body: Incoming,
    /// What has come of lines and events that are not complete.
    text: Vec<u8>,
    event: Event,
    has_data: bool,
    /// Drives the connection, and ends with this.
    _connection: JoinSet<()>,
}

impl Events {
    /// Asks for the events behind `last_event_id`, or all. `None`: there will hardly be more (204).
    ///
    /// # Errors
    /// When the answer is not a stream of events.
    pub async fn open(port: u16, path: &str, access_token: &str, last_event_id: Option<&str>) -> Result<Option<Self>> {
        let what = format!("GET {path} of port {port}");
        let opened = tokio::time::timeout(HEAD_TIME_LIMIT, Self::request(port, path, access_token, last_event_id));
        opened.await.with_context(|| format!("{what}: no answer"))?.context(what)
    }

    async fn request(port: u16, path: &str, access_token: &str, last_event_id: Option<&str>) -> Result<Option<Self>> {
        let address = format!("127.0.0.1:{port}");
        let stream = TcpStream::connect(&address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        // How it ends is seen by whoever reads the body.
        tasks.spawn(async move { drop(connection.await) });
        let mut request = Request::get(path).header(HOST, &address).header(ACCEPT, "text/event-stream");
        request = request.header(AUTHORIZATION, format!("Bearer {access_token}"));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let (head, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
        if head.status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !head.status.is_success() || !kind.starts_with("text/event-stream") {
            let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            anyhow::bail!("{} {kind}: {}", head.status, String::from_utf8_lossy(&text));
        }
        let (text, event) = (Vec::new(), Event::default());
        Ok(Some(Self { body, text, event, has_data: false, _connection: tasks }))
    }

    /// The next event; `None` when the stream has ended.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(line) = self.line() {
                if let Some(event) = self.take(&line) {
                    return Ok(Some(event));
                }
            }
            ensure!(self.text.len() <= EVENT_MAX_BYTES, "an event without end");
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.text.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.text.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.text.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    /// One line more of an event; answers with it when that was its end.
    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = value.to_owned(),
            "event" => self.event.event = value.to_owned(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment, which keeps the connection alive, or how long to wait before connecting again.
            _ => {}
        }
        None
    }
}
