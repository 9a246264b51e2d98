//! What a service needs of the broker, told without asking one.

use messaging::{
    Broker, BrokerOptions, Collector, Consumer, Outbox,
    topology::{Management, Service},
};

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
    let broker = Broker::connect(BrokerOptions::new("amqp://127.0.0.1:1", service));
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

/// Where the management API is asked about the virtual host of `amqp_url`.
pub(crate) fn management(url: &str, amqp_url: &str) -> Management {
    Management { url: url.to_owned(), vhost: vhost(amqp_url) }
}

/// The virtual host that an AMQP URL names; `/` if none.
fn vhost(amqp_url: &str) -> String {
    let url = url::Url::parse(amqp_url);
    let path = url.as_ref().map_or("", |url| url.path().trim_start_matches('/'));
    if path.is_empty() {
        "/".into()
    } else {
        percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_virtual_host_is_what_the_url_says() {
        for (url, expected) in [
            ("amqp://u:p@mq", "/"),
            ("amqp://u:p@mq/", "/"),
            ("amqp://u:p@mq/%2f", "/"),
            ("amqp://u:p@mq/shop", "shop"),
            ("amqp://u:p@mq/a%20b?heartbeat=10", "a b"),
        ] {
            assert_eq!(vhost(url), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn a_consumers_subscription_is_told_without_a_broker() {
        let told = topology("parcels", |broker, outbox| Consumer::new("parcels", broker, outbox)).await.unwrap();
        assert_eq!((told.name.as_str(), told.subscriptions.len()), ("parcels", 1));
    }
}
