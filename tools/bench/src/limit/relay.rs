//! The least relay: read some, publish them without waiting for each, wait for all confirms, delete. One of its kind, no leases; it keeps no
//! order of a key when the broker refuses something, and nobody could replay what it has sent.

use anyhow::{Result, ensure};
use lapin::{Channel, options::BasicPublishOptions};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    queue,
    scene::{SERVICE, Scene},
};

/// More at once did not make it quicker.
const BATCH: usize = 1_000;
/// A queue of the limits' own.
pub(crate) const QUEUE: &str = "bare";

/// Where messages go.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    exchange: &'static str,
    routing_key: &'static str,
    pub(crate) queue: &'static str,
}

/// Where those of the service go: through the same exchange into the same queue with the same policy, as the same user.
pub(crate) const SAME: Target = Target { exchange: "events", routing_key: "bench.v1.Happened.0", queue: SERVICE };
/// Past every exchange into a queue without a policy, as administrator: the least that the broker can do.
pub(crate) const BARE: Target = Target { exchange: "", routing_key: QUEUE, queue: QUEUE };

impl Target {
    fn url(self, scene: &Scene) -> String {
        if self.queue == SERVICE { scene.stage.vhost.url_for(SERVICE) } else { scene.stage.vhost.amqp_url.clone() }
    }
}

/// A message on its way out.
struct Row {
    id: String,
    key: String,
    seq: i64,
    payload: Vec<u8>,
}

/// Has the same events pending and brings all of them to the broker. Events per second.
pub(crate) async fn drain(scene: &Scene, events: &[(String, i64)]) -> Result<f64> {
    let url = &scene.stage.database.url;
    let (mut conn, mut other) = (PgConnection::connect(url).await?, PgConnection::connect(url).await?);
    let connection = queue::connect(&SAME.url(scene)).await?;
    let channel = queue::confirming(&connection).await?;
    pend(&mut other, events).await?;
    let begin = Instant::now();
    loop {
        let rows =
            sqlx::query("select position, message_id, key, seq, payload from bare_outbox order by position limit $1")
                .bind(i64::try_from(BATCH)?)
                .fetch_all(&mut conn)
                .await?;
        if rows.is_empty() {
            break;
        }
        let mut positions: Vec<i64> = Vec::with_capacity(rows.len());
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            positions.push(row.try_get(0)?);
            let id: Uuid = row.try_get(1)?;
            messages.push(Row {
                id: id.to_string(),
                key: row.try_get(2)?,
                seq: row.try_get(3)?,
                payload: row.try_get(4)?,
            });
        }
        publish(&channel, SAME, &messages).await?;
        sqlx::query("delete from bare_outbox where position = any($1)").bind(&positions).execute(&mut conn).await?;
    }
    let rate = events.len() as f64 / begin.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await?;
    Ok(rate)
}

/// Publishes as many without any database. Events per second.
pub(crate) async fn publish_alone(scene: &Scene, target: Target, events: &[(String, i64)]) -> Result<f64> {
    let connection = queue::connect(&target.url(scene)).await?;
    let channel = queue::confirming(&connection).await?;
    if target.queue == QUEUE {
        queue::declare(&channel, QUEUE).await?;
    }
    let row = |(key, seq): &(String, i64)| Row {
        id: Uuid::now_v7().to_string(),
        key: key.clone(),
        seq: *seq,
        payload: vec![7; 256],
    };
    let messages: Vec<_> = events.iter().map(row).collect();
    let begin = Instant::now();
    for batch in messages.chunks(BATCH) {
        publish(&channel, target, batch).await?;
    }
    let rate = events.len() as f64 / begin.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await?;
    Ok(rate)
}

async fn publish(channel: &Channel, target: Target, messages: &[Row]) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut confirms = Vec::with_capacity(messages.len());
    for Row { id, key, seq, payload } in messages {
        let properties = queue::properties(id, key, *seq);
        confirms.push(
            channel
                .basic_publish(target.exchange.into(), target.routing_key.into(), options, payload, properties)
                .await?,
        );
    }
    for confirm in confirms {
        ensure!(confirm.await?.is_ack(), "the broker refused a message");
    }
    Ok(())
}

async fn pend(conn: &mut PgConnection, events: &[(String, i64)]) -> Result<()> {
    let mut tx = conn.begin().await?;
    for part in events.chunks(10_000) {
        sqlx::query(
            "insert into bare_outbox (message_id, key, seq, payload)
             select id, key, seq, $4 from unnest($1::uuid[], $2::text[], $3::bigint[]) with ordinality as input (id, key, seq, n) order by n",
        )
        .bind(part.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind(part.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
        .bind(part.iter().map(|(_, seq)| *seq).collect::<Vec<_>>())
        .bind(vec![7_u8; 256])
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}
