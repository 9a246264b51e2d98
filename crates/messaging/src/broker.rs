//! Two connections to RabbitMQ, kept alive for ever: one to publish, one to consume.
//!
//! They are separate because a broker under memory or disk pressure blocks a connection that publishes, and lapin then writes nothing on
//! it, acknowledgements included. lapin's own recovery is not used: channels are rebuilt by whoever owns them, so the state on them is known.
//!
//! A cluster is named by the addresses of all its nodes. Each connection begins with any of them, so that processes spread over the nodes,
//! and goes on to the next one when it is lost. It stays where it is then: nothing brings it back when a node returns.

mod addresses;
mod handshake;

use std::{sync::Arc, time::Duration};

use failpoints::without;
use futures_util::StreamExt as _;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    context,
    error::Error,
    event::MAX_KEY_BYTES,
    health::{Check, Health},
    meters,
    retry::{self, RECONNECT},
};
use addresses::{Addresses, Node};

pub use addresses::BrokerUrlError;
pub(crate) use addresses::{Address, one_by_one};

/// How often a silent connection is looked at, should an event of it have been missed.
const LIVENESS_PERIOD: Duration = Duration::from_secs(1);

/// Every node is blocked when one is, and to close a blocked connection takes in vain a deadline and a socket: nothing is written on it. But the
/// alarm of a node that is cut off from the others is over for them alone.
const BLOCKED_LONG: Duration = Duration::from_secs(300);

/// A larger message takes several frames, but its headers have to be in one. lapin has room for 32 frames, each way and for each connection: at the
/// 128 KiB that a broker allows by default that is 16 MiB for a process.
const FRAME_BYTES: usize = 16 * 1024;

/// The headers of a message are at most so long; 1 KiB is for all that strangers do not choose. If they did not fit, their message would end the connection each
/// time that it is published.
const HEADER_BYTES: usize = context::MAX_BYTES + MAX_KEY_BYTES + 1024;
const _: () = assert!(HEADER_BYTES <= FRAME_BYTES);

/// How long an answer of the broker to a single request may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the broker is, and as whom.
#[derive(Clone)]
pub struct BrokerOptions {
    addresses: Addresses,
    name: String,
    heartbeat_seconds: u16,
}

impl BrokerOptions {
    /// `url` as in `amqp://user:password@host:5672/vhost`, or with all nodes of a cluster, `amqp://user:password@a:5672,b:5672/vhost`;
    /// `name` is shown in the broker's list of connections.
    ///
    /// # Errors
    /// When the URL cannot be one. Whether anybody is there is seen when connecting.
    pub fn new(url: impl AsRef<str>, name: impl Into<String>) -> Result<Self, BrokerUrlError> {
        Ok(Self { addresses: Addresses::parse(url.as_ref())?, name: name.into(), heartbeat_seconds: 10 })
    }

    /// The virtual host that the URL names; `/` if none.
    pub fn vhost(&self) -> &str {
        &self.addresses.vhost
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
    publishing: watch::Receiver<Link>,
    consuming: watch::Receiver<Link>,
    /// Tells the publishing connection to go on to the next node.
    leave: Arc<Notify>,
    health: Health,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A connection, while there is one, and the node that it is with, or was last tried with.
struct Link {
    connection: Option<Arc<Connection>>,
    address: Arc<Address>,
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
        let (health, stop, tasks) = (Health::default(), CancellationToken::new(), TaskTracker::new());
        let leave = Arc::new(Notify::new());
        let start = |purpose: &'static str, leave: Arc<Notify>| {
            let nodes = options.addresses.nodes.clone();
            let at = retry::any_of(nodes.len());
            let (sender, receiver) = watch::channel(Link { connection: None, address: Arc::clone(&nodes[at].address) });
            let link = Supervisor {
                purpose,
                options: options.clone(),
                at,
                leave,
                health: health.clone(),
                sender,
                stop: stop.clone(),
            };
            tasks.spawn(link.run());
            receiver
        };
        let (publishing, consuming) =
            (start("publish connection", Arc::clone(&leave)), start("consume connection", Arc::default()));
        Self { inner: Arc::new(Inner { publishing, consuming, leave, health, stop, tasks }) }
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

    /// Of a cluster, goes on to the next node to publish. A node that is cut off from the others takes what is published and confirms nothing,
    /// for as long as that lasts, and its connections look well.
    pub(crate) fn publish_elsewhere(&self) {
        self.inner.leave.notify_waiters();
    }

    /// The node that is published to.
    pub(crate) fn publishing_to(&self) -> Arc<Address> {
        Arc::clone(&self.inner.publishing.borrow().address)
    }

    /// The node that is consumed from.
    pub(crate) fn consuming_from(&self) -> Arc<Address> {
        Arc::clone(&self.inner.consuming.borrow().address)
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

async fn channel(mut link: watch::Receiver<Link>) -> Result<Channel, Error> {
    let closed = || Error::Configuration("the broker was closed".into());
    let connection = link.wait_for(|link| link.connection.is_some()).await.map_err(|_| closed())?.connection.clone();
    let opened = timeout(REQUEST_TIMEOUT, connection.ok_or_else(closed)?.create_channel()).await;
    opened.map_err(|_| Error::Unconfirmed("the broker does not answer channel.open".into()))?.map_err(Error::from)
}

/// Keeps one connection.
struct Supervisor {
    purpose: &'static str,
    options: BrokerOptions,
    /// The node that is tried next, or that the connection is with.
    at: usize,
    leave: Arc<Notify>,
    health: Health,
    sender: watch::Sender<Link>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(mut self) {
        let mut failures = 0;
        self.health.set(self.purpose, Err("connecting".into()));
        meters::connection_up(self.purpose, false);
        meters::connection_lost(self.purpose, 0);
        loop {
            let node = self.node().clone();
            self.sender.send_replace(Link { connection: None, address: Arc::clone(&node.address) });
            let connected = tokio::select! {
                () = self.stop.cancelled() => return,
                connected = self.connect(&node) => connected,
            };
            let Address { host, port } = &*node.address;
            let reason = match connected {
                Ok(connection) => {
                    failures = 0;
                    info!(purpose = self.purpose, host, port, "connected to the broker");
                    let reason = self.watch(connection, &node).await;
                    meters::connection_up(self.purpose, false);
                    if self.stop.is_cancelled() {
                        return;
                    }
                    meters::connection_lost(self.purpose, 1);
                    reason
                }
                Err(error) => error.to_string(),
            };
            failures += 1;
            // Every node is asked once before the wait grows.
            let nodes = self.options.addresses.nodes.len();
            let rounds = (failures - 1) / u32::try_from(nodes).unwrap_or(u32::MAX);
            let delay = RECONNECT.delay(1 + rounds);
            warn!(purpose = self.purpose, host, port, reason, ?delay, "no connection to the broker");
            self.health.set(self.purpose, Err(format!("down: {reason}")));
            if !without("next-node") {
                self.at = (self.at + 1) % nodes;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    fn node(&self) -> &Node {
        &self.options.addresses.nodes[self.at]
    }

    async fn connect(&self, node: &Node) -> Result<Connection, Error> {
        let separator = if node.url.contains('?') { '&' } else { '?' };
        let heartbeat = self.options.heartbeat_seconds;
        let url = format!("{}{separator}heartbeat={heartbeat}&frame_max={FRAME_BYTES}", node.url);
        let name = format!("{} ({})", self.options.name, self.purpose);
        let uri = url.parse().map_err(|_| Error::Configuration(BrokerUrlError::Encoding.to_string()))?;
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = handshake::connect(uri, properties).await?;
        match usize::try_from(connection.configuration().frame_max()) {
            // 0: of any length.
            Ok(0 | HEADER_BYTES..) | Err(_) => Ok(connection),
            Ok(bytes) => Err(Error::Configuration(format!(
                "the broker takes frames of {bytes} bytes, and the headers of a message may need {HEADER_BYTES}: raise `frame_max`"
            ))),
        }
    }

    /// Offers the connection until it is lost or the broker is closed; says why it was lost.
    async fn watch(&self, connection: Connection, node: &Node) -> String {
        let mut events = std::pin::pin!(connection.events_listener());
        let mut blocked = None;
        // lapin gives the number of a channel that the broker closed to nobody again (`Frames::channels_poison`), and who is given none can do nothing.
        let mut numbers = connection.configuration().channel_max() / 2;
        let connection = Arc::new(connection);
        let address = Arc::clone(&node.address);
        self.health.set(self.purpose, Ok("connected".into()));
        meters::connection_up(self.purpose, true);
        self.sender.send_replace(Link { connection: Some(Arc::clone(&connection)), address: Arc::clone(&address) });
        let reason = loop {
            let may_leave = self.options.addresses.nodes.len() > 1
                && blocked.is_none_or(|since: Instant| since.elapsed() > BLOCKED_LONG);
            let event = tokio::select! {
                () = self.stop.cancelled() => break "closed".to_owned(),
                () = self.leave.notified(), if may_leave => break "the node confirms nothing".to_owned(),
                event = events.next() => event,
                () = tokio::time::sleep(LIVENESS_PERIOD) => {
                    if connection.status().connected() { continue } else { break "the connection was lost".to_owned() }
                }
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    warn!(purpose = self.purpose, reason, "the broker is short of resources and accepts nothing");
                    meters::connection_blocked(self.purpose, true);
                    blocked.get_or_insert_with(Instant::now);
                    self.health.set(self.purpose, Err(format!("blocked by the broker: {reason}")));
                }
                Some(Event::ConnectionUnblocked) => {
                    info!(purpose = self.purpose, "the broker accepts messages again");
                    meters::connection_blocked(self.purpose, false);
                    blocked = None;
                    self.health.set(self.purpose, Ok("connected".into()));
                }
                Some(Event::Error(error)) if !connection.status().connected() => break error.to_string(),
                // The broker closed a channel. Why is its owner's business.
                Some(Event::Error(_)) if !without("channel-numbers") => {
                    numbers = numbers.saturating_sub(1);
                    if numbers == 0 {
                        break "the broker closed so many of its channels".to_owned();
                    }
                }
                Some(_) => {}
                None => break "the connection was lost".to_owned(),
            }
        };
        self.sender.send_replace(Link { connection: None, address });
        if connection.status().connected() {
            let _ = timeout(REQUEST_TIMEOUT, connection.close(200, "bye".into())).await;
        }
        reason
    }
}
