//! How a drill disturbs the shop: by SQL, by the broker's API, by signals. Nothing here decides when, or what follows from it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use proof::ledger::{Evidence, Fault};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    endpoint::encode,
    prove::{
        ledger::Ledger,
        witness::{self, TAP},
    },
    services::SERVICES,
    stack::Stack,
};

/// The id of the message that cannot be read.
pub(super) const POISON: &str = "0d9f3c52-5b52-7c11-8e0a-6d2f4b1a9c77";
/// Mails that one process of notifications has in hand at most (its setting MAIL_CONCURRENCY).
pub(super) const MAILS_IN_HAND: u64 = 4;
/// What the sagas write with every step.
const WRITTEN: [(&str, &str); 2] = [("orders", "orders"), ("inventory", "reservations")];
/// The binding that is lost: placed orders, to inventory.
const LOST: (&str, &str) = ("inventory", "orders.v1.OrderPlaced.*");
/// Everything else there is to be heard.
const ALL_ELSE: [&str; 9] = [
    "users.#",
    "inventory.#",
    "payments.#",
    "notifications.#",
    "orders.v1.PaymentDue.*",
    "orders.v1.OrderPaid.*",
    "orders.v1.OrderConfirmed.*",
    "orders.v1.OrderCancelled.*",
    "orders.v1.OrderDeadlineReached.*",
];

/// Writes down what was done.
pub(super) struct Bites<'a> {
    ledger: &'a Ledger,
    written: u64,
}

impl<'a> Bites<'a> {
    pub(super) fn new(ledger: &'a Ledger) -> Self {
        Self { ledger, written: 0 }
    }

    /// When something begins.
    pub(super) fn begin(&self) -> u64 {
        self.ledger.now_ms()
    }

    pub(super) fn end(
        &mut self,
        start_ms: u64,
        kind: &str,
        target: &str,
        evidence: Evidence,
        mails_in_hand: u64,
    ) -> Result<()> {
        self.written += 1;
        self.ledger.write_fault(&Fault {
            id: self.written,
            kind: kind.to_owned(),
            target: target.to_owned(),
            start_ms,
            end_ms: self.ledger.now_ms(),
            evidence,
            mails_in_hand,
            mails_refused: 0,
            poisons: Vec::new(),
        })
    }
}

/// Some commits fail, for no reason that the service could know.
pub(super) const REFUSE: &str =
    "if random() < 0.3 then perform nextval('drill_bites'); raise exception 'a drill refuses this commit'; end if;";
/// Some take their time: what they have drawn and locked stays so meanwhile.
pub(super) const DELAY: &str = "if random() < 0.4 then perform nextval('drill_bites'); perform pg_sleep(0.6); end if;";

/// Where in a transaction something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Within COMMIT: what was committed is, whoever is gone by then.
    Commit,
    /// There, and also where something is written: who is gone by then has committed nothing.
    WritingAndCommit,
}

/// Has something happen to those who write what sagas write: a deferred trigger runs within COMMIT, another one at once.
pub(super) async fn hinder(stack: &Stack, what: &str, moment: Moment) -> Result<()> {
    let writing = match moment {
        Moment::Commit => "when (false)",
        Moment::WritingAndCommit => "",
    };
    for (service, table) in WRITTEN {
        let script = format!(
            "create sequence drill_bites;
             create function drill() returns trigger language plpgsql security definer set search_path = public as
                 $$ begin {what} return null; end $$;
             create constraint trigger drill after insert or update on {table}
                 deferrable initially deferred for each row execute function drill();
             create trigger drill_writing after insert or update on {table}
                 for each row {writing} execute function drill();"
        );
        stack.run_sql(service, &script).await?;
    }
    Ok(())
}

/// Ends that; how often it happened.
pub(super) async fn let_go(stack: &Stack) -> Result<Evidence> {
    let mut count = 0;
    for (service, table) in WRITTEN {
        let script = format!(
            "drop trigger drill on {table}; drop trigger drill_writing on {table}; drop function drill();
             select case when is_called then last_value else 0 end from drill_bites; drop sequence drill_bites;"
        );
        count += stack.run_sql(service, &script).await?.trim().parse::<u64>().context("a number of commits")?;
    }
    Ok(Evidence { count, text: format!("{count} commits") })
}

/// From the broker's or the mail server's yes to its record there is time: the rows of what was done are not locked yet, and still there.
pub(super) async fn slow_records(stack: &Stack) -> Result<()> {
    for service in SERVICES {
        let script = "create function drill() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(0.4); return null; end $$;
             create trigger drill before delete on messaging.outbox for each statement execute function drill();
             create trigger drill before delete on messaging.job for each statement execute function drill();";
        stack.run_sql(service.name, script).await?;
    }
    Ok(())
}

/// Every connection to the broker is closed by the broker.
pub(super) async fn close_connections(stack: &Stack) -> Result<Evidence> {
    let count = witness::close_connections(stack, None).await?;
    Ok(Evidence { count, text: format!("{count} connections closed by the broker") })
}

/// Kills services, and starts them again. The leases of their relays end with them: they would only be waited for.
pub(super) async fn kill(stack: &mut Stack, services: &[&str]) -> Result<Evidence> {
    for service in services {
        stack.kill_service(service).await?;
        let over =
            "update messaging.relay_lane set holder = null, expires_at = '-infinity'; delete from messaging.relay;";
        stack.run_sql(service, over).await?;
    }
    for service in services {
        stack.start_service(service).await?;
    }
    stack.wait_until_ready().await?;
    Ok(Evidence { count: services.len() as u64, text: format!("{} ended", services.join(", ")) })
}

/// The broker takes what is sent to it and says nothing; then it dies with it.
pub(super) async fn silence_and_kill_broker(stack: &mut Stack, silence: Duration) -> Result<Evidence> {
    let broker = stack.state.rabbitmq.clone().context("the broker is not this stack's own")?;
    broker.signal(Signal::STOP)?;
    sleep(silence).await;
    let stopped = broker.is_stopped();
    broker.kill().await?;
    let gone = !broker.is_running();
    // Its ports may be taken for a moment more.
    let mut tries = 0;
    while let Err(error) = stack.start_rabbitmq().await {
        tries += 1;
        ensure!(tries < 5, "the broker does not start again: {error:#}");
        sleep(Duration::from_secs(1)).await;
    }
    stack.wait_until_ready().await?;
    let text = format!("the broker's process {} stood still and ended", broker.pid());
    Ok(Evidence { count: (stopped && gone).into(), text })
}

/// The mail server stands still: until there is a letter about an order to be brought to it, and so long from then on.
pub(super) async fn silence_mailbox(stack: &Stack, silence: Duration) -> Result<Evidence> {
    let (mailbox, _) = stack.state.backend.clone().context("the mailbox is not this stack's own")?;
    mailbox.signal(Signal::STOP)?;
    let letters = "select count(*) from notifications where template <> 'verify_email';";
    for _ in 0..100 {
        if stack.run_sql("notifications", letters).await?.trim() != "0" {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sleep(silence).await;
    let stopped = mailbox.is_stopped();
    mailbox.signal(Signal::CONT)?;
    Ok(Evidence { count: stopped.into(), text: format!("the mailbox's process {} stood still", mailbox.pid()) })
}

/// Puts a message into the queue of inventory that cannot be read.
pub(super) async fn poison(stack: &Stack) -> Result<()> {
    let properties = json!({ "message_id": POISON });
    stack.engines.rabbitmq.publish("inventory", &properties, "this is no event").await
}

/// Takes away the binding for placed orders: published, they come back. The queue that hears everything would have them, so that nothing
/// came back; it hears everything else meanwhile.
pub(super) async fn unbind(stack: &Stack) -> Result<()> {
    let vhost = encode(&stack.engines.rabbitmq.vhost);
    for key in ALL_ELSE {
        let path = format!("bindings/{vhost}/e/events/q/{TAP}");
        witness::ask(&stack.engines.rabbitmq, Method::POST, &path, Some(&json!({ "routing_key": key }))).await?;
    }
    let bindings = stack.engines.rabbitmq.get(&format!("bindings/{vhost}")).await?;
    for (queue, key) in [(TAP, "#"), LOST] {
        let mut all = bindings.as_array().into_iter().flatten();
        let found = all.find(|binding| binding["destination"] == queue && binding["routing_key"] == key);
        let properties =
            found.and_then(|binding| binding["properties_key"].as_str()).context("there is no such binding")?;
        let path = format!("bindings/{vhost}/e/events/q/{queue}/{}", encode(properties));
        witness::ask(&stack.engines.rabbitmq, Method::DELETE, &path, None).await?;
    }
    Ok(())
}

/// Brings the binding back, for both queues at once: one of them alone would have what the other misses.
pub(super) async fn bind_again(stack: &Stack) -> Result<Evidence> {
    let held = stack.run_sql("orders", "select count(*) from messaging.outbox_hold;").await?;
    let binding = |(queue, key): (&str, &str)| json!({ "source": "events", "destination": queue, "destination_type": "queue", "routing_key": key, "arguments": {} });
    let definitions = json!({ "bindings": [binding(LOST), binding((TAP, "#"))] });
    let path = format!("definitions/{}", encode(&stack.engines.rabbitmq.vhost));
    witness::ask(&stack.engines.rabbitmq, Method::POST, &path, Some(&definitions)).await?;
    let held: u64 = held.trim().parse().context("a number of keys")?;
    Ok(Evidence { count: held, text: format!("{held} orders were held for want of it") })
}
