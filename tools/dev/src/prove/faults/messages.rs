//! Faults of messages: some that nobody can read, and some that come once more.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use proof::ledger::Evidence;
use serde_json::json;

use super::{Open, Undo, World, broker, service};
use crate::{
    prove::{kinds::Kind, random::Random, schedule::PlannedFault},
    shop::eventually,
    stack::Stack,
};

/// What is delivered once more was published since then.
const AGAIN_FROM: chrono::Duration = chrono::Duration::seconds(20);
const DEAD_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    let (stack, consumer) = (&mut *world.stack, service(planned)?);
    match planned.kind {
        Kind::Poison => {
            let id = poison(stack, consumer, &mut Random::new(planned.draw, 0)).await?;
            let mut open = Open::new(1, format!("{consumer} got the message {id}, which says nothing"), Undo::Nothing);
            open.poisons.push(id);
            Ok(open)
        }
        Kind::Duplicate => {
            let since = (chrono::Utc::now() - AGAIN_FROM).to_rfc3339();
            let count = broker::replay(stack, consumer, &since).await?;
            Ok(Open::new(count, format!("{consumer} got {count} messages again"), Undo::Nothing))
        }
        _ => bail!("{:?} is not done with messages", planned.kind),
    }
}

/// Puts a message into a queue that nobody can read; its id.
pub(in crate::prove) async fn poison(stack: &Stack, consumer: &str, random: &mut Random) -> Result<String> {
    let id = message_id(random);
    stack.engines.rabbitmq.publish(consumer, &properties(&id, random), "no message at all").await?;
    Ok(id)
}

/// A poison has done its harm when it is dead.
pub(super) async fn end(world: &mut World<'_>, planned: &PlannedFault, open: Open) -> Result<Evidence> {
    let consumer = service(planned)?;
    for id in &open.poisons {
        ensure!(id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "not an id: {id}");
        let query = format!("select count(*) from messaging.parked where message_id = '{id}' and state = 'dead';");
        eventually("the poison to be dead", DEAD_WITHIN, async || {
            Ok((world.stack.run_sql(consumer, &query).await?.trim() == "1").then_some(()))
        })
        .await?;
    }
    Ok(open.seen)
}

/// A UUIDv7 (RFC 9562) of now: an inbox refuses what is older than it remembers.
fn message_id(random: &mut Random) -> String {
    let ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or_default();
    let (a, b) = (random.below(1 << 12), random.below(1 << 62));
    let (high, low) = ((ms << 16) | 0x7000 | a, (1 << 63) | b);
    let text = format!("{high:016x}{low:016x}");
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| text.get(part).unwrap_or_default()).join("-")
}

/// Those of a type that every consumer of the shop knows, about a key that nothing else is about.
fn properties(id: &str, random: &mut Random) -> serde_json::Value {
    json!({
        "message_id": id,
        "type": "orders.v1.OrderCancelled",
        "app_id": "orders",
        "content_type": "application/x-protobuf",
        "delivery_mode": 2,
        "headers": {
            "x-key": format!("poison-{:016x}", random.next()),
            "x-seq": 1,
            "x-occurred-at-ms": chrono::Utc::now().timestamp_millis(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_a_uuid_of_version_7() {
        let id = message_id(&mut Random::new(1, 1));
        assert_eq!(id.len(), 36);
        assert_eq!(id.split('-').nth(2).and_then(|part| part.chars().next()), Some('7'));
        assert!(id.split('-').nth(3).is_some_and(|part| part.starts_with(['8', '9', 'a', 'b'])), "{id}");
    }
}
