//! What an event is, and where it goes: its type, its key and the lane that follows from the key.

use std::fmt;

/// The number of lanes that keys are spread over. Part of the wire contract: it is in every routing key.
pub const LANES: i16 = 16;

/// The largest encoded event that is accepted, in bytes. Larger content belongs elsewhere, with a reference in the event.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// The longest key. It travels in the headers of each message.
pub const MAX_KEY_BYTES: usize = 1024;

/// A fact that a service announces. `crates/events` generates the impls from `proto/`; by hand it looks like this:
///
/// ```
/// use messaging::{Audience, Event};
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct ParcelArrived {
///     #[prost(string, tag = "1")]
///     parcel_id: String,
/// }
///
/// impl Event for ParcelArrived {
///     const TYPE: &'static str = "parcels.v1.ParcelArrived";
///     const AUDIENCE: Audience = Audience::Required;
///     const SENSITIVE: bool = false;
///     fn key(&self) -> &str {
///         &self.parcel_id
///     }
/// }
/// ```
pub trait Event: prost::Message + Default + Clone + 'static {
    /// The full protobuf name, such as `orders.v1.OrderPlaced`. It is the message's type and the head of its routing key.
    const TYPE: &'static str;
    /// Whether somebody must be listening.
    const AUDIENCE: Audience;
    /// Holds something personal or secret: kept in the journal for a short time only.
    const SENSITIVE: bool;
    /// The aggregate that the event is about. Events of one producer and key keep their order.
    fn key(&self) -> &str;
}

/// Whether somebody must be listening when an event is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Without a subscriber the event is held, with an alert, until there is one.
    Required,
    /// Without a subscriber the event counts as published.
    Optional,
}

/// The lane of a key, 0 to 15: the 64-bit FNV-1a hash of its UTF-8 bytes, its two halves combined by exclusive or, modulo 16.
///
/// Every language can compute it, and it never changes: queues may be bound by lane.
pub fn lane(key: &str) -> i16 {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    ((hash ^ (hash >> 32)) & 15) as i16
}

/// `<type>.<lane>`, as in `orders.v1.OrderPlaced.7`.
pub(crate) fn routing_key(event_type: &str, lane: i16) -> String {
    format!("{event_type}.{lane}")
}

/// Why an event was not taken for publishing. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The key field is empty, so the event has no place in any order.
    #[error("{event_type} has an empty key: fill in the field with the option `key`")]
    EmptyKey {
        /// The event's type.
        event_type: &'static str,
    },
    /// The key exceeds [`MAX_KEY_BYTES`].
    #[error("{event_type} has a key of {bytes} bytes, {MAX_KEY_BYTES} are allowed: an id is enough")]
    KeyTooLong {
        /// The event's type.
        event_type: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The encoded event exceeds [`MAX_PAYLOAD_BYTES`].
    #[error(
        "{event_type} has {bytes} bytes, {MAX_PAYLOAD_BYTES} are allowed: store the content and publish a reference to it"
    )]
    TooLarge {
        /// The event's type.
        event_type: &'static str,
        /// Its encoded size.
        bytes: usize,
    },
}

/// One word for logs.
impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Optional => "optional",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_as_they_have_always_been() {
        // Computed by another program; a change here strands queues that are bound by lane.
        for (key, expected) in [("", 1), ("a", 0), ("order-1", 2), ("0190163d-8694-739b-aea5-966c26f8ad91", 0)] {
            assert_eq!(lane(key), expected, "{key}");
        }
    }

    #[test]
    fn lanes_are_used_evenly() {
        let mut counts = [0_u32; LANES as usize];
        for n in 0..16_000 {
            counts[usize::try_from(lane(&format!("key-{n}"))).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
