//! Waits until the shop has come to rest: nothing pending, nothing queued, everything that has an end at it. What is still under way when
//! the time is over is written down, with its rows.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{ledger::Ledger, witness};
use crate::{
    console::{self, Step},
    services::SERVICES,
    stack::Stack,
};

const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is under way in any service, as rows of text.
const MESSAGES: &str = "
    select 'outbox ' || type || ' ' || key || ' ' || message_id from messaging.outbox
    union all select 'job ' || task || ' ' || id || ' ' || coalesce(last_error, '') from messaging.job
    union all select 'parked ' || type || ' ' || key || ' ' || coalesce(reason, '') from messaging.parked where state = 'waiting'";

/// The same for what only one service has.
fn of_the_service(service: &str) -> &'static str {
    match service {
        "orders" => {
            " union all select 'order ' || id || ' ' || state from orders where state not in ('confirmed', 'cancelled')"
        }
        "inventory" => {
            " union all select 'reservation ' || order_id || ' ' || state from reservations where state = 'held'"
        }
        "payments" => {
            " union all select 'payment ' || id || ' ' || state from payments
              where state in ('pending', 'giving_up', 'cancelling', 'refunding')"
        }
        "notifications" => {
            " union all select 'letter ' || id || ' ' || template from notifications where state = 'pending'"
        }
        _ => "",
    }
}

/// How it came to rest.
pub(super) struct Rest {
    pub(super) after_ms: u64,
    pub(super) stuck: Option<String>,
}

/// How long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// In all.
    pub(super) whole: Duration,
    /// With nothing new: longer than anything waits that goes on by itself.
    pub(super) still: Duration,
}

/// Waits for it, and not for ever.
pub(super) async fn comes_to_rest(stack: &Stack, ledger: &Ledger, bound: Bound) -> Result<Rest> {
    let began_ms = ledger.now_ms();
    let mut step = Step::start("rest", "waiting until nothing is under way");
    let mut last = (Vec::new(), 0);
    loop {
        let left = under_way(stack).await?;
        let after_ms = ledger.now_ms() - began_ms;
        if left.is_empty() {
            step.done("nothing is under way any more");
            return Ok(Rest { after_ms, stuck: None });
        }
        if left != last.0 {
            last = (left.clone(), after_ms);
        }
        let is_over = |bound: Duration, ms: u64| u128::from(ms) > bound.as_millis();
        if is_over(bound.whole, after_ms) || is_over(bound.still, after_ms - last.1) {
            step.failed(format_args!("{} things are still under way", left.len()));
            left.iter().take(20).for_each(|what| console::row("", what));
            return Ok(Rest { after_ms, stuck: Some(left.join("; ")) });
        }
        step.note(&format!("{} things are under way, such as {}", left.len(), left.first().map_or("", String::as_str)));
        sleep(LOOK_AGAIN).await;
    }
}

/// Puts away the deadlines of what has ended, which would come due one by one while the witnesses are asked: what is published then is
/// in one answer and not in the next. Deadlines that came due before have done whatever they do.
pub(super) async fn put_deadlines_away(stack: &Stack) -> Result<()> {
    for service in SERVICES {
        stack.run_sql(service.name, "update messaging.scheduled set due_at = due_at + interval '1 day';").await?;
    }
    Ok(())
}

async fn under_way(stack: &Stack) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for service in SERVICES {
        let rows = stack.run_sql(service.name, &format!("{MESSAGES}{};", of_the_service(service.name))).await?;
        left.extend(rows.lines().filter(|row| !row.is_empty()).map(|row| format!("{}: {row}", service.name)));
    }
    for queue in witness::queues(stack).await?.into_iter().filter(|queue| queue.messages > 0) {
        left.push(format!("queue {}: {} messages", queue.name, queue.messages));
    }
    Ok(left)
}
