//! Two connections to RabbitMQ, kept alive for ever: one to publish, one to consume.
//!
//! They are separate because a broker under memory or disk pressure blocks a connection that publishes, and lapin then writes nothing on
//! it, acknowledgements included. lapin's own recovery is not used: channels are rebuilt by whoever owns them, so the state on them is known.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{Channel, Connection, ConnectionProperties, Event, uri::AMQPUri};
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    error::Error,
    health::{Check, Health},
    meters,
    retry::RECONNECT,
};

/// How often a silent connection is looked at, should an event of it have been missed.
const LIVENESS_PERIOD: Duration = Duration::from_secs(1);

/// How long an answer of the broker to a single request may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the broker is, and as whom.
#[derive(Clone)]
pub struct BrokerOptions {
    url: String,
    name: String,
    heartbeat_seconds: u16,
}

impl BrokerOptions {
    /// `url` as in `amqp://user:password@host:5672/vhost`; `name` is shown in the broker's list of connections.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self { url: url.into(), name: name.into(), heartbeat_seconds: 10 }
    }

    /// The connection is given up after twice this silence. 10 s by default.
    pub fn heartbeat_seconds(mut self, seconds: u16) -> Self {
        self.heartbeat_seconds = seconds;
        self
    }
}

/// The connections to RabbitMQ. Cheap to clone; the last clone closes them.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    publishing: watch::Receiver<Option<Arc<Connection>>>,
    consuming: watch::Receiver<Option<Arc<Connection>>>,
    health: Health,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Where the broker listens, as spans name it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Of a URL that is none, nothing: connecting says what is wrong with it.
    fn of(url: &str) -> Self {
        let authority = url.parse::<AMQPUri>().map(|uri| uri.authority);
        authority.map_or_else(|_| Self::default(), |authority| Self { host: authority.host, port: authority.port })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Broker {
    /// Connects in the background and reconnects for ever, after 1 s to 30 s with jitter. Returns at once. Needs a tokio runtime.
    pub fn connect(options: BrokerOptions) -> Self {
        // For amqps; another part may have chosen a provider before, and any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = Address::of(&options.url);
        let (health, stop, tasks) = (Health::default(), CancellationToken::new(), TaskTracker::new());
        let start = |purpose: &'static str| {
            let (sender, receiver) = watch::channel(None);
            let link = Link { purpose, options: options.clone(), health: health.clone(), sender, stop: stop.clone() };
            tasks.spawn(link.run());
            receiver
        };
        let (publishing, consuming) = (start("publish connection"), start("consume connection"));
        Self { inner: Arc::new(Inner { address, publishing, consuming, health, stop, tasks }) }
    }

    /// Closes both connections. Whoever uses them must have stopped.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Whether the connections are up, and why not.
    pub fn health(&self) -> Vec<Check> {
        self.inner.health.checks()
    }

    pub(crate) fn address(&self) -> &Address {
        &self.inner.address
    }

    /// A new channel on the publishing connection, once that is up.
    pub(crate) async fn publish_channel(&self) -> Result<Channel, Error> {
        channel(self.inner.publishing.clone()).await
    }

    /// A new channel on the consuming connection, once that is up.
    pub(crate) async fn consume_channel(&self) -> Result<Channel, Error> {
        channel(self.inner.consuming.clone()).await
    }
}

async fn channel(mut link: watch::Receiver<Option<Arc<Connection>>>) -> Result<Channel, Error> {
    let connection = link
        .wait_for(Option::is_some)
        .await
        .map_err(|_| Error::Configuration("the broker was closed".into()))?
        .clone()
        .ok_or_else(|| Error::Configuration("the broker was closed".into()))?;
    let opened = timeout(REQUEST_TIMEOUT, connection.create_channel()).await;
    opened.map_err(|_| Error::Unconfirmed("the broker does not answer channel.open".into()))?.map_err(Error::from)
}

/// One connection, supervised.
struct Link {
    purpose: &'static str,
    options: BrokerOptions,
    health: Health,
    sender: watch::Sender<Option<Arc<Connection>>>,
    stop: CancellationToken,
}

impl Link {
    async fn run(self) {
        let mut failures = 0;
        self.health.set(self.purpose, Err("connecting".into()));
        meters::connection_up(self.purpose, false);
        meters::connection_lost(self.purpose, 0);
        loop {
            let connected = tokio::select! {
                () = self.stop.cancelled() => return,
                connected = timeout(REQUEST_TIMEOUT, self.connect()) => connected,
            };
            let reason = match connected {
                Ok(Ok(connection)) => {
                    failures = 0;
                    info!(purpose = self.purpose, "connected to the broker");
                    let reason = self.watch(connection).await;
                    meters::connection_up(self.purpose, false);
                    if self.stop.is_cancelled() {
                        return;
                    }
                    meters::connection_lost(self.purpose, 1);
                    reason
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the broker does not answer".to_owned(),
            };
            failures += 1;
            let delay = RECONNECT.delay(failures);
            warn!(purpose = self.purpose, reason, ?delay, "no connection to the broker");
            self.health.set(self.purpose, Err(format!("down: {reason}")));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    async fn connect(&self) -> lapin::Result<Connection> {
        let separator = if self.options.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}heartbeat={}", self.options.url, self.options.heartbeat_seconds);
        let name = format!("{} ({})", self.options.name, self.purpose);
        Connection::connect(&url, ConnectionProperties::default().with_connection_name(name.into())).await
    }

    /// Offers the connection until it is lost or the broker is closed; says why it was lost.
    async fn watch(&self, connection: Connection) -> String {
        let mut events = std::pin::pin!(connection.events_listener());
        let connection = Arc::new(connection);
        self.health.set(self.purpose, Ok("connected".into()));
        meters::connection_up(self.purpose, true);
        self.sender.send_replace(Some(Arc::clone(&connection)));
        let reason = loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => break "closed".to_owned(),
                event = events.next() => event,
                () = tokio::time::sleep(LIVENESS_PERIOD) => {
                    if connection.status().connected() { continue } else { break "the connection was lost".to_owned() }
                }
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    warn!(purpose = self.purpose, reason, "the broker is short of resources and accepts nothing");
                    meters::connection_blocked(self.purpose, true);
                    self.health.set(self.purpose, Err(format!("blocked by the broker: {reason}")));
                }
                Some(Event::ConnectionUnblocked) => {
                    info!(purpose = self.purpose, "the broker accepts messages again");
                    meters::connection_blocked(self.purpose, false);
                    self.health.set(self.purpose, Ok("connected".into()));
                }
                // Channel errors come by here too; they are their owner's.
                Some(Event::Error(error)) if !connection.status().connected() => break error.to_string(),
                Some(_) => {}
                None => break "the connection was lost".to_owned(),
            }
        };
        self.sender.send_replace(None);
        if connection.status().connected() {
            let _ = timeout(REQUEST_TIMEOUT, connection.close(200, "bye".into())).await;
        }
        reason
    }
}
