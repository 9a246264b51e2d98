//! What is written down while the shop runs: requests and what came back, faults, and what the witnesses saw. One JSON object a line.

use serde::{Deserialize, Serialize};

/// A line of `history.jsonl`. The line with [`What::Invoke`] is on disk before the request is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The seed of the run.
    pub seed: u64,
    /// Which request: all attempts at it have the same number and the same key.
    pub op: u64,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Since the run began, by a clock that never goes back.
    pub monotonic_ms: u64,
    /// Since 1970, by the clock on the wall.
    pub wall_ms: u64,
    /// The trace that the attempt was sent in, 32 hexadecimal digits.
    pub trace_id: String,
    /// What happened.
    pub what: What,
}

/// What happened to an attempt. It is never put into another class later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum What {
    /// It is about to be sent.
    Invoke {
        /// The `Idempotency-Key`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// What is asked for.
        request: Request,
    },
    /// It was answered with a 2xx, and the whole answer was read.
    Ok {
        /// Of the answer.
        status: u16,
        /// The order in the answer, if it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<OrderAnswer>,
    },
    /// It was refused for good: a 4xx with a well-formed problem in its body.
    Fail {
        /// Of the answer.
        status: u16,
        /// Its title or detail.
        problem: String,
    },
    /// Everything else: it may have happened or not.
    Info {
        /// Of the answer, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// What was seen instead of an answer.
        why: String,
    },
}

/// What is asked of the shop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// An account.
    Register {
        /// Its address.
        email: String,
    },
    /// An order.
    Order {
        /// Whose.
        user_id: String,
        /// What of.
        lines: Vec<Line>,
        /// How it is paid.
        payment_method: String,
    },
    /// An order is wanted no more.
    Cancel {
        /// Which.
        order_id: String,
    },
    /// Goods come in.
    Restock {
        /// Of which product.
        sku: String,
        /// How many.
        quantity: i64,
    },
}

/// So many of a product.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    /// The product.
    pub sku: String,
    /// How many.
    pub quantity: i64,
}

/// An order as an answer showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAnswer {
    /// Its id.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// How far it had come.
    pub state: String,
    /// What of.
    pub lines: Vec<Line>,
    /// What it costs, in the smallest unit of its currency.
    pub total: i64,
}

/// A line of `faults.jsonl`: what was done to the system, and what shows that it was hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its number in the plan.
    pub id: u64,
    /// Such as `kill`.
    pub kind: String,
    /// What it was done to, such as `orders-1`.
    pub target: String,
    /// When it began, on the ledger's monotonic clock.
    pub start_ms: u64,
    /// When everything was as before.
    pub end_ms: u64,
    /// What shows that it bit.
    pub evidence: Evidence,
    /// How many mails may have been handed over without the sender knowing: each may be sent once more.
    #[serde(default)]
    pub mails_in_hand: u64,
    /// Ids of the messages that it made to fail: these are parked in the end, like those of the plan.
    #[serde(default)]
    pub poisons: Vec<String>,
}

/// What shows that a fault bit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// How often: processes ended, connections closed, sessions terminated. 0 is no evidence.
    pub count: u64,
    /// Of what, in words.
    pub text: String,
}

/// A line of `samples.jsonl`: how much there was of what must not grow. What could not be seen at that moment is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// On the ledger's monotonic clock.
    pub at_ms: u64,
    /// Of every process of a service.
    pub processes: Vec<ProcessSample>,
    /// Connections to the broker.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Messages in the queues of the shop.
    #[serde(default)]
    pub queued: Option<u64>,
    /// Sessions of the database.
    #[serde(default)]
    pub sessions: Option<u64>,
}

/// A process at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Such as `orders-1`: another process has it after a restart.
    pub name: String,
    /// The number that the system gives it.
    pub pid: i32,
    /// Of its memory, what is in the machine's.
    pub resident_bytes: u64,
    /// Open files and connections.
    pub files: u64,
}

/// A line of `tap.jsonl`: a message as the queue got it that hears everything. A message that was published twice is there twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tapped {
    /// The id that inboxes know it by.
    pub message_id: String,
    /// Such as `orders.v1.OrderPlaced`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub key: String,
    /// Its number among the messages of its producer and key.
    pub seq: i64,
    /// `<type>.<lane>`.
    pub routing_key: String,
}

/// A line of `mails.jsonl`: a mail that arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Its `Message-ID`.
    pub message_id: String,
    /// Whom it went to.
    pub recipient: String,
    /// What it is about.
    pub subject: String,
    /// The order that its text names.
    #[serde(default)]
    pub order_id: Option<String>,
}

/// A line of `bindings.jsonl`: a consumer hears a type of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The consumer, which is its queue's name too.
    pub consumer: String,
    /// Such as `orders.v1.OrderPlaced`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A line of `queues.jsonl`: what a queue held at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Messages in it, delivered or not.
    pub messages: u64,
}

/// `end.json`: how the run came to rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// From the last heal, or the last request if that was later, until nothing was under way any more.
    pub drained_after_ms: u64,
    /// How long that may take.
    pub bound_ms: u64,
    /// What was still under way when the time was over.
    #[serde(default)]
    pub stuck: Option<String>,
    /// Deliveries that the broker made again, as far as it counted.
    pub redelivered: u64,
}
