//! The HTTP server of a service: its routes plus what every service has. It handles no signals (see [`crate::stop_signal`])
//! and ends no TLS: that is the proxy's.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, dev,
    middleware::from_fn,
    web::{self, Bytes, Data, PayloadConfig, ServiceConfig},
};
use rustix::process::{Resource, getrlimit};
use telemetry::AtScrape;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

use crate::{
    Finished, HttpOptions, Readiness,
    admission::{Admission, Hold},
    connection::Connections,
    exchange, health,
    observer::Observer,
    openapi,
};

type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// A server that is being put together.
pub struct Server {
    service: &'static str,
    options: HttpOptions,
    openapi: OpenApi,
    readiness: Readiness,
    routes: Routes,
    observer: Option<Observer>,
    hold: Option<Hold>,
}

/// A server that holds its port. Connections wait in the backlog until it runs.
#[must_use = "nothing is served before `run`"]
pub struct BoundServer {
    addr: SocketAddr,
    server: dev::Server,
    stop: CancellationToken,
    connections: Connections,
    options: HttpOptions,
    /// Whether changes are held, as long as the server is there.
    measured: Option<AtScrape>,
}

/// What requests need from the server.
pub(crate) struct Shared {
    pub(crate) options: HttpOptions,
    pub(crate) admission: Admission,
    pub(crate) readiness: Readiness,
    pub(crate) openapi: Bytes,
    pub(crate) allowed_methods: BTreeMap<String, String>,
    pub(crate) observer: Option<Observer>,
}

impl Shared {
    /// `None` only outside a [`Server`], as in unit tests of extractors.
    pub(crate) fn of(request: &HttpRequest) -> Option<&Self> {
        request.app_data::<Data<Self>>().map(Data::get_ref)
    }
}

impl Server {
    /// A server for `service` (the name is only for logs and the title of the documentation).
    #[must_use]
    pub fn new(service: &'static str, options: HttpOptions) -> Self {
        let (openapi, readiness) = (OpenApi::default(), Readiness::new());
        Self { service, options, openapi, readiness, routes: Arc::new(|_| {}), observer: None, hold: None }
    }

    /// Documents the routes. The `Allow` header of 405 answers comes from here too, so document every route.
    #[must_use]
    pub fn openapi(mut self, openapi: OpenApi) -> Self {
        self.openapi = openapi;
        self
    }

    /// What `/readyz` checks.
    #[must_use]
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// The service's routes and its `app_data`. Called once per worker thread.
    #[must_use]
    pub fn routes(mut self, routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> Self {
        self.routes = Arc::new(routes);
        self
    }

    /// Tells of every request when it is over; of health, metrics and documentation not. It is called on the thread that answers, so it must
    /// return at once.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(Finished) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Refuses changes, that is everything but GET and HEAD, as long as `held` says so: for a service that cannot get rid of what it announces.
    /// `except` names the routes that announce nothing, such as `POST /sessions`. `held` is asked for every change, so it must return at once.
    #[must_use]
    pub fn hold_changes(
        mut self,
        held: impl Fn() -> bool + Send + Sync + 'static,
        except: &'static [&'static str],
    ) -> Self {
        self.hold = Some(Hold { held: Arc::new(held), except });
        self
    }

    /// Takes the port.
    ///
    /// # Errors
    /// When the address cannot be listened on, or [`Server::hold_changes`] excepts a route that is not documented.
    pub fn bind(self) -> io::Result<BoundServer> {
        let Self { service, options, mut openapi, readiness, routes, observer, hold } = self;
        if openapi.info.title.is_empty() {
            openapi.info.title = service.to_owned();
        }
        let admission = Admission::new(&options, hold, &openapi)?;
        let measured = admission.measure();
        let openapi = openapi::complete(openapi);
        let shared = Data::new(Shared {
            allowed_methods: openapi::allowed_methods(&openapi),
            openapi: serde_json::to_vec(&openapi).map_err(io::Error::other)?.into(),
            options: options.clone(),
            admission,
            readiness,
            observer,
        });
        warn_of_too_few_files(&options);
        exchange::describe_metrics();
        let connections = Connections::default();
        let stop = CancellationToken::new();

        let opened = (connections.clone(), options.clone());
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let server = HttpServer::new(move || {
            let routes = Arc::clone(&routes);
            App::new()
                .app_data(Data::clone(&shared))
                .app_data(PayloadConfig::new(shared.options.max_body_bytes))
                .wrap(from_fn(exchange::exchange))
                .configure(operations)
                .configure(openapi::configure)
                .configure(move |config| routes(config))
                .default_service(web::to(no_route))
        })
        .on_connect(move |socket, extensions| opened.0.opened(socket, extensions, &opened.1))
        .workers(workers)
        .max_connections(options.max_connections.div_ceil(workers))
        .keep_alive(options.keep_alive)
        // The connections watch heads itself, see there.
        .client_request_timeout(std::time::Duration::ZERO)
        .shutdown_timeout(options.drain_timeout.as_secs().max(1))
        .shutdown_signal(stop.clone().cancelled_owned())
        .bind(options.listen)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", options.listen)))?;

        let addr = server.addrs().first().copied().unwrap_or(options.listen);
        tracing::info!(service, %addr, "listening");
        Ok(BoundServer { addr, server: server.run(), stop, connections, options, measured })
    }
}

impl BoundServer {
    /// The address it listens on: the real port where 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` is cancelled; then accepts nothing more, finishes the requests in flight within the drain timeout, and returns.
    ///
    /// # Errors
    /// When the server cannot be started.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let Self { mut server, stop: drain, connections, options, measured: _measured, .. } = self;
        let mut watch = JoinSet::new();
        watch.spawn(connections.watch(options));
        tokio::select! {
            ended = &mut server => return ended,
            () = stop.cancelled() => drain.cancel(),
        }
        server.await
    }
}

/// A connection for which there is no file descriptor is closed at once, and so is what the service itself wants to open.
fn warn_of_too_few_files(options: &HttpOptions) {
    let needed = 2 * options.max_connections as u64;
    // `None`: no limit.
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < needed) {
        tracing::warn!(limit, needed, "HTTP_MAX_CONNECTIONS is more than the limit of open files allows");
    }
}

fn operations(config: &mut ServiceConfig) {
    config
        .service(web::resource("/livez").route(web::get().to(health::livez)))
        .service(web::resource("/readyz").route(web::get().to(health::readyz)))
        .service(web::resource("/metrics").route(web::get().to(health::metrics)));
}

/// Paths of which no route has the method end here too; the difference is whether the path is known.
async fn no_route(request: HttpRequest) -> HttpResponse {
    if request.resource_map().has_resource(request.match_info().as_str()) {
        HttpResponse::MethodNotAllowed().finish()
    } else {
        HttpResponse::NotFound().finish()
    }
}
