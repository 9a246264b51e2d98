//! What did not have to believe the services: a queue that hears everything, the mailbox, the broker's own numbers, and at the end the
//! tables as they are. All of it goes into the run's folder, in the format of [`proof::ledger`] and [`proof::dumps`].

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use proof::ledger::{Binding, Mail, Queue, Tapped};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    console::Step,
    endpoint::encode,
    engines::{RabbitMq, private_rabbitmq},
    http,
    services::SERVICES,
    shop::eventually,
    stack::Stack,
};

/// The queue that hears everything.
pub(super) const TAP: &str = "tap";
/// Messages or mails that are fetched at once.
const AT_ONCE: usize = 500;

/// Nodes of a cluster that has nothing yet.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// Tables of every service. Payloads stay where they are: nothing is judged by them.
const MESSAGING: [(&str, &str); 6] = [
    ("journal", "select message_id, type, key, seq, position from messaging.journal order by position"),
    ("outbox", "select message_id, type, key, seq, position from messaging.outbox order by position"),
    ("inbox", "select message_id, consumer from messaging.inbox order by handled_at"),
    ("consumer_head", "select consumer, producer, key, seq from messaging.consumer_head"),
    ("parked", "select message_id, consumer, state, reason, history from messaging.parked"),
    ("job", "select task, id, attempts, last_error from messaging.job"),
];

/// Tables of one service each.
const TABLES: [(&str, &str, &str); 13] = [
    ("users", "users", "select id, email from users"),
    ("orders", "orders", "select * from orders order by id"),
    ("orders", "order_lines", "select * from order_lines order by order_id, position"),
    (
        "orders",
        "order_history",
        "select *, (extract(epoch from at) * 1000)::bigint as at_ms from order_history order by order_id, seq",
    ),
    ("orders", "products", "select * from products"),
    ("orders", "answers", "select owner, key, status, body from idempotency.answers order by answered_at"),
    ("inventory", "products", "select * from products"),
    (
        "inventory",
        "stock_movements",
        "select *, (extract(epoch from at) * 1000)::bigint as at_ms from stock_movements order by id",
    ),
    (
        "inventory",
        "reservations",
        "select *, (extract(epoch from expires_at) * 1000)::bigint as expires_ms from reservations",
    ),
    ("inventory", "answers", "select owner, key, status, body from idempotency.answers order by answered_at"),
    ("payments", "payments", "select * from payments"),
    ("payments", "book", "select * from provider.book"),
    (
        "notifications",
        "notifications",
        "select id, user_id, template, state, message_id, details, trace_id from notifications",
    ),
];

/// Makes the queue that hears everything, before anybody says anything.
pub(crate) async fn tap(rabbitmq: &RabbitMq, queue: &str) -> Result<()> {
    let vhost = encode(&rabbitmq.vhost);
    rabbitmq.open_vhost().await?;
    let durable = json!({ "durable": true, "arguments": { "x-queue-type": "quorum" } });
    ask(rabbitmq, Method::PUT, &format!("queues/{vhost}/{queue}"), Some(&durable)).await?;
    let everything = json!({ "routing_key": "#" });
    ask(rabbitmq, Method::POST, &format!("bindings/{vhost}/e/events/q/{queue}"), Some(&everything)).await?;
    Ok(())
}

/// The same at a broker that has nothing yet: who it knows next finds the queue there.
pub(super) async fn tap_first(rabbitmq: &RabbitMq, queue: &str) -> Result<()> {
    let vhost = encode(&rabbitmq.vhost);
    ask(rabbitmq, Method::PUT, &format!("vhosts/{vhost}"), Some(&json!({}))).await?;
    rabbitmq.open_vhost().await?;
    eventually("the virtual host to be there on every node", STARTED_WITHIN, async || {
        let found = rabbitmq.get(&format!("vhosts/{vhost}")).await?;
        let states = found["cluster_state"].as_object().context("a virtual host has a state on each node")?;
        let missing: Vec<_> = states.iter().filter(|(_, state)| **state != "running").map(|(node, _)| node).collect();
        for node in &missing {
            // A node that joined a moment ago was not told of it.
            ask(rabbitmq, Method::POST, &format!("vhosts/{vhost}/start/{}", encode(node)), None).await?;
        }
        Ok(missing.is_empty().then_some(()))
    })
    .await?;
    let topic = json!({ "type": "topic", "durable": true });
    ask(rabbitmq, Method::PUT, &format!("exchanges/{vhost}/events"), Some(&topic)).await?;
    tap(rabbitmq, queue).await
}

pub(super) async fn ask(rabbitmq: &RabbitMq, method: Method, path: &str, body: Option<&Value>) -> Result<http::Answer> {
    let answer = rabbitmq.ask(method, &format!("/api/{path}"), body).await?;
    answer.success().with_context(|| format!("RabbitMQ, {path}"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn broker_list(stack: &Stack, kind: &str) -> Result<Value> {
    let rabbitmq = &stack.engines.rabbitmq;
    rabbitmq.get(&format!("{kind}/{}", encode(&rabbitmq.vhost))).await
}

/// Has the broker close every connection to it, or those of one service; how many there were.
pub(super) async fn close_connections(stack: &Stack, of: Option<&str>) -> Result<u64> {
    let rabbitmq = &stack.engines.rabbitmq;
    let mut closed = 0;
    let connections = rabbitmq.get("connections").await?;
    for connection in list(&connections).filter(|connection| of.is_none_or(|of| connection["user"] == of)) {
        let name = encode(connection["name"].as_str().unwrap_or_default());
        let answer = rabbitmq.ask(Method::DELETE, &format!("/api/connections/{name}"), None).await?;
        // One that has gone by itself meanwhile was not closed by us.
        closed += u64::from(answer.status.is_success());
    }
    Ok(closed)
}

/// Deliveries that the broker made again since it runs, as far as it counts.
pub(super) async fn redelivered(stack: &Stack) -> Result<u64> {
    let queues = broker_list(stack, "queues").await?;
    Ok(list(&queues).filter_map(|queue| queue["message_stats"]["redeliver"].as_u64()).sum())
}

/// How many messages are in the queues of the shop, all together.
pub(super) async fn queued(rabbitmq: &RabbitMq) -> Result<u64> {
    let queues = rabbitmq.get(&format!("queues/{}", encode(&rabbitmq.vhost))).await?;
    let of_the_shop = list(&queues).filter(|queue| queue["name"] != TAP);
    Ok(of_the_shop.filter_map(|queue| queue["messages"].as_u64()).sum())
}

/// What the queues of the shop hold.
pub(super) async fn queues(stack: &Stack) -> Result<Vec<Queue>> {
    let queues = broker_list(stack, "queues").await?;
    let of_the_shop = list(&queues).filter(|queue| queue["name"] != TAP);
    // A queue of which nothing is known yet is not known to be empty.
    let held = |queue: &Value| Queue { name: text(&queue["name"]), messages: queue["messages"].as_u64().unwrap_or(1) };
    Ok(of_the_shop.map(held).collect())
}

/// Brings everything into the folder. `heard` was taken from the tap before.
pub(super) async fn collect(stack: &Stack, folder: &Path, mut heard: Vec<Tapped>) -> Result<()> {
    let step = Step::start("witnesses", "asking them");
    let mails = mails(stack).await?;
    write(&folder.join("mails.jsonl"), &mails)?;
    heard.extend(tapped(stack).await?);
    write(&folder.join("tap.jsonl"), &heard)?;
    write(&folder.join("bindings.jsonl"), &bindings(stack).await?)?;
    write(&folder.join("queues.jsonl"), &queues(stack).await?)?;
    step.done(format_args!("{} messages, {} mails", heard.len(), mails.len()));
    let step = Step::start("tables", "copying them");
    for service in SERVICES {
        fs::create_dir_all(folder.join(service.name))?;
        for (table, query) in MESSAGING {
            dump(stack, folder, service.name, table, query).await?;
        }
    }
    for (service, table, query) in TABLES {
        dump(stack, folder, service, table, query).await?;
    }
    step.done(format_args!("{} tables", TABLES.len() + SERVICES.len() * MESSAGING.len()));
    Ok(())
}

/// Keeps the logs of every process, also of a run that could not be brought to its end.
pub(super) fn keep_logs(stack: &Stack, folder: &Path) -> Result<()> {
    let to = folder.join("logs");
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    for folder in [vec![stack.state.logs()], private_rabbitmq::logs(&stack.state)].concat() {
        for log in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let log = log?;
            fs::copy(log.path(), to.join(log.file_name()))
                .with_context(|| format!("cannot copy {}", log.path().display()))?;
        }
    }
    Ok(())
}

async fn dump(stack: &Stack, folder: &Path, service: &str, table: &str, query: &str) -> Result<()> {
    let rows = stack.run_sql(service, &format!("select row_to_json(t) from ({query}) t;")).await?;
    let path = folder.join(service).join(format!("{table}.jsonl"));
    fs::write(&path, rows).with_context(|| format!("cannot write {}", path.display()))
}

fn write(path: &Path, rows: &[impl Serialize]) -> Result<()> {
    let lines: Result<Vec<String>, _> = rows.iter().map(serde_json::to_string).collect();
    fs::write(path, lines?.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// Takes everything out of the queue that hears everything, in its order.
pub(super) async fn tapped(stack: &Stack) -> Result<Vec<Tapped>> {
    let rabbitmq = &stack.engines.rabbitmq;
    let path = format!("queues/{}/{TAP}/get", encode(&rabbitmq.vhost));
    let some = json!({ "count": AT_ONCE, "ackmode": "ack_requeue_false", "encoding": "base64" });
    let mut all = Vec::new();
    loop {
        let taken = ask(rabbitmq, Method::POST, &path, Some(&some)).await?.json()?;
        for message in list(&taken) {
            let (properties, headers) = (&message["properties"], &message["properties"]["headers"]);
            ensure!(headers["x-seq"].is_i64(), "a message without its envelope: {message}");
            all.push(Tapped {
                message_id: text(&properties["message_id"]),
                kind: text(&properties["type"]),
                key: text(&headers["x-key"]),
                seq: headers["x-seq"].as_i64().unwrap_or_default(),
                routing_key: text(&message["routing_key"]),
            });
        }
        // Not until there is none: a shop that lacks a guarantee may never stop publishing.
        if list(&taken).count() < AT_ONCE {
            return Ok(all);
        }
    }
}

pub(super) async fn bindings(stack: &Stack) -> Result<Vec<Binding>> {
    let found = broker_list(stack, "bindings").await?;
    let of_events = list(&found).filter(|binding| binding["source"] == "events" && binding["destination"] != TAP);
    let bound = of_events.filter_map(|binding| {
        let kind = binding["routing_key"].as_str()?.strip_suffix(".*")?;
        Some(Binding { consumer: text(&binding["destination"]), kind: kind.to_owned() })
    });
    Ok(bound.collect())
}

/// Every mail that has arrived by now, the oldest first. A shop that lacks a guarantee may never stop sending.
async fn mails(stack: &Stack) -> Result<Vec<Mail>> {
    let port = stack.mailbox_port();
    let listed = http::get_json(port, &format!("/api/v1/messages?limit={}", u32::MAX)).await?;
    let mut all = Vec::new();
    for summary in list(&listed["messages"]) {
        let id = encode(summary["ID"].as_str().unwrap_or_default());
        let mail = http::get_json(port, &format!("/api/v1/message/{id}")).await?;
        all.push(Mail {
            message_id: text(&mail["MessageID"]),
            recipient: list(&mail["To"]).next().map(|to| text(&to["Address"])).unwrap_or_default(),
            subject: text(&mail["Subject"]),
            order_id: order_in(mail["Text"].as_str().unwrap_or_default()),
        });
    }
    all.reverse();
    Ok(all)
}

/// The first word that looks like the id of an order.
fn order_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    let is_id = |word: &&str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    words.into_iter().find(is_id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_mail_is_found_in_its_text() {
        let id = "01a20a43-268f-74eb-bf52-dbfb22993196";
        assert_eq!(order_in(&format!("Your order {id} is confirmed.")).as_deref(), Some(id));
        assert_eq!(order_in("Follow https://shop.test/email-verifications/abcdef-123"), None);
    }
}
