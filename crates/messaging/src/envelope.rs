//! The envelope of a message: what travels around the payload, in AMQP properties and headers.

use chrono::{DateTime, Datelike as _, TimeZone as _, Utc};
use failpoints::without;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

use crate::{
    context::TraceContext,
    event::{self, MAX_KEY_BYTES},
};

const KEY: &str = "x-key";
const SEQ: &str = "x-seq";
const DEADLINE: &str = "x-deadline";
const OCCURRED_AT_MS: &str = "x-occurred-at-ms";
const REPLAYED: &str = "x-replayed";
/// When the relay sent it, by the relay's clock: for measuring the way through the broker, and nothing else.
const SENT_AT_MS: &str = "x-sent-at-ms";

/// What a handler knows about the message in its hand.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// UUIDv7, the same however often the message is delivered.
    pub message_id: Uuid,
    /// The full protobuf name.
    pub event_type: String,
    /// The service that announced the event.
    pub producer: String,
    /// The aggregate that the event is about.
    pub key: String,
    /// The event's number among all events of its producer and key, from 1. A consumer sees gaps where it does not subscribe to every type.
    pub seq: i64,
    /// When the event's transaction published it, by the producer's clock.
    pub occurred_at: DateTime<Utc>,
    /// 1 for the first attempt at handling.
    pub attempt: u32,
    /// A later event of the same key already had its effect here (after a redrive or a replay).
    pub late: bool,
    /// Sent again from the producer's journal.
    pub replayed: bool,
    /// Was scheduled: it does not wait behind parked messages of its key.
    pub deadline: bool,
    pub(crate) context: TraceContext,
}

impl Envelope {
    /// The trace that the message belongs to, 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<&str> {
        self.context.trace_id()
    }

    pub(crate) fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(KEY.into(), AMQPValue::LongString(self.key.as_str().into()));
        headers.insert(SEQ.into(), AMQPValue::LongLongInt(self.seq));
        headers.insert(OCCURRED_AT_MS.into(), AMQPValue::LongLongInt(self.occurred_at.timestamp_millis()));
        headers.insert(SENT_AT_MS.into(), AMQPValue::LongLongInt(Utc::now().timestamp_millis()));
        if self.deadline {
            headers.insert(DEADLINE.into(), AMQPValue::Boolean(true));
        }
        if self.replayed {
            headers.insert(REPLAYED.into(), AMQPValue::Boolean(true));
        }
        for (name, value) in self.context.iter() {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        let message_id = if without("message-id") { Uuid::now_v7() } else { self.message_id };
        BasicProperties::default()
            .with_message_id(message_id.to_string().into())
            .with_type(self.event_type.as_str().into())
            .with_app_id(self.producer.as_str().into())
            .with_content_type("application/x-protobuf".into())
            .with_delivery_mode(2)
            .with_timestamp(u64::try_from(self.occurred_at.timestamp()).unwrap_or_default())
            .with_headers(headers)
    }

    /// When a message was sent, if it says so.
    pub(crate) fn sent_at(properties: &BasicProperties) -> Option<DateTime<Utc>> {
        match properties.headers().as_ref()?.inner().get(SENT_AT_MS) {
            Some(AMQPValue::LongLongInt(ms)) => Utc.timestamp_millis_opt(*ms).single(),
            _ => None,
        }
    }

    /// Reads the envelope of a delivery, or says what is missing.
    pub(crate) fn read(properties: &BasicProperties) -> Result<Self, String> {
        let headers = properties.headers().clone().unwrap_or_default();
        let text = |name: &str| {
            let text = match headers.inner().get(name) {
                Some(AMQPValue::LongString(value)) => std::str::from_utf8(value.as_bytes()).ok(),
                Some(AMQPValue::ShortString(value)) => Some(value.as_str()),
                _ => None,
            };
            text.filter(|text| is_storable(text))
        };
        let number = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongLongInt(value)) => Some(*value),
            Some(AMQPValue::LongInt(value)) => Some(i64::from(*value)),
            _ => None,
        };
        let flag = |name: &str| matches!(headers.inner().get(name), Some(AMQPValue::Boolean(true)));
        let property = |value: &Option<lapin::types::ShortString>, name: &str| {
            let value = value.as_ref().map(|value| value.as_str().to_owned()).filter(|value| is_storable(value));
            value.ok_or(format!("the property {name} is missing, or not a text"))
        };

        let message_id = property(properties.message_id(), "message_id")?;
        Ok(Self {
            message_id: message_id
                .parse()
                .map_err(|_| format!("the property message_id is not a UUID: {message_id}"))?,
            event_type: property(properties.kind(), "type")?,
            producer: property(properties.app_id(), "app_id")?,
            key: text(KEY)
                .filter(|key| key.len() <= MAX_KEY_BYTES)
                .ok_or(format!("the header {KEY} is missing, not a text, or longer than {MAX_KEY_BYTES} bytes"))?
                .to_owned(),
            seq: number(SEQ).ok_or(format!("the header {SEQ} is missing"))?,
            occurred_at: number(OCCURRED_AT_MS)
                .and_then(|ms| Utc.timestamp_millis_opt(ms).single())
                // PostgreSQL knows fewer years than this clock: what it cannot store could not even be kept as evidence.
                .filter(|time| (1970..10_000).contains(&time.year()))
                .ok_or(format!("the header {OCCURRED_AT_MS} is missing or not a time"))?,
            attempt: 1,
            late: false,
            replayed: flag(REPLAYED),
            deadline: flag(DEADLINE),
            context: TraceContext::from_headers(text),
        })
    }

    /// As much of an envelope as a foreign or damaged message has, so that it can be kept as evidence. Its id is derived from its
    /// content: however often it is delivered, it is kept once.
    pub(crate) fn salvage(properties: &BasicProperties, payload: &[u8]) -> Self {
        let property = |value: &Option<lapin::types::ShortString>| {
            value.as_ref().map(|value| value.as_str().replace('\0', "\u{fffd}")).unwrap_or_default()
        };
        let message_id = property(properties.message_id());
        Self {
            message_id: message_id.parse().unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, payload)),
            event_type: property(properties.kind()),
            producer: property(properties.app_id()),
            key: String::new(),
            seq: 0,
            occurred_at: Utc::now(),
            attempt: 1,
            late: false,
            replayed: false,
            deadline: false,
            context: TraceContext::default(),
        }
    }

    pub(crate) fn lane(&self) -> i16 {
        event::lane(&self.key)
    }
}

/// Text of Postgres holds every character but this one.
fn is_storable(text: &str) -> bool {
    !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            message_id: Uuid::now_v7(),
            event_type: "parcels.v1.ParcelArrived".into(),
            producer: "parcels".into(),
            key: "p-1".into(),
            seq: 7,
            occurred_at: Utc.timestamp_millis_opt(1_790_000_000_123).unwrap(),
            attempt: 1,
            late: false,
            replayed: true,
            deadline: true,
            context: TraceContext::from_headers(|name| (name == "traceparent").then_some("00-aa-bb-01")),
        }
    }

    #[test]
    fn an_envelope_survives_the_wire() {
        let sent = envelope();
        let read = Envelope::read(&sent.properties()).unwrap();
        assert_eq!(format!("{sent:?}"), format!("{read:?}"));
    }

    #[test]
    fn a_message_says_when_it_was_sent_and_a_foreign_one_does_not() {
        let (before, sent) = (Utc::now().timestamp_millis(), Envelope::sent_at(&envelope().properties()).unwrap());
        assert!((before..=Utc::now().timestamp_millis()).contains(&sent.timestamp_millis()), "{sent}");
        assert_eq!(Envelope::sent_at(&BasicProperties::default()), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let properties = envelope().properties().with_headers(FieldTable::default());
        let missing = "the header x-key is missing, not a text, or longer than 1024 bytes";
        assert_eq!(Envelope::read(&properties).unwrap_err(), missing);
    }

    #[test]
    fn a_time_that_the_database_cannot_store_is_none() {
        for (ms, is_time) in
            [(0, true), (-1, false), (253_402_300_799_999, true), (253_402_300_800_000, false), (i64::MIN, false)]
        {
            let mut headers = envelope().properties().headers().clone().unwrap();
            headers.insert(OCCURRED_AT_MS.into(), AMQPValue::LongLongInt(ms));
            let read = Envelope::read(&envelope().properties().with_headers(headers));
            assert_eq!(read.is_ok(), is_time, "{ms}: {read:?}");
        }
    }

    #[test]
    fn a_damaged_message_is_the_same_one_each_time() {
        let properties = BasicProperties::default();
        let first = Envelope::salvage(&properties, b"garbage");
        assert_eq!(first.message_id, Envelope::salvage(&properties, b"garbage").message_id);
        assert_ne!(first.message_id, Envelope::salvage(&properties, b"other").message_id);
    }
}
