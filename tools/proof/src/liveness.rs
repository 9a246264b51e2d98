//! Rest: when nothing is done to it any more, the shop comes to rest, in time, and nothing is left half-way.

use std::collections::BTreeSet;

use crate::{
    index::{Index, services},
    verdict::{Finding, Look},
};

/// It came to rest in time, and nothing is under way.
pub(crate) fn drained(index: &Index<'_>) -> Finding {
    let mut look = Look::new("drained", "after the last heal all queues, outboxes and jobs are empty within the bound");
    let end = &index.run.end;
    look.expect(end.stuck.is_none(), &[], || format!("stuck: {}", end.stuck.as_deref().unwrap_or_default()));
    look.expect(end.drained_after_ms <= end.bound_ms, &[], || {
        format!("at rest after {} ms, the bound is {} ms", end.drained_after_ms, end.bound_ms)
    });
    for queue in &index.run.queues {
        look.expect(queue.messages == 0, &[&queue.name], || {
            format!("{} messages are left in the queue", queue.messages)
        });
    }
    let listed: BTreeSet<&str> = index.run.queues.iter().map(|queue| queue.name.as_str()).collect();
    for binding in &index.run.bindings {
        look.expect(listed.contains(binding.consumer.as_str()), &[&binding.consumer], || {
            "its queue is gone".to_owned()
        });
    }
    for (service, of) in services(index.run) {
        for event in &of.outbox {
            look.expect(false, &[service, &event.message_id, &event.key], || {
                format!("{} was never published", event.kind)
            });
        }
        for job in &of.jobs {
            look.expect(false, &[service, &job.id], || format!("{} was never done", job.task));
        }
    }
    look.done()
}

/// Everything that has an end is at it.
pub(crate) fn settled(index: &Index<'_>) -> Finding {
    let mut look = Look::new("settled", "every order, reservation, payment and letter is at its end");
    for order in &index.run.orders {
        let over = matches!(order.state.as_str(), "confirmed" | "cancelled");
        look.expect(over, &[&order.id], || format!("the order is still {:?}", order.state));
    }
    for row in &index.run.reservations {
        look.expect(row.state != "held", &[&row.order_id], || "its goods are still held".to_owned());
    }
    for row in &index.run.payments {
        let waiting = matches!(row.state.as_str(), "pending" | "giving_up" | "cancelling" | "refunding");
        look.expect(!waiting, &[&row.id, &row.order_id], || format!("the payment is still {:?}", row.state));
    }
    for row in &index.run.notifications {
        look.expect(row.state != "pending", &[&row.id], || format!("the letter {} is still pending", row.template));
    }
    look.done()
}
