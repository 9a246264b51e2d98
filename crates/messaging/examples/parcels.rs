//! The smallest whole program: a depot that announces parcels and, elsewhere, a board that shows them. One process plays both.
//!
//! Needs a database and a broker of which it may do what it likes:
//! `DATABASE_URL=postgres://… AMQP_URL=amqp://… RABBITMQ_MANAGEMENT_URL=http://… cargo run -p messaging --example parcels`
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program for people to read and run"
)]

use std::time::Duration;

use messaging::{
    Audience, Broker, BrokerOptions, Consumer, Event, Handler, HandlerError, Outbox, OutboxTransaction, Relay,
    topology::{self, User},
};
use tokio_util::sync::CancellationToken;

#[derive(Clone, PartialEq, prost::Message)]
struct ParcelArrived {
    #[prost(string, tag = "1")]
    parcel_id: String,
    #[prost(string, tag = "2")]
    place: String,
}

impl Event for ParcelArrived {
    const TYPE: &'static str = "depot.v1.ParcelArrived";
    const AUDIENCE: Audience = Audience::Required;
    const SENSITIVE: bool = false;
    fn key(&self) -> &str {
        &self.parcel_id
    }
}

/// Shows where each parcel was last seen.
struct UpdateBoard;

impl Handler<ParcelArrived> for UpdateBoard {
    async fn handle(&self, event: ParcelArrived, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        sqlx::query("insert into board values ($1, $2) on conflict (parcel_id) do update set place = excluded.place")
            .bind(&event.parcel_id)
            .bind(&event.place)
            .execute(&mut **tx)
            .await?;
        println!("{} is in {}", event.parcel_id, event.place);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [database, amqp, management] =
        ["DATABASE_URL", "AMQP_URL", "RABBITMQ_MANAGEMENT_URL"].map(|name| std::env::var(name).expect(name));
    let outbox = Outbox::new(messaging::pool::connect_lazy(&database, "depot", 8)?, "depot");
    outbox.migrate().await?;
    sqlx::raw_sql("create table if not exists board (parcel_id text primary key, place text not null)")
        .execute(outbox.pool())
        .await?;

    let broker = Broker::connect(BrokerOptions::new(amqp, "depot")?);
    let consumer = Consumer::new("depot", &broker, &outbox).on(UpdateBoard);
    import_topology(&consumer, &management).await?;

    let stop = CancellationToken::new();
    let relay = Relay::new(&outbox, &broker);
    let publish_and_stop = async {
        for place in ["Hamburg", "Kassel", "Munich"] {
            let mut tx = outbox.begin().await?;
            tx.publish(&ParcelArrived { parcel_id: "p-1".into(), place: place.into() })?;
            tx.commit().await?;
        }
        while sqlx::query_scalar::<_, i64>("select count(*) from board where place = 'Munich'")
            .fetch_one(outbox.pool())
            .await?
            == 0
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.cancel();
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let (relayed, consumed, published) =
        tokio::join!(relay.run(stop.clone()), consumer.run(stop.clone()), publish_and_stop);
    published?;
    relayed?;
    consumed?;
    broker.close().await;
    Ok(())
}

/// What a deployment does once, before anything runs.
async fn import_topology(consumer: &Consumer, management: &str) -> Result<(), Box<dyn std::error::Error>> {
    let service = consumer.service();
    let definitions = topology::definitions("/", &[User { service: &service, password: "example" }]);
    let imported =
        reqwest::Client::new().post(format!("{management}/api/definitions")).json(&definitions).send().await?;
    imported.error_for_status()?;
    Ok(())
}
