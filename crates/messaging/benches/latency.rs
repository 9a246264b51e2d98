//! How long a committed event takes to its committed effect when nothing else goes on, beside the bare path on the same engines: publish, confirm,
//! deliver, commit, with nothing kept in between. Run it with `cargo dev bench`, or `cargo bench -p messaging` with the variables of the test kit.
//!
//! The two are measured in turn, so that the machine's moods meet both; what counts is the ratio.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program that measures and prints")]

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
};
use messaging::{
    Audience, Consumer, Event, Handler, HandlerError, OutboxTransaction, Relay,
    topology::{Feed, Service, Subscription},
};
use sqlx::PgPool;
use testkit::Stage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ROUNDS: u32 = 200;
/// Between two events, so that each finds the system idle.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, prost::Message)]
struct Tick {
    #[prost(string, tag = "1")]
    id: String,
}

impl Event for Tick {
    const TYPE: &'static str = "bench.v1.Tick";
    const AUDIENCE: Audience = Audience::Required;
    const SENSITIVE: bool = false;
    fn key(&self) -> &str {
        &self.id
    }
}

struct Effect;

impl Handler<Tick> for Effect {
    async fn handle(&self, event: Tick, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        sqlx::query("insert into effect (id) values ($1)").bind(&event.id).execute(&mut **tx).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` runs benches too, without this argument; measuring is not testing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let service = Service {
        name: "bench".into(),
        subscriptions: vec![Subscription {
            consumer: "bench".into(),
            feed: Feed::Events,
            types: [Tick::TYPE.to_owned()].into(),
            ordered: true,
            partitions: 1,
        }],
    };
    let stage = Stage::new("bench", &[service]).await;
    // The commit of the effect is observed by the database itself, in the same way on both paths.
    stage.execute("create table effect (id text primary key, at timestamptz not null default clock_timestamp())").await;
    let stop = CancellationToken::new();
    let relay = Relay::new(&stage.outbox, &stage.broker);
    let consumer = Consumer::new("bench", &stage.broker, &stage.outbox).on(Effect);
    let bare = Bare::start(&stage).await;

    let measuring = async {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            ours.push(through_the_outbox(&stage, round).await);
            tokio::time::sleep(PAUSE).await;
            theirs.push(bare.round(&stage.database.pool, round).await);
            tokio::time::sleep(PAUSE).await;
        }
        stop.cancel();
        // The first rounds warm caches and plans.
        report(&mut ours[20..].to_vec(), &mut theirs[20..].to_vec());
    };
    let (relayed, consumed, ()) = tokio::join!(relay.run(stop.clone()), consumer.run(stop.clone()), measuring);
    relayed.expect("the relay ran");
    consumed.expect("the consumer ran");
}

/// From just before the commit of the event to the moment when its effect can be seen.
async fn through_the_outbox(stage: &Stage, round: u32) -> Duration {
    let id = format!("ours-{round}");
    let mut tx = stage.outbox.begin().await.expect("a transaction");
    tx.publish(&Tick { id: id.clone() }).expect("a small event");
    let started = Instant::now();
    tx.commit().await.expect("a commit");
    seen(&stage.database.pool, &id).await;
    started.elapsed()
}

async fn seen(pool: &PgPool, id: &str) {
    while sqlx::query("select from effect where id = $1").bind(id).fetch_optional(pool).await.expect("a look").is_none()
    {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// The least that any such path must do: a confirmed publish to a quorum queue, a delivery, one insert, one commit.
struct Bare {
    channel: Channel,
    done: tokio::sync::Mutex<mpsc::Receiver<()>>,
    _connections: [Connection; 2],
}

impl Bare {
    async fn start(stage: &Stage) -> Self {
        let connect = || Connection::connect(&stage.vhost.amqp_url, ConnectionProperties::default());
        let (publishing, consuming) = (connect().await.expect("a connection"), connect().await.expect("a connection"));
        let channel = publishing.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirm mode");
        let mut quorum = lapin::types::FieldTable::default();
        quorum.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("bare".into(), durable, quorum).await.expect("a queue");
        let receiving = consuming.create_channel().await.expect("a channel");
        let mut deliveries = receiving
            .basic_consume("bare".into(), "".into(), BasicConsumeOptions::default(), Default::default())
            .await
            .expect("a consumer");
        let (sender, done) = mpsc::channel(1);
        let pool = stage.database.pool.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the connection")]
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = deliveries.next().await {
                let id = String::from_utf8_lossy(&delivery.data).into_owned();
                sqlx::query("insert into effect (id) values ($1)").bind(&id).execute(&pool).await.expect("an insert");
                delivery.ack(BasicAckOptions::default()).await.expect("an ack");
                if sender.send(()).await.is_err() {
                    break;
                }
            }
        });
        Self { channel, done: tokio::sync::Mutex::new(done), _connections: [publishing, consuming] }
    }

    async fn round(&self, pool: &PgPool, round: u32) -> Duration {
        let id = format!("bare-{round}");
        let started = Instant::now();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = self.channel.basic_publish("".into(), "bare".into(), options, id.as_bytes(), properties);
        confirm.await.expect("a publish").await.expect("a confirm");
        seen(pool, &id).await;
        let elapsed = started.elapsed();
        self.done.lock().await.recv().await.expect("the consumer runs");
        elapsed
    }
}

fn report(ours: &mut [Duration], theirs: &mut [Duration]) {
    ours.sort_unstable();
    theirs.sort_unstable();
    println!("commit → effect, idle, {} rounds each, in turn", ours.len());
    println!("{:>6} {:>12} {:>12} {:>7}", "", "outbox", "bare", "ratio");
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let at = |sorted: &[Duration]| sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("{name:>6} {:>9.2} ms {:>9.2} ms {:>6.2}×", at(ours), at(theirs), at(ours) / at(theirs));
    }
}
