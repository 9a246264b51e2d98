//! Messages: what was announced was published, and nothing else; whoever hears a type has handled each message of it once, in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    index::{Announced, Index, rows, services},
    verdict::{Finding, Look},
};

fn producer(kind: &str) -> &str {
    kind.split('.').next().unwrap_or_default()
}

/// The queue that hears everything heard exactly what the services say they announced.
pub(crate) fn published(index: &Index<'_>) -> Finding {
    let mut look =
        Look::new("published", "what was announced was published, and nothing else was: no ghosts, no zombies");
    let mut known: BTreeMap<&str, Announced<'_>> = BTreeMap::new();
    for one in &index.announced {
        let twice = known.insert(&one.event.message_id, *one).is_some();
        look.expect(!twice, &[&one.event.message_id], || {
            "a message is in a journal twice, or in an outbox too".to_owned()
        });
        let own = producer(&one.event.kind) == one.producer;
        look.expect(own, &[&one.event.message_id], || format!("{} has announced {}", one.producer, one.event.kind));
    }
    let mut heard = BTreeSet::new();
    for message in &index.run.tap {
        heard.insert(message.message_id.as_str());
        let announced = known.get(message.message_id.as_str());
        look.expect(announced.is_some(), &[&message.message_id, &message.key], || {
            format!("a ghost: nobody announced this {}", message.kind)
        });
        let lane = message.routing_key.strip_prefix(&message.kind).and_then(|rest| rest.strip_prefix('.'));
        let routed = lane.and_then(|lane| lane.parse::<u8>().ok()).is_some_and(|lane| lane < 16);
        let same = announced.is_none_or(|one| {
            (&one.event.kind, &one.event.key, one.event.seq) == (&message.kind, &message.key, message.seq)
        });
        look.expect(routed && same, &[&message.message_id, &message.key], || {
            "published as something else than was announced".to_owned()
        });
    }
    for one in index.announced.iter().filter(|one| one.published) {
        let event = one.event;
        look.expect(heard.contains(event.message_id.as_str()), &[&event.message_id, &event.key], || {
            format!("a zombie: {} counts as published, and nobody heard it", event.kind)
        });
    }
    look.done()
}

/// For each consumer: the types that it hears.
fn bound<'a>(index: &Index<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut bound: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for binding in &index.run.bindings {
        bound.entry(&binding.consumer).or_default().insert(&binding.kind);
    }
    bound
}

/// Each consumer has handled each message that it hears, once.
pub(crate) fn handled(index: &Index<'_>) -> Finding {
    let mut look = Look::new("handled", "each consumer has handled each message that it hears once, and no other");
    let mut wanted: BTreeSet<(&str, &str)> = BTreeSet::new();
    let bound = bound(index);
    for (_, of) in services(index.run) {
        for row in &of.inbox {
            let hears = bound.contains_key(row.consumer.as_str());
            look.expect(hears, &[&row.consumer, &row.message_id], || {
                "handled by a consumer that hears nothing".to_owned()
            });
        }
    }
    for (consumer, kinds) in bound {
        let heard = index.announced.iter().filter(|one| one.published && kinds.contains(one.event.kind.as_str()));
        wanted.extend(heard.map(|one| (consumer, one.event.message_id.as_str())));
    }
    for (_, of) in services(index.run) {
        for parked in &of.parked {
            wanted.remove(&(parked.consumer.as_str(), parked.message_id.as_str()));
        }
    }
    for (_, of) in services(index.run) {
        for row in &of.inbox {
            let expected = wanted.remove(&(row.consumer.as_str(), row.message_id.as_str()));
            look.expect(expected, &[&row.consumer, &row.message_id], || {
                "handled twice, or never published to it".to_owned()
            });
        }
    }
    for (consumer, message) in wanted {
        look.expect(false, &[consumer, message], || "was published and never handled".to_owned());
    }
    look.done()
}

/// The messages of each key are counted without gaps, published in that order, and every projection is at the last one.
pub(crate) fn ordered(index: &Index<'_>) -> Finding {
    let mut look = Look::new(
        "ordered",
        "the messages of a key are numbered without gaps, published in that order, and heard to the last",
    );
    let mut streams: BTreeMap<(&str, &str), Vec<Announced<'_>>> = BTreeMap::new();
    for one in &index.announced {
        streams.entry((one.producer, &one.event.key)).or_default().push(*one);
    }
    for ((producer, key), stream) in &mut streams {
        stream.sort_by_key(|one| one.event.seq);
        let numbers: Vec<i64> = stream.iter().map(|one| one.event.seq).collect();
        let counted = (1..).zip(&numbers).all(|(expected, seq)| expected == *seq);
        look.expect(counted, &[producer, key], || format!("numbered {numbers:?}"));
        let rising = stream.windows(2).all(|pair| matches!(pair, [a, b] if a.event.position < b.event.position));
        look.expect(rising, &[producer, key], || "a later message has an earlier position".to_owned());
    }
    first_copies(&mut look, index);
    ends_before_beginnings(&mut look, index);
    heads(&mut look, index, &streams);
    let versions: BTreeMap<&str, i64> = index.run.products.iter().map(|row| (row.sku.as_str(), row.version)).collect();
    for row in &index.run.known_products {
        let newest = versions.get(row.sku.as_str()).copied().unwrap_or(0);
        look.expect((1..=newest).contains(&row.version), &[&row.sku], || {
            format!("orders knows version {}, inventory is at {newest}", row.version)
        });
    }
    let known: BTreeSet<&str> = index.run.known_products.iter().map(|row| row.sku.as_str()).collect();
    look.expect(known.len() == index.run.known_products.len(), &[], || "orders knows a product twice".to_owned());
    for one in index.announced.iter().filter(|one| one.event.kind == "inventory.v1.ProductChanged") {
        look.expect(known.contains(one.event.key.as_str()), &[&one.event.key], || {
            "orders never heard of a product".to_owned()
        });
    }
    look.done()
}

/// The first copy of each message came after the first copies of those before it. A copy may come at any time.
fn first_copies(look: &mut Look, index: &Index<'_>) {
    let mut last: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in &index.run.tap {
        if !seen.insert(message.message_id.as_str()) {
            continue;
        }
        let last = last.entry((producer(&message.kind), &message.key)).or_insert(0);
        look.expect(message.seq > *last, &[&message.message_id, &message.key], || {
            format!("{} {} was published after {last}", message.kind, message.seq)
        });
        *last = message.seq.max(*last);
    }
}

/// Nobody heard of the end of an order before its beginning: each remembers such an end, and ignores the beginning.
fn ends_before_beginnings(look: &mut Look, index: &Index<'_>) {
    // What a queue held that was lost comes again, behind newer messages.
    if index.run.faults.iter().any(|fault| matches!(fault.kind.as_str(), "lost_queue" | "wipe_broker")) {
        return;
    }
    for order in &index.run.orders {
        let ended_first = rows(&index.reservations, &order.id).iter().any(|row| row.state == "cancelled");
        look.expect(!ended_first, &[&order.id], || "inventory heard of its end before its beginning".to_owned());
        let due = !index.announced_of("orders.v1.PaymentDue", &order.id).is_empty();
        look.expect(!due || !rows(&index.payments, &order.id).is_empty(), &[&order.id], || {
            "payments was asked for its money and has no payment: it heard of its end first, or of nothing".to_owned()
        });
    }
}

/// What each consumer handled last of a key is the last that it hears of it.
fn heads(look: &mut Look, index: &Index<'_>, streams: &BTreeMap<(&str, &str), Vec<Announced<'_>>>) {
    let mut heads: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
    for (_, of) in services(index.run) {
        for row in &of.heads {
            let twice = heads.insert((&row.consumer, &row.producer, &row.key), row.seq).is_some();
            look.expect(!twice, &[&row.consumer, &row.key], || "two heads of one key".to_owned());
        }
    }
    for (consumer, kinds) in bound(index) {
        for ((producer, key), stream) in streams {
            let heard = stream.iter().filter(|one| one.published && kinds.contains(one.event.kind.as_str()));
            let Some(newest) = heard.map(|one| one.event.seq).max() else { continue };
            let head = heads.remove(&(consumer, producer, key)).unwrap_or(0);
            look.expect(head == newest, &[consumer, producer, key], || {
                format!("handled up to {head}, there are {newest}")
            });
        }
    }
    for (consumer, producer, key) in heads.into_keys() {
        look.expect(false, &[consumer, producer, key], || "a head of something that is not heard".to_owned());
    }
}

/// What failed for good is exactly what was made to fail.
pub(crate) fn parked(index: &Index<'_>) -> Finding {
    let mut look = Look::new("parked", "what is parked or dead in the end is exactly what was made to fail");
    let planned = index.run.plan.poisons.iter();
    let injected = index.run.faults.iter().flat_map(|fault| &fault.poisons);
    let mut poisons: BTreeSet<&str> = planned.chain(injected).map(String::as_str).collect();
    for (service, of) in services(index.run) {
        look.expect(true, &[service], String::new);
        for row in &of.parked {
            let meant = poisons.remove(row.message_id.as_str());
            look.expect(meant, &[&row.consumer, &row.message_id], || {
                format!("{}: {}", row.state, row.reason.as_deref().unwrap_or_default())
            });
        }
    }
    for poison in poisons {
        look.expect(false, &[poison], || "was made to fail, and is not parked".to_owned());
    }
    look.done()
}
