//! What a service needs of the broker, told without asking one.

use messaging::{Broker, BrokerOptions, Collector, Consumer, Outbox, topology::Service};

/// What the handlers of a service need of the broker. Neither broker nor database is asked: the consumer that `consumer` puts
/// together is never run. Needs a tokio runtime.
///
/// # Errors
/// Only if the placeholder for the database cannot be made.
pub async fn topology(
    service: &'static str,
    consumer: impl FnOnce(&Broker, &Outbox) -> Consumer,
) -> anyhow::Result<Service> {
    let nowhere = messaging::pool::connect_lazy("postgres://127.0.0.1:1/none", service, 1)?;
    let broker = Broker::connect(BrokerOptions::new("amqp://127.0.0.1:1", service)?);
    let needed = consumer(&broker, &Outbox::new(nowhere, service)).service();
    broker.close().await;
    Ok(needed)
}

/// All that a service needs: the right to publish, and what its consumers and collectors subscribe to.
pub(crate) fn needed(service: &'static str, consumers: &[Consumer], collectors: &[Collector]) -> Service {
    let subscriptions = consumers.iter().map(Consumer::subscription);
    let subscriptions = subscriptions.chain(collectors.iter().map(Collector::subscription)).collect();
    Service { name: service.to_owned(), subscriptions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_consumers_subscription_is_told_without_a_broker() {
        let told = topology("parcels", |broker, outbox| Consumer::new("parcels", broker, outbox)).await.unwrap();
        assert_eq!((told.name.as_str(), told.subscriptions.len()), ("parcels", 1));
    }
}
