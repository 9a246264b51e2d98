//! Rows of the services' tables, as far as the invariants need them: one file for each table, `<service>/<table>.jsonl`, one row a line as
//! PostgreSQL's `row_to_json` shows it. What else is in a row is ignored. Times are milliseconds since 1970, by the database's clock.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The services of the shop that send and hear messages.
pub const SERVICES: [&str; 5] = ["users", "orders", "inventory", "payments", "notifications"];

/// `users/users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct User {
    pub id: String,
    pub email: String,
}

/// `orders/orders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct Order {
    pub id: String,
    pub user_id: String,
    pub state: String,
    pub reason: Option<String>,
    pub payment_method: String,
    pub total: i64,
    pub currency: String,
    pub version: i64,
}

/// `orders/order_lines`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct OrderLine {
    pub order_id: String,
    pub sku: String,
    pub quantity: i64,
    pub price: i64,
}

/// `orders/order_history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct HistoryEntry {
    pub order_id: String,
    pub seq: i64,
    pub event: String,
    pub state: String,
    pub trace_id: Option<String>,
    #[serde(default)]
    pub at_ms: Option<u64>,
}

/// `orders/products`: the copy that orders keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct KnownProduct {
    pub sku: String,
    pub version: i64,
}

/// `orders/answers` and `inventory/answers`: what requests with a key were answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the crate say what its columns are")]
pub struct Answer {
    pub owner: String,
    pub key: String,
    pub status: u16,
    #[serde(with = "hexadecimal_json")]
    pub body: Value,
}

/// `inventory/products`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct Product {
    pub sku: String,
    pub available: i64,
    pub reserved: i64,
    pub sold: i64,
    pub received: i64,
    pub version: i64,
}

/// `inventory/stock_movements`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct Movement {
    pub id: i64,
    pub sku: String,
    pub available: i64,
    pub reserved: i64,
    pub sold: i64,
    pub received: i64,
    pub cause: String,
    pub order_id: Option<String>,
    pub trace_id: Option<String>,
    #[serde(default)]
    pub at_ms: Option<u64>,
}

/// `inventory/reservations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct Reservation {
    pub order_id: String,
    pub state: String,
    pub reason: Option<String>,
    #[serde(default)]
    pub expires_ms: Option<u64>,
}

/// `payments/payments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct Payment {
    pub id: String,
    pub order_id: String,
    pub minor_units: i64,
    pub currency: String,
    pub payment_method: String,
    pub state: String,
    pub trace_id: Option<String>,
}

/// `payments/book`: the provider's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct BookEntry {
    pub key: String,
    pub minor_units: Option<i64>,
    pub currency: Option<String>,
    pub state: String,
}

/// `notifications/notifications`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the service say what its columns are")]
pub struct Notification {
    pub id: String,
    pub user_id: Option<String>,
    pub template: String,
    pub state: String,
    pub message_id: String,
    pub details: Option<Value>,
    pub trace_id: Option<String>,
}

/// `<service>/journal` and `<service>/outbox`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the crate say what its columns are")]
pub struct Event {
    pub message_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub key: String,
    pub seq: i64,
    pub position: i64,
}

/// `<service>/inbox`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the crate say what its columns are")]
pub struct Handled {
    pub message_id: String,
    pub consumer: String,
}

/// `<service>/consumer_head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the crate say what its columns are")]
pub struct Head {
    pub consumer: String,
    pub producer: String,
    pub key: String,
    pub seq: i64,
}

/// `<service>/parked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the crate say what its columns are")]
pub struct Parked {
    pub message_id: String,
    pub consumer: String,
    pub state: String,
    pub reason: Option<String>,
}

/// `<service>/job`: work that is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the migrations of the crate say what its columns are")]
pub struct Job {
    pub task: String,
    pub id: String,
}

/// What a service keeps of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messaging {
    /// Published.
    pub journal: Vec<Event>,
    /// Not published yet.
    pub outbox: Vec<Event>,
    /// Handled.
    pub inbox: Vec<Handled>,
    /// The last that was handled of each key.
    pub heads: Vec<Head>,
    /// Failed.
    pub parked: Vec<Parked>,
    /// Not done.
    pub jobs: Vec<Job>,
}

/// Bytes that are JSON, as PostgreSQL shows bytes: `\x` and two hexadecimal digits for each.
mod hexadecimal_json {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Value, to: S) -> Result<S::Ok, S::Error> {
        let digits: String = value.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&format!("\\x{digits}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix("\\x").ok_or_else(|| D::Error::custom("bytes begin with \\x"))?;
        let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.ok_or_else(|| D::Error::custom("not hexadecimal"))?;
        serde_json::from_slice(&bytes).map_err(D::Error::custom)
    }
}
