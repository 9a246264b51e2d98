//! Every point there is, and what has to happen for it to be reached. A test compares the list with the code.

/// A place in the code where a process can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Such as `relay.before_settle`: the part, and between which two steps of it.
    pub name: &'static str,
    /// A service whose processes reach it when customers order, pay, are declined and change their minds.
    pub service: &'static str,
    /// Seconds that are longer than any lease or deadline that the process has there: who hangs for so long has been replaced.
    pub outlasts_s: u64,
    /// What it takes to be reached.
    pub reached: Reached,
}

/// What has to happen for a point to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Nothing: it is reached all the time, or by nearly every order.
    Always,
    /// Some order has to go another way than most: it is cancelled, declined, or waits too long.
    Sometimes,
    /// A process starts.
    AtStart,
    /// An error at another point of the same process.
    AfterError(&'static str),
    /// A message comes that nobody can read.
    ByPoison,
}

use Reached::{AfterError, Always, AtStart, ByPoison, Sometimes};

/// All of them, about in the order in which an order meets them.
#[rustfmt::skip] // one line each, as the table that it is
pub const POINTS: &[Point] = &[
    Point { name: "idempotency.after_lock", service: "orders", outlasts_s: 17, reached: Always },
    Point { name: "idempotency.after_answer", service: "orders", outlasts_s: 17, reached: Always },
    Point { name: "orders.before_answer", service: "orders", outlasts_s: 17, reached: Always },
    Point { name: "outbox.before_events", service: "notifications", outlasts_s: 17, reached: Always },
    Point { name: "outbox.before_commit", service: "payments", outlasts_s: 17, reached: Always },
    Point { name: "outbox.after_commit", service: "orders", outlasts_s: 17, reached: Always },
    Point { name: "relay.after_read", service: "orders", outlasts_s: 17, reached: Always },
    Point { name: "relay.before_confirms", service: "inventory", outlasts_s: 17, reached: Always },
    Point { name: "relay.before_settle", service: "payments", outlasts_s: 17, reached: Always },
    Point { name: "relay.after_settle", service: "notifications", outlasts_s: 17, reached: Always },
    Point { name: "relay.before_renewal", service: "users", outlasts_s: 17, reached: Always },
    Point { name: "relay.after_claim", service: "access-log", outlasts_s: 17, reached: Always },
    Point { name: "relay.promoting", service: "orders", outlasts_s: 17, reached: Sometimes },
    Point { name: "relay.promoted", service: "inventory", outlasts_s: 17, reached: Sometimes },
    Point { name: "relay.housekeeping", service: "users", outlasts_s: 17, reached: AtStart },
    Point { name: "consumer.before_transaction", service: "notifications", outlasts_s: 17, reached: Always },
    Point { name: "consumer.after_inbox", service: "inventory", outlasts_s: 17, reached: Always },
    Point { name: "consumer.suspect_marked", service: "notifications", outlasts_s: 17, reached: AfterError("consumer.before_ack") },
    Point { name: "consumer.in_handler", service: "notifications", outlasts_s: 32, reached: Always },
    Point { name: "consumer.after_handlers", service: "orders", outlasts_s: 17, reached: Always },
    Point { name: "consumer.before_ack", service: "inventory", outlasts_s: 17, reached: Always },
    Point { name: "consumer.after_ack", service: "payments", outlasts_s: 17, reached: Always },
    Point { name: "consumer.before_parking", service: "payments", outlasts_s: 17, reached: AfterError("consumer.in_handler") },
    Point { name: "consumer.after_parking", service: "payments", outlasts_s: 17, reached: AfterError("consumer.in_handler") },
    Point { name: "consumer.before_burial", service: "notifications", outlasts_s: 17, reached: ByPoison },
    Point { name: "consumer.after_burial", service: "notifications", outlasts_s: 17, reached: ByPoison },
    Point { name: "retries.after_claim", service: "inventory", outlasts_s: 62, reached: AfterError("consumer.in_handler") },
    Point { name: "retries.before_commit", service: "inventory", outlasts_s: 62, reached: AfterError("consumer.in_handler") },
    Point { name: "retries.after_commit", service: "orders", outlasts_s: 17, reached: AfterError("consumer.in_handler") },
    Point { name: "retries.before_failure", service: "orders", outlasts_s: 62, reached: AfterError("consumer.in_handler") },
    Point { name: "worker.after_claim", service: "payments", outlasts_s: 33, reached: Always },
    Point { name: "worker.before_record", service: "payments", outlasts_s: 33, reached: Always },
    Point { name: "worker.before_commit", service: "payments", outlasts_s: 33, reached: Always },
    Point { name: "worker.after_commit", service: "notifications", outlasts_s: 17, reached: Always },
    Point { name: "inventory.between_lines", service: "inventory", outlasts_s: 17, reached: Always },
    Point { name: "inventory.releasing", service: "inventory", outlasts_s: 17, reached: Sometimes },
    Point { name: "payments.after_charge", service: "payments", outlasts_s: 12, reached: Always },
    Point { name: "payments.compensating", service: "payments", outlasts_s: 17, reached: Sometimes },
    Point { name: "payments.after_refund", service: "payments", outlasts_s: 12, reached: Sometimes },
    Point { name: "orders.cancelling", service: "orders", outlasts_s: 17, reached: Sometimes },
    Point { name: "orders.at_deadline", service: "orders", outlasts_s: 17, reached: Sometimes },
    Point { name: "notifications.after_250", service: "notifications", outlasts_s: 37, reached: Always },
    Point { name: "collector.before_commit", service: "access-log", outlasts_s: 17, reached: Always },
    Point { name: "collector.after_commit", service: "access-log", outlasts_s: 17, reached: Always },
    Point { name: "collector.before_ack", service: "access-log", outlasts_s: 17, reached: Always },
];
