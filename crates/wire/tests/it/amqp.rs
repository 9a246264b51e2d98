//! lapin and RabbitMQ.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, PublisherConfirm,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use testkit::{Vhost, eventually};
use tokio::{task::JoinSet, time::timeout};
use wire::{Aim, Fault, Proxy, Role};

const QUEUE: &str = "parcels";
/// What must come comes within this.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    vhost: Vhost,
    proxy: Proxy,
    url: String,
}

async fn stage() -> Stage {
    let vhost = Vhost::create(&[]).await;
    let engine = vhost.amqp_url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).unwrap().0.to_owned();
    let proxy = Proxy::amqp(&engine).await.unwrap();
    let url = crate::through(&vhost.amqp_url, |_| proxy.address().to_string());
    let stage = Stage { vhost, proxy, url };
    stage
        .past()
        .await
        .queue_declare(QUEUE.into(), QueueDeclareOptions::default(), FieldTable::default())
        .await
        .unwrap();
    stage
}

impl Stage {
    /// A channel of a connection through the proxy.
    async fn channel(&self) -> Channel {
        channel(&self.url).await
    }

    /// A channel of one that goes past it.
    async fn past(&self) -> Channel {
        channel(&self.vhost.amqp_url).await
    }

    /// How many messages there are.
    async fn waiting(&self) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.past().await.queue_declare(QUEUE.into(), passive, FieldTable::default()).await.unwrap().message_count()
    }
}

async fn channel(url: &str) -> Channel {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

async fn publish(channel: &Channel, payload: &[u8]) -> lapin::Result<PublisherConfirm> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), QUEUE.into(), options, payload, properties).await
}

async fn consume(channel: &Channel) -> Consumer {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> lapin::Result<Delivery> {
    timeout(PATIENCE, consumer.next()).await.expect("a delivery").expect("a consumer that goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_confirms_that_are_to_be_lost_are_lost_and_no_message() {
    let stage = stage().await;
    let channel = stage.channel().await;
    let lost = stage.proxy.inject(&Aim::everybody(), Fault::LoseConfirms { skip: 1, times: 1 });
    let first = publish(&channel, b"1").await.unwrap().await.unwrap();
    assert_eq!(first, Confirmation::Ack(None));
    let mut second = JoinSet::new();
    second.spawn(publish(&channel, b"2").await.unwrap());
    assert_eq!(lost.bites(PATIENCE).await, 1);
    assert_eq!(publish(&channel, b"3").await.unwrap().await.unwrap(), Confirmation::Ack(None));
    assert_eq!((second.try_join_next().is_none(), stage.waiting().await), (true, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_acknowledgement_is_lost_is_delivered_again() {
    let stage = stage().await;
    let channel = stage.channel().await;
    let mut consumer = consume(&channel).await;
    let lost = stage.proxy.inject(&Aim::everybody().that(Role::Consumes), Fault::LoseAck);
    publish(&stage.past().await, b"1").await.unwrap().await.unwrap();
    let delivery = next(&mut consumer).await.unwrap();
    // Whether it fails is a matter of who is faster.
    let _ = delivery.acker.ack(BasicAckOptions::default()).await;
    assert_eq!(lost.bites(PATIENCE).await, 1);

    let channel = stage.channel().await;
    let again = next(&mut consume(&channel).await).await.unwrap();
    assert!(again.redelivered && again.data == b"1");
    assert!(again.acker.ack(BasicAckOptions::default()).await.unwrap());
    drop(channel);
    eventually("nothing is left", async || stage.waiting().await == 0).await;
    assert_eq!(lost.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_late_is_late_with_all_behind_it() {
    let stage = stage().await;
    let channel = stage.channel().await;
    let mut consumer = consume(&channel).await;
    let late = stage.proxy.inject(&Aim::everybody(), Fault::DelayDelivery(Duration::from_millis(300)));
    let publisher = stage.past().await;
    for payload in [b"1", b"2", b"3"] {
        publish(&publisher, payload).await.unwrap().await.unwrap();
    }
    for expected in [b"1", b"2", b"3"] {
        assert_eq!(next(&mut consumer).await.unwrap().data, expected);
    }
    assert_eq!(late.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_passed_on_before_a_cut_is_in_the_queue() {
    let stage = stage().await;
    let channel = stage.channel().await;
    let cut = stage.proxy.inject(&Aim::everybody(), Fault::CutAfterPublishes(2));
    let mut confirms = Vec::new();
    for payload in [b"1", b"2"] {
        confirms.push(publish(&channel, payload).await.unwrap());
    }
    let mut confirmed = 0;
    for confirm in confirms {
        confirmed += u32::from(confirm.await.is_ok());
    }
    assert_eq!(cut.bites(PATIENCE).await, 1);
    // Of the second one nobody can have heard.
    assert!(confirmed < 2);
    eventually("both are there", async || stage.waiting().await == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fault_everything_passes_as_it_came() {
    let stage = stage().await;
    let channel = stage.channel().await;
    let mut consumer = consume(&stage.channel().await).await;
    let payload = |number: usize| vec![u8::try_from(number % 251).unwrap(); number * number * 17];
    for number in 0..120 {
        assert_eq!(publish(&channel, &payload(number)).await.unwrap().await.unwrap(), Confirmation::Ack(None));
    }
    for number in 0..120 {
        let delivery = next(&mut consumer).await.unwrap();
        assert!(delivery.data == payload(number), "message {number}");
        assert!(delivery.acker.ack(BasicAckOptions::default()).await.unwrap());
    }
}
