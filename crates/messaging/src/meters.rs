//! The metrics of this crate: what each means, and the handles of those that are counted for every single message, so that a message pays no
//! look-up by name. What is counted once for a window or a batch is looked up where it is counted.
//!
//! What an alert looks at exists from the start, with 0: the first dead letter of a process is an increase, not a new series. No label comes
//! from a message: a type that no handler knows is `unknown`.

use std::{collections::HashMap, time::Duration};

use failpoints::without;
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// What stands for every type that no handler knows.
const UNKNOWN: &str = "unknown";

/// The metrics of one consumer.
pub(crate) struct Meters {
    pub(crate) received: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) handled: Counter,
    pub(crate) absorbed: Counter,
    pub(crate) parked: Counter,
    pub(crate) parked_behind: Counter,
    pub(crate) retries: Counter,
    pub(crate) retries_failed: Counter,
    pub(crate) deadlocks: Counter,
    pub(crate) transit: Histogram,
    pub(crate) end_to_end: Histogram,
    pub(crate) batch: Histogram,
    handler_durations: HashMap<&'static str, Histogram>,
    dead: HashMap<&'static str, Counter>,
}

impl Meters {
    /// For a consumer of this name with handlers of these types.
    pub(crate) fn new(consumer: &'static str, types: impl Iterator<Item = &'static str>) -> Self {
        let types: Vec<_> = types.collect();
        let count = |name: &'static str| counter!(name, "consumer" => consumer);
        let durations = types.iter().map(|event_type| {
            let name = "messaging_handler_duration_seconds";
            (*event_type, histogram!(name, "consumer" => consumer, "type" => *event_type))
        });
        let dead = types.iter().chain([&UNKNOWN]).map(|event_type| {
            (*event_type, counter!("messaging_dead_total", "consumer" => consumer, "type" => *event_type))
        });
        Self {
            received: count("messaging_received_total"),
            redelivered: count("messaging_redelivered_total"),
            handled: count("messaging_handled_total"),
            absorbed: count("messaging_absorbed_total"),
            parked: counter!("messaging_parked_total", "consumer" => consumer, "cause" => "failure"),
            parked_behind: counter!("messaging_parked_total", "consumer" => consumer, "cause" => "order"),
            retries: count("messaging_retries_total"),
            retries_failed: count("messaging_retries_failed_total"),
            deadlocks: count("messaging_deadlocks_total"),
            transit: histogram!("messaging_transit_seconds", "consumer" => consumer),
            end_to_end: histogram!("messaging_end_to_end_seconds", "consumer" => consumer),
            batch: histogram!("messaging_batch_messages", "consumer" => consumer),
            handler_durations: durations.collect(),
            dead: dead.collect(),
        }
    }

    /// A handler was called, and took so long.
    pub(crate) fn called(&self, event_type: &str, took: Duration) {
        if let Some(histogram) = self.handler_durations.get(event_type) {
            histogram.record(took.as_secs_f64());
        }
    }

    /// A message is dead. A foreign one can carry any type; a metric's label must not.
    pub(crate) fn died(&self, event_type: &str) {
        if without("counting") {
            return;
        }
        if let Some(counter) = self.dead.get(event_type).or_else(|| self.dead.get(UNKNOWN)) {
            counter.increment(1);
        }
    }
}

/// Whether a consumer is subscribed to one of its queues. Standing by for another replica counts as subscribed.
pub(crate) fn consumer_up(consumer: &'static str, queue: &str, up: bool) {
    gauge!("messaging_consumer_up", "consumer" => consumer, "queue" => queue.to_owned()).set(f64::from(up));
}

/// Whether a consumer waits for its database, or for what a handler needs.
pub(crate) fn consumer_paused(consumer: &'static str, paused: bool) {
    gauge!("messaging_consumer_paused", "consumer" => consumer).set(f64::from(paused));
}

/// Whether a connection is there.
pub(crate) fn connection_up(connection: &'static str, up: bool) {
    gauge!("messaging_connection_up", "connection" => short(connection)).set(f64::from(up));
    if !up {
        connection_blocked(connection, false);
    }
}

/// Whether the broker takes nothing on a connection.
pub(crate) fn connection_blocked(connection: &'static str, blocked: bool) {
    gauge!("messaging_connection_blocked", "connection" => short(connection)).set(f64::from(blocked));
}

/// A connection that was there is gone; with 0, says that this can happen.
pub(crate) fn connection_lost(connection: &'static str, times: u64) {
    counter!("messaging_connection_lost_total", "connection" => short(connection)).increment(times);
}

/// `publish connection` is `publish` where the label says already that it is a connection.
fn short(connection: &'static str) -> &'static str {
    connection.trim_end_matches(" connection")
}

/// What the broker said of the messages of one wave.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) confirmed: u64,
    pub(crate) unheard: u64,
    pub(crate) returned: u64,
    pub(crate) nacked: u64,
    pub(crate) refused: u64,
}

impl Answers {
    /// Counts them; without any, says that they can happen.
    pub(crate) fn count(&self) {
        let Self { confirmed, unheard, returned, nacked, refused } = *self;
        for (answer, times) in [
            ("confirmed", confirmed),
            ("unheard", unheard),
            ("returned", returned),
            ("nacked", nacked),
            ("refused", refused),
        ] {
            counter!("messaging_broker_answers_total", "answer" => answer).increment(times);
        }
    }
}

/// A job was tried, and this came of it.
pub(crate) fn job_tried(task: &'static str, outcome: &'static str) {
    counter!("messaging_jobs_total", "task" => task, "outcome" => outcome).increment(1);
}

/// What can become of an attempt at a job.
pub(crate) const JOB_OUTCOMES: [&str; 4] = ["done", "postponed", "retrying", "failed"];

/// Says what the metrics of a worker mean, and that they can happen.
pub(crate) fn describe_jobs(task: &'static str) {
    for outcome in JOB_OUTCOMES {
        counter!("messaging_jobs_total", "task" => task, "outcome" => outcome).increment(0);
    }
    describe_counter!("messaging_jobs_total", "Attempts at jobs outside of PostgreSQL, by what came of them.");
    describe_gauge!("messaging_jobs_waiting", "Jobs that are not done, by task.");
    describe_gauge!(
        "messaging_jobs_oldest_age_seconds",
        Unit::Seconds,
        "Age of the oldest job that is not done, by task."
    );
}

/// Says what the metrics of a relay mean, and that they can happen.
pub(crate) fn describe_relay() {
    Answers::default().count();
    counter!("messaging_published_total").increment(0);
    counter!("messaging_relay_failures_total").increment(0);
    drop(histogram!("messaging_dwell_seconds"));
    describe_counter!("messaging_events_created_total", "Events that transactions have published, by type.");
    describe_counter!("messaging_published_total", "Events that left the outbox for the journal.");
    describe_counter!(
        "messaging_broker_answers_total",
        "What the broker said of events that were sent: confirmed, unheard (nobody subscribes, and nobody has to), returned, nacked, refused (it closed the channel)."
    );
    describe_counter!(
        "messaging_relay_failures_total",
        "Looks at the outbox that failed: no channel, no confirms, no database."
    );
    describe_histogram!(
        "messaging_dwell_seconds",
        Unit::Seconds,
        "From the publishing transaction to the settled confirm."
    );
    describe_gauge!(
        "messaging_relay_lanes",
        "Lanes of 16 that this process holds; all processes of a service hold 16."
    );
    describe_gauge!("messaging_outbox_pending", "Events that wait for the broker, counted up to 10000.");
    describe_gauge!(
        "messaging_outbox_oldest_age_seconds",
        Unit::Seconds,
        "Age of the oldest event that nobody has heard."
    );
    describe_gauge!(
        "messaging_scheduled_late_seconds",
        Unit::Seconds,
        "How long the first scheduled event has been due; 0 when none is."
    );
    describe_gauge!("messaging_held_keys", "Keys whose next event the broker did not take.");
    describe_gauge!("messaging_parked", "Messages that failed, or wait behind one that did, and will be tried again.");
    describe_gauge!(
        "messaging_parked_oldest_age_seconds",
        Unit::Seconds,
        "Age of the oldest message that is parked and will be tried again."
    );
    describe_gauge!("messaging_dead_letters", "Messages that will not be tried again until somebody decides.");
    describe_gauge!("messaging_connection_up", "1 while the connection to the broker is there.");
    describe_gauge!("messaging_connection_blocked", "1 while the broker takes nothing on the connection.");
    describe_counter!("messaging_connection_lost_total", "Connections to the broker that were lost.");
}

/// A subscription is lost, or not to be had; with 0, says that this can happen.
pub(crate) fn subscription_lost(consumer: &'static str, times: u64) {
    counter!("messaging_subscription_lost_total", "consumer" => consumer).increment(times);
}

/// Says what the metrics of everything that subscribes mean, and that they can happen.
pub(crate) fn describe_subscription(consumer: &'static str) {
    subscription_lost(consumer, 0);
    describe_counter!("messaging_subscription_lost_total", "Subscriptions that were lost or not to be had.");
    describe_gauge!("messaging_consumer_up", "1 while subscribed to the queue, standing by included.");
}

/// Says what the metrics of a consumer mean.
pub(crate) fn describe_consumer() {
    describe_counter!("messaging_received_total", "Deliveries taken off the queue.");
    describe_counter!("messaging_redelivered_total", "Deliveries that the broker had handed out before.");
    describe_counter!("messaging_handled_total", "Messages whose effect was committed.");
    describe_counter!(
        "messaging_absorbed_total",
        "Duplicates: messages that had had their effect, or were parked already."
    );
    describe_counter!(
        "messaging_parked_total",
        "Messages put aside, because they failed or because one of their key had."
    );
    describe_counter!("messaging_retries_total", "Attempts at parked messages.");
    describe_counter!(
        "messaging_retries_failed_total",
        "Attempts at parked messages that failed and will be repeated."
    );
    describe_counter!("messaging_dead_total", "Messages that became dead letters, by type.");
    describe_counter!(
        "messaging_deadlocks_total",
        "Transactions repeated at once after a deadlock or a serialization failure."
    );
    describe_gauge!("messaging_consumer_paused", "1 while it waits for its database, or for what a handler needs.");
    describe_histogram!("messaging_transit_seconds", Unit::Seconds, "From the relay's sending to the first delivery.");
    describe_histogram!("messaging_handler_duration_seconds", Unit::Seconds, "One call of a handler, by type.");
    describe_histogram!(
        "messaging_end_to_end_seconds",
        Unit::Seconds,
        "From the publishing transaction to the committed effect."
    );
    describe_histogram!("messaging_batch_messages", "Messages that one transaction took.");
}

/// Why a line of a log is dropped before it has left the process.
const DROPPED: [&str; 3] = ["full", "too_large", "stopped"];
/// Why a collector drops a line.
const REFUSED: [&str; 2] = ["unreadable", "failed"];

/// Says what the metrics of written lines mean, and that they can happen.
pub(crate) fn describe_logs() {
    counter!("messaging_log_sent_total").increment(0);
    counter!("messaging_log_interruptions_total").increment(0);
    for reason in DROPPED {
        counter!("messaging_log_dropped_total", "reason" => reason).increment(0);
    }
    describe_counter!("messaging_log_sent_total", "Lines of logs that were handed to the broker.");
    describe_counter!(
        "messaging_log_dropped_total",
        "Lines of logs that were dropped in this process, by reason: full, too_large, stopped."
    );
    describe_counter!("messaging_log_interruptions_total", "Times that lines of logs could not be sent for a while.");
}

/// Says what the metrics of a collector mean, and that they can happen.
pub(crate) fn describe_collector(consumer: &'static str) {
    counter!("messaging_log_collected_total", "consumer" => consumer).increment(0);
    drop(histogram!("messaging_log_batch_lines", "consumer" => consumer));
    for reason in REFUSED {
        counter!("messaging_log_refused_total", "consumer" => consumer, "reason" => reason).increment(0);
    }
    describe_gauge!("messaging_consumer_paused", "1 while it waits for its database, or for what a handler needs.");
    describe_counter!("messaging_log_collected_total", "Lines of logs that were taken off the queue and stored.");
    describe_counter!(
        "messaging_log_refused_total",
        "Lines of logs that the collector dropped, by reason: unreadable, failed."
    );
    describe_histogram!("messaging_log_batch_lines", "Lines of logs that one transaction took.");
}
