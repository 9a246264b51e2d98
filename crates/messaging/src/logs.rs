//! Lines of logs, fire-and-forget: from the memory of this process to the exchange `logs`, through a bounded buffer.
//!
//! There is no outbox and no confirm here, on purpose. A line is worth less than the request that it tells of: it must not cost that request a
//! row, a round trip or a wait, and a line that is lost falsifies nothing. What does not fit into the buffer is dropped and counted; nobody
//! ever waits. What the buffer holds while the broker is away is sent when it is back. What is sent twice has the same id twice.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lapin::{BasicProperties, Channel, options::BasicPublishOptions};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, error::TrySendError},
    },
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Broker, Event, meters, retry::RECONNECT, topology::LOGS_EXCHANGE};

/// A longer line is a mistake, and is dropped.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// Lines that are taken out of the buffer at once.
const BURST: usize = 256;
/// A blocked connection writes nothing, so even sending has a deadline.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A channel that lives for so long was not closed over what was sent first.
const PROVEN: Duration = Duration::from_secs(60);
/// How long the last lines may take when the process stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Publishes lines of logs. Cheap to clone; clones share the buffer.
#[derive(Clone)]
pub struct Logs {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Broker,
    service: &'static str,
    sender: mpsc::Sender<Line>,
    /// Taken out by [`Logs::run`].
    buffer: Mutex<mpsc::Receiver<Line>>,
    dropped: AtomicU64,
}

struct Line {
    id: String,
    event_type: &'static str,
    payload: Vec<u8>,
}

impl Logs {
    /// Lines of this service, of which so many wait in memory at most (at least one). They go out while [`Logs::run`] runs.
    pub fn new(broker: &Broker, service: &'static str, buffer: usize) -> Self {
        meters::describe_logs();
        let (sender, buffer) = mpsc::channel(buffer.max(1));
        let shared =
            Shared { broker: broker.clone(), service, sender, buffer: Mutex::new(buffer), dropped: AtomicU64::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Publishes a line, if there is room. Returns at once and tells nobody: whoever writes a log has other things to do. The event's key is
    /// the line's id: whoever stores lines can tell by it what came twice.
    pub fn publish<E: Event>(&self, event: &E) {
        if event.encoded_len() > MAX_LINE_BYTES {
            return self.dropped_because("too_large", 1);
        }
        let line = Line { id: event.key().to_owned(), event_type: E::TYPE, payload: event.encode_to_vec() };
        match self.shared.sender.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.dropped_because("full", 1),
            Err(TrySendError::Closed(_)) => self.dropped_because("stopped", 1),
        }
    }

    /// How many lines were dropped in this process.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Sends what is published until `stop`, then what is left, for two seconds at most. Outages of the broker are waited out.
    pub async fn run(&self, stop: CancellationToken) {
        let mut buffer = self.shared.buffer.lock().await;
        let mut burst = VecDeque::new();
        let mut failures = 0;
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.shared.broker.publish_channel() => opened,
            };
            let ended = match opened {
                Ok(channel) => self.send_until(&stop, &channel, &mut buffer, &mut burst, &mut failures).await,
                Err(error) => Err(error.to_string()),
            };
            let Err(reason) = ended else { break };
            failures += 1;
            let delay = RECONNECT.delay(failures);
            metrics::counter!("messaging_log_interruptions_total").increment(1);
            warn!(reason, ?delay, "lines of the log cannot be sent; what does not fit into the buffer is dropped");
            let _stopped = stop.run_until_cancelled(tokio::time::sleep(delay)).await;
        }
        buffer.close();
        let mut left = burst.len() as u64;
        while buffer.try_recv().is_ok() {
            left += 1;
        }
        self.dropped_because("stopped", left);
    }

    /// One life of a channel. `Ok`: told to stop, and what could be sent is sent.
    async fn send_until(
        &self,
        stop: &CancellationToken,
        channel: &Channel,
        buffer: &mut mpsc::Receiver<Line>,
        burst: &mut VecDeque<Line>,
        failures: &mut u32,
    ) -> Result<(), String> {
        let (mut taken, began) = (Vec::with_capacity(BURST), Instant::now());
        while !stop.is_cancelled() {
            self.send(channel, burst).await?;
            // Sent is not taken: a channel that the broker closes over the first line has sent it, too.
            if began.elapsed() >= PROVEN {
                *failures = 0;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = buffer.recv_many(&mut taken, BURST) => burst.extend(taken.drain(..)),
            }
        }
        buffer.close();
        let rest = async {
            while let Ok(line) = buffer.try_recv() {
                burst.push_back(line);
            }
            self.send(channel, burst).await?;
            // The broker answers this when it has taken what was sent before.
            channel.close(200, "done".into()).await.map_err(|error| error.to_string())
        };
        match timeout(FLUSH_TIMEOUT, rest).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => debug!(reason, "the last lines of the log were not sent"),
            Err(_elapsed) => debug!("the last lines of the log were not sent in time"),
        }
        Ok(())
    }

    /// Sends everything in hand. What could not be sent stays there: the next channel sends it, under the same id.
    async fn send(&self, channel: &Channel, burst: &mut VecDeque<Line>) -> Result<(), String> {
        while let Some(line) = burst.front() {
            let sent = channel.basic_publish(
                LOGS_EXCHANGE.into(),
                self.shared.service.into(),
                BasicPublishOptions::default(),
                &line.payload,
                properties(line, self.shared.service),
            );
            match timeout(SEND_TIMEOUT, sent).await {
                // Without confirms there is nothing to wait for.
                Ok(Ok(_confirm)) => burst.pop_front(),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_elapsed) => return Err("the connection takes nothing".to_owned()),
            };
            metrics::counter!("messaging_log_sent_total").increment(1);
        }
        Ok(())
    }

    fn dropped_because(&self, reason: &'static str, lines: u64) {
        if lines > 0 {
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
            metrics::counter!("messaging_log_dropped_total", "reason" => reason).increment(lines);
        }
    }
}

/// Persistent: that costs nothing while a collector keeps up, and spares what waits for one when the broker restarts.
fn properties(line: &Line, service: &str) -> BasicProperties {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    BasicProperties::default()
        .with_message_id(line.id.as_str().into())
        .with_type(line.event_type.into())
        .with_app_id(service.into())
        .with_content_type("application/x-protobuf".into())
        .with_delivery_mode(2)
        .with_timestamp(now.as_secs())
}
