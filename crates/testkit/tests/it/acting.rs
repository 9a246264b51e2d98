//! Services that are played by a test hear each other through a real broker.

use futures_util::StreamExt as _;
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicConsumeOptions};
use messaging::{Audience, Event};
use testkit::{Actor, Vhost};

#[derive(Clone, PartialEq, prost::Message)]
struct ParcelSent {
    #[prost(string, tag = "1")]
    parcel_id: String,
    #[prost(int64, tag = "2")]
    step: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ParcelLost {
    #[prost(string, tag = "1")]
    parcel_id: String,
}

macro_rules! event {
    ($event:ty, $name:literal) => {
        impl Event for $event {
            const TYPE: &'static str = $name;
            const AUDIENCE: Audience = Audience::Required;
            const SENSITIVE: bool = false;
            fn key(&self) -> &str {
                &self.parcel_id
            }
        }
    };
}
event!(ParcelSent, "depot.v1.ParcelSent");
event!(ParcelLost, "depot.v1.ParcelLost");

fn sent(parcel_id: &str, step: i64) -> ParcelSent {
    ParcelSent { parcel_id: parcel_id.into(), step }
}

#[tokio::test]
async fn actors_hear_several_types_in_order_and_each_event_once() {
    let (depot, shop) = (Actor::new("depot"), Actor::new("shop").hears::<ParcelSent>().hears::<ParcelLost>());
    let vhost = Vhost::create(&[depot.service(), shop.service()]).await;
    let (depot, shop) = (depot.enter(&vhost).await, shop.enter(&vhost).await);

    let first = depot.publish(&sent("p-1", 1)).await;
    depot.publish(&sent("p-1", 2)).await;
    depot.publish(&ParcelLost { parcel_id: "p-1".into() }).await;
    assert_eq!(shop.wait_for::<ParcelLost>(1).await.len(), 1);
    assert_eq!(shop.heard::<ParcelSent>(), [sent("p-1", 1), sent("p-1", 2)]);

    assert_eq!(depot.repeat::<ParcelSent>().await, 2);
    assert_eq!(depot.repeat::<ParcelSent>().await, 2, "what was repeated is not doubled");
    depot.publish(&sent("p-1", 3)).await;
    assert_eq!(shop.wait_for::<ParcelSent>(3).await.len(), 3);
    let log = shop.log();
    assert_eq!(log.len(), 4, "{log:?}");
    assert_eq!((log[0].event_type, &*log[0].key, log[0].message_id), (ParcelSent::TYPE, "p-1", first));
    depot.close().await;
    shop.close().await;
}

#[tokio::test]
async fn what_is_repeated_reaches_the_broker_with_the_same_id() {
    let (depot, shop) = (Actor::new("depot"), Actor::new("shop").hears::<ParcelSent>());
    let vhost = Vhost::create(&[depot.service(), shop.service()]).await;
    let depot = depot.enter(&vhost).await;
    let message_id = depot.publish(&sent("p-1", 1)).await;
    depot.repeat::<ParcelSent>().await;

    let connection = Connection::connect(&vhost.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let deliveries = channel.basic_consume("shop".into(), "test".into(), options, Default::default()).await.unwrap();
    let deliveries: Vec<_> = deliveries.take(2).collect().await;
    let id = |properties: &BasicProperties| properties.message_id().as_ref().unwrap().as_str().to_owned();
    let ids: Vec<_> = deliveries.iter().map(|delivery| id(&delivery.as_ref().unwrap().properties)).collect();
    assert_eq!(ids, [message_id.to_string(), message_id.to_string()]);
    depot.close().await;
}
