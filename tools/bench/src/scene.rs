//! Where a scenario plays: a database and a virtual host of its own, with the tables of both sides, and the events.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use messaging::{
    Audience, Event, lane, pool,
    topology::{Feed, Service, Subscription},
};
use prost::Message as _;
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};
use testkit::Stage;
use tokio::time::Instant;
use uuid::Uuid;

/// The service, its queue and its consumer.
pub(crate) const SERVICE: &str = "bench";
/// What an event weighs, encoded.
const EVENT_BYTES: usize = 256;
/// Nothing here takes as long; a side that hangs shall say so.
const PATIENCE: Duration = Duration::from_secs(900);
/// How often it is looked whether a side is done.
const LOOK: Duration = Duration::from_millis(10);

/// What happens.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Happened {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(int64, tag = "2")]
    pub(crate) number: i64,
    #[prost(bytes, tag = "3")]
    padding: Vec<u8>,
}

impl Event for Happened {
    const TYPE: &'static str = "bench.v1.Happened";
    const AUDIENCE: Audience = Audience::Required;
    const SENSITIVE: bool = false;
    fn key(&self) -> &str {
        &self.key
    }
}

/// What is announced about it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Noted {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
}

impl Event for Noted {
    const TYPE: &'static str = "bench.v1.Noted";
    const AUDIENCE: Audience = Audience::Optional;
    const SENSITIVE: bool = false;
    fn key(&self) -> &str {
        &self.key
    }
}

impl Happened {
    pub(crate) fn new(key: String, number: i64) -> Self {
        let mut event = Self { key, number, padding: Vec::new() };
        event.padding = vec![7; EVENT_BYTES.saturating_sub(event.encoded_len() + 3)];
        event
    }
}

/// Both engines, with what both sides need.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    /// For what is looked at from outside.
    pub(crate) watch: PgPool,
}

impl Scene {
    pub(crate) async fn set() -> Result<Self> {
        let mut stage = Stage::new(SERVICE, &[service()]).await;
        stage.expect_leftovers();
        sqlx::raw_sql(include_str!("scene.sql")).execute(&stage.database.pool).await.context("the tables")?;
        let watch = PgPoolOptions::new().max_connections(4).connect(&stage.database.url).await?;
        Ok(Self { stage, watch })
    }

    /// A pool as a service of ours has one.
    pub(crate) fn pool(&self, connections: u32) -> Result<PgPool> {
        Ok(pool::connect_lazy(&self.stage.database.url, SERVICE, connections)?)
    }

    /// A pool without anything of ours, and without a question before each use.
    pub(crate) async fn plain_pool(&self, connections: u32) -> Result<PgPool> {
        let options = PgPoolOptions::new().min_connections(connections).max_connections(connections);
        Ok(options.test_before_acquire(false).connect(&self.stage.database.url).await?)
    }

    /// Everything is gone, and what that costs is paid before anything is measured.
    pub(crate) async fn clear(&self) -> Result<()> {
        sqlx::raw_sql("truncate messaging.outbox, messaging.outbox_hold, messaging.scheduled, messaging.journal, messaging.inbox,
                           messaging.consumer_head, messaging.stream_head, messaging.parked, messaging.in_hand,
                           thing, bare_outbox, bare_inbox, orders, order_lines, order_history, answers, deadlines cascade;
                       checkpoint")
            .execute(&self.watch)
            .await?;
        Ok(())
    }

    /// Waits until a query says so.
    pub(crate) async fn until(&self, what: &str, query: &'static str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !sqlx::query_scalar::<_, bool>(query).fetch_one(&self.watch).await? {
            anyhow::ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until the journal holds more than so many.
    pub(crate) async fn until_more(&self, than: i64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.count("select count(*) from messaging.journal").await? <= than {
            anyhow::ensure!(Instant::now() < deadline, "nothing was published within {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until nothing up to this position is pending.
    pub(crate) async fn until_gone(&self, last: i64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // Lane by lane, as the index is sorted.
        let query = "select exists (select from generate_series(0, 15) as lane
                                    where exists (select from messaging.outbox where outbox.lane = lane.lane and position <= $1))";
        while sqlx::query_scalar::<_, bool>(query).bind(last).fetch_one(&self.watch).await? {
            anyhow::ensure!(Instant::now() < deadline, "the backlog was not drained within {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The number that a query returns.
    pub(crate) async fn count(&self, query: &'static str) -> Result<i64> {
        Ok(sqlx::query_scalar(query).fetch_one(&self.watch).await?)
    }

    /// Has these events pending, in this order, all at one moment. Returns when that was.
    pub(crate) async fn pend(&self, events: &[(String, i64)]) -> Result<Instant> {
        let mut conn = PgConnection::connect(&self.stage.database.url).await?;
        let mut tx = conn.begin().await?;
        for part in events.chunks(10_000) {
            pend(&mut tx, part).await?;
        }
        // Sent with the commit; the relays of other processes hear of it in the same way.
        sqlx::query("select pg_notify('messaging_outbox', '65535')").execute(&mut *tx).await?;
        let now = Instant::now();
        tx.commit().await?;
        Ok(now)
    }
}

async fn pend(tx: &mut PgConnection, events: &[(String, i64)]) -> Result<()> {
    let column = |value: fn(&(String, i64)) -> i64| events.iter().map(value).collect::<Vec<_>>();
    let lanes: Vec<i16> = events.iter().map(|(key, _)| lane(key)).collect();
    let keys: Vec<&str> = events.iter().map(|(key, _)| key.as_str()).collect();
    let payloads: Vec<Vec<u8>> =
        events.iter().map(|(key, number)| Happened::new(key.clone(), *number).encode_to_vec()).collect();
    sqlx::query(
        "insert into messaging.outbox (lane, position, message_id, type, key, seq, payload, context, required, sensitive, deadline,
                                       occurred_at)
         select lane, nextval('messaging.outbox_position'), id, $1, key, seq, payload, '{}', true, false, false, now()
         from unnest($2::smallint[], $3::uuid[], $4::text[], $5::bigint[], $6::bytea[])
              with ordinality as input (lane, id, key, seq, payload, n)
         order by n",
    )
    .bind(Happened::TYPE)
    .bind(lanes)
    .bind(events.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(keys)
    .bind(column(|(_, number)| *number))
    .bind(payloads)
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes down what the engines are, for whoever reads the figures.
pub(crate) async fn describe_engines(folder: &Path) -> Result<()> {
    let scene = Scene::set().await?;
    let mut facts = BTreeMap::new();
    let version: String = sqlx::query_scalar("select version()").fetch_one(&scene.watch).await?;
    facts.insert("PostgreSQL", version);
    let settings: String = sqlx::query_scalar(
        "select string_agg(name || ' = ' || current_setting(name), ', ' order by name) from pg_settings
         where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'max_wal_size', 'wal_sync_method')",
    )
    .fetch_one(&scene.watch)
    .await?;
    facts.insert("PostgreSQL's settings", settings);
    let overview = scene.stage.vhost.get("overview").await;
    let of = |name: &str| overview[name].as_str().unwrap_or("?").to_owned();
    facts.insert(
        "RabbitMQ",
        format!("{}, Erlang {}; quorum queues, persistent messages", of("rabbitmq_version"), of("erlang_version")),
    );
    let path = folder.join("engines.json");
    fs::write(&path, serde_json::to_vec_pretty(&facts)?).with_context(|| format!("cannot write {}", path.display()))
}

/// So many events on so many keys, in no particular order of the keys; each with its number within its key, from 1.
pub(crate) fn events(count: usize, keys: u64) -> Vec<(String, i64)> {
    let mut numbers = std::collections::HashMap::new();
    (0..count as u64)
        .map(|n| {
            let key = scatter(n) % keys;
            let number: &mut i64 = numbers.entry(key).or_default();
            *number += 1;
            (format!("key-{key}"), *number)
        })
        .collect()
}

/// A number that looks like chance and is the same in each run (the finalizer of SplitMix64).
pub(crate) fn scatter(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn service() -> Service {
    Service {
        name: SERVICE.into(),
        subscriptions: vec![Subscription {
            consumer: SERVICE.into(),
            feed: Feed::Events,
            types: [Happened::TYPE.to_owned()].into(),
            ordered: true,
            partitions: 1,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_weigh_what_they_should_and_are_numbered_by_key() {
        assert_eq!(Happened::new("key-1".into(), 7).encoded_len(), EVENT_BYTES);
        let events = events(1_000, 10);
        for key in 0..10 {
            let numbers: Vec<_> = events.iter().filter(|(k, _)| *k == format!("key-{key}")).map(|(_, n)| *n).collect();
            assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
        }
    }
}
