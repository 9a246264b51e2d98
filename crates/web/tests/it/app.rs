//! A server with one route for each thing that the tests look at.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    web::{Bytes, Data, ServiceConfig, delete, get, post, resource},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use uuid::Uuid;
use web::{ClientAddr, HttpOptions, Json, Path, Problem, Readiness, Server, auth};

pub struct App {
    pub addr: SocketAddr,
    pub http: reqwest::Client,
    /// One permit for each request that has reached `/wait`.
    pub waiting: Arc<Semaphore>,
    /// A permit lets one request at `/wait` go on.
    pub go: Arc<Semaphore>,
    pub stop: CancellationToken,
    pub running: JoinHandle<std::io::Result<()>>,
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
struct Thing {
    name: String,
    size: Option<u32>,
}

/// Echoes a thing.
#[utoipa::path(post, path = "/things", request_body = Thing, responses((status = 200, body = Thing)))]
async fn echo(thing: Json<Thing>) -> Json<Thing> {
    thing
}

/// Shows a thing.
#[utoipa::path(get, path = "/things/{id}", params(("id" = Uuid, Path)), responses((status = 200)))]
async fn show(id: Path<Uuid>) -> String {
    id.to_string()
}

/// Registered by a macro, so by itself.
#[utoipa::path(put, path = "/macro", responses((status = 200)))]
#[actix_web::put("/macro")]
async fn by_macro() -> &'static str {
    "ok"
}

/// Forgets a thing.
#[utoipa::path(delete, path = "/things/{id}", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn forget(_: Path<Uuid>) -> HttpResponse {
    HttpResponse::NoContent().finish()
}

#[derive(utoipa::OpenApi)]
#[openapi(info(title = "things", version = "1"), paths(echo, show, forget, by_macro))]
struct Api;

#[derive(Clone)]
struct Gates {
    waiting: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

async fn wait(gates: Data<Gates>) -> Result<&'static str, Problem> {
    gates.waiting.add_permits(1);
    gates.go.acquire().await.map_err(|error| Problem::internal(&error))?.forget();
    Ok("done")
}

async fn fail() -> Result<String, Problem> {
    let error = std::io::Error::other("postgres://user:password@host is down");
    Err(Problem::internal(&error))
}

fn routes(config: &mut ServiceConfig) {
    config
        .service(by_macro)
        .service(resource("/things").route(post().to(echo)))
        .service(resource("/things/{id}").route(get().to(show)).route(delete().to(forget)))
        .service(resource("/secrets/{token}").route(get().to(|_: Path<String>| async { "ok" })))
        .service(resource("/bytes").route(post().to(|body: Bytes| async move { body.len().to_string() })))
        .service(resource("/text").route(post().to(|text: String| async { text })))
        .service(resource("/wait").route(get().to(wait)))
        .service(resource("/context").route(get().to(context)))
        .service(resource("/fail").route(get().to(fail)))
        .service(resource("/address").route(get().to(|address: ClientAddr| async move { address.0.to_string() })))
        .service(resource("/me").route(get().to(|me: auth::Identity| async move { me.user_id.to_string() })))
        .service(resource("/operators").route(get().to(|_: auth::Operator| async { "ok" })))
        .service(resource("/panic").route(get().to(panics)));
}

/// What a call to another service from here would carry.
async fn context() -> Json<Value> {
    let mut headers = std::collections::HashMap::new();
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&opentelemetry::Context::current(), &mut headers);
    });
    let mut seen = serde_json::json!(headers);
    seen["trace_id"] = telemetry::current_trace_id().into();
    Json(seen)
}

async fn panics() -> &'static str {
    panic!("a handler panics on purpose");
}

pub fn options() -> HttpOptions {
    HttpOptions::new(([127, 0, 0, 1], 0).into())
}

/// A server with generous limits.
pub fn start() -> App {
    start_with(options(), Readiness::new(), |_| {})
}

pub fn start_with(
    options: HttpOptions,
    readiness: Readiness,
    more: impl Fn(&mut ServiceConfig) + Send + Sync + 'static,
) -> App {
    telemetry::init_for_tests();
    // Whichever test comes first.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let gates = Gates { waiting: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) };
    let data = Data::new(gates.clone());
    let server = Server::new("things", options)
        .openapi(Api::openapi())
        .readiness(readiness)
        .routes(move |config| {
            config.app_data(Data::clone(&data));
            routes(config);
            more(config);
        })
        .bind()
        .unwrap();
    let stop = CancellationToken::new();
    let addr = server.addr();
    let running = tokio::spawn(server.run(stop.clone()));
    // Redirects are answers like others here.
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    App { addr, http, waiting: gates.waiting, go: gates.go, stop, running }
}

impl App {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.http.get(self.url(path))).await
    }

    pub async fn post_json(&self, path: &str, body: impl Into<String>) -> Answer {
        let request = self.http.post(self.url(path)).header("content-type", "application/json");
        send(request.body(body.into())).await
    }

    /// A GET on a connection of its own. The server closes it after the exchange has ended: spans and metrics are there then.
    pub async fn get_and_close(&self, path: &str, headers: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        exchange(&mut self.connect().await, head.as_bytes()).await
    }

    /// A connection on which the test says every byte itself.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// Sends bytes and reads until the server closes.
pub async fn exchange(connection: &mut TcpStream, bytes: &[u8]) -> Answer {
    connection.write_all(bytes).await.unwrap();
    read_to_end(connection).await
}

pub async fn read_to_end(connection: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    in_time(connection.read_to_end(&mut bytes)).await.unwrap();
    parse(&bytes)
}

/// Reads an answer up to its body, and leaves the connection open.
pub async fn read_head(connection: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(in_time(connection.read_u8()).await.unwrap());
    }
    parse(&bytes)
}

/// The same with the body, for an answer with a `content-length`.
pub async fn read_one(connection: &mut TcpStream) -> Answer {
    let head = read_head(connection).await;
    let mut body = vec![0; head.header("content-length").parse().unwrap()];
    in_time(connection.read_exact(&mut body)).await.unwrap();
    Answer { text: String::from_utf8(body).unwrap(), ..head }
}

/// Only a limit for a server that hangs: tests that pass do not wait for it.
async fn in_time<T>(read: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, read).await.expect("the server neither answers nor closes")
}

fn parse(bytes: &[u8]) -> Answer {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    Answer { status, headers, text: body.to_owned() }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {:?}", self.headers)).to_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    pub fn trace_id(&self) -> String {
        self.header("traceparent").split('-').nth(1).unwrap().to_owned()
    }

    /// Everything that every problem has; gives the JSON for the rest.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:postrider:problem:{kind}"));
        assert_eq!(problem["trace_id"], self.trace_id());
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.ends_with('.') && detail.contains(' '), "not a sentence: {detail:?}");
        problem
    }
}
