//! What a message costs when something has grown, beside what it costs when that is small: pending events, journal and inbox, keys, the queue.
//!
//! Small and large are two databases and virtual hosts on the same engines, measured in turn.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context as _, Result};
use measure::{Aim, Measurement, Side, in_turn};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Plan, checks, limit,
    load::{self, Business},
    ours,
    queue::{self, Reader, Seen},
    say,
    scene::{self, SERVICE, Scene},
};

/// What is measured of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    Commit,
    Relay,
    Consume,
}

/// What grows, from what to what, and what should not cost more because of it.
struct Growth {
    what: &'static str,
    small: i64,
    large: i64,
    costs: &'static [Cost],
}

const AIM: Aim = Aim::AtMost(1.2);
/// Messages of one measurement: enough that what a new connection costs PostgreSQL, a page fault for each page that it looks at first, does not count.
const MESSAGES: usize = 40_000;
const CALLERS: usize = 8;

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut growth =
        Measurement::new("growth", "what a message costs when things have grown, beside when they are small");
    let all = [
        Growth {
            what: "pending events",
            small: 1_000,
            large: plan.pick(1_000_000, 100_000),
            costs: &[Cost::Commit, Cost::Relay],
        },
        Growth {
            what: "rows of journal and inbox",
            small: 0,
            large: plan.pick(plan.rows, plan.rows.min(500_000)),
            costs: &[Cost::Relay, Cost::Consume],
        },
        Growth {
            what: "keys",
            small: 1_000,
            large: plan.pick(1_000_000, 100_000),
            costs: &[Cost::Commit, Cost::Relay, Cost::Consume],
        },
        Growth { what: "messages in the queue", small: 0, large: plan.pick(200_000, 20_000), costs: &[Cost::Relay] },
    ];
    for growing in all {
        grow(plan, &mut growth, &growing).await?;
    }
    Ok(growth)
}

async fn grow(plan: &Plan, growth: &mut Measurement, growing: &Growth) -> Result<()> {
    let Growth { what, small, large, costs } = *growing;
    let scenes = [Scene::set().await?, Scene::set().await?];
    for (scene, size) in scenes.iter().zip([small, large]) {
        let begin = Instant::now();
        seed(scene, what, size).await.with_context(|| format!("seeding {size} {what}"))?;
        for upkeep in ["vacuum analyze", "checkpoint"] {
            sqlx::raw_sql(upkeep).execute(&scene.watch).await?;
        }
        say(&format!("  {size} {what}: seeded in {:.0} s", begin.elapsed().as_secs_f64()));
    }
    for cost in costs {
        let mut run = async |side: usize| {
            let size = [small, large][side];
            spend(plan, &scenes[side], growing, *cost, size, growth).await
        };
        run(0).await?;
        let spent = in_turn(&[0, 1], plan.rounds(), run).await?;
        let (measured, limit) =
            (Side::new(&format!("{large} {what}"), &spent[1]), Side::new(&format!("{small}"), &spent[0]));
        let says = format!("{} per message, {what}", format!("{cost:?}").to_lowercase());
        let curve = |side: &Side, size: i64| (size as f64, side.median());
        growth.record(&says, "µs", what, vec![(what.to_owned(), vec![curve(&limit, small), curve(&measured, large)])]);
        growth.compare(&says, "µs", measured, limit, AIM);
    }
    Ok(())
}

/// What one message costs, in microseconds.
async fn spend(
    plan: &Plan,
    scene: &Scene,
    growing: &Growth,
    cost: Cost,
    size: i64,
    growth: &mut Measurement,
) -> Result<f64> {
    let keys = if growing.what == "keys" { u64::try_from(size)? } else { 2_000 };
    let events = scene::events(plan.pick(MESSAGES, MESSAGES / 2), keys);
    let side = format!("{size} {}", growing.what);
    match cost {
        Cost::Commit => commit(scene, plan, growth, &side, keys).await,
        Cost::Relay if growing.what == "pending events" => relay_some(scene, growth, &side, events.len()).await,
        Cost::Relay => {
            let relays = ours::relays(scene, 1).await?;
            let before = scene.count("select count(*) from messaging.outbox").await?;
            let rate = ours::drain(scene, &events).await?;
            relays.stop().await?;
            let before =
                if before == 0 { Vec::new() } else { vec![format!("{side}: {before} events were pending before")] };
            growth.check("nothing else is pending", 1, before);
            if growing.what == "messages in the queue" {
                // What was there before lies in front: the queue is filled again as it was.
                let seen =
                    queue::empty(&scene.stage.vhost.amqp_url, SERVICE, usize::try_from(size)? + events.len()).await?;
                let seen = seen.get(usize::try_from(size)?..).unwrap_or_default();
                checks::came_once(growth, &side, &events, seen);
                checks::came_in_order(growth, &side, seen);
                fill_queue(scene, size).await?;
            } else {
                let seen = queue::empty(&scene.stage.vhost.amqp_url, SERVICE, events.len()).await?;
                checks::came_once(growth, &side, &events, &seen);
                checks::came_in_order(growth, &side, &seen);
            }
            Ok(1e6 / rate)
        }
        Cost::Consume => {
            sqlx::query("truncate thing").execute(&scene.watch).await?;
            ours::fill(scene, &events).await?;
            let rate = ours::consume(scene, events.len()).await?;
            let effects = scene.count("select count(distinct (id, number)) from thing").await?;
            checks::equal(growth, "each event has its effect", &side, i64::try_from(events.len())?, effects);
            // What the effects announced shall not be what the next relay finds.
            sqlx::query("delete from messaging.outbox").execute(&scene.watch).await?;
            Ok(1e6 / rate)
        }
    }
}

async fn commit(scene: &Scene, plan: &Plan, growth: &mut Measurement, side: &str, keys: u64) -> Result<f64> {
    let outbox = ours::outbox(scene, u32::try_from(CALLERS)?)?;
    let before = scene.count("select count(*) from thing").await?;
    let run = Uuid::now_v7();
    let commit = move |key: String| {
        let outbox = std::sync::Arc::clone(&outbox);
        let number = key.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        async move { ours::commit(&outbox, Business::Row, &format!("key-{}", scene::scatter(number) % keys)).await }
    };
    let (committed, seconds) =
        load::callers(CALLERS, plan.pick(Duration::from_secs(5), Duration::from_secs(2)), commit).await?;
    let rows = scene.count("select count(*) from thing").await? - before;
    checks::equal(growth, "each commit is there once", side, i64::try_from(committed)?, rows);
    sqlx::query("delete from messaging.outbox where occurred_at > now() - make_interval(secs => $1) and type = 'bench.v1.Happened' and message_id >= $2")
        .bind(seconds + 5.0)
        .bind(run)
        .execute(&scene.watch)
        .await?;
    Ok(1e6 * seconds / committed as f64)
}

/// Some of what is pending, once it flows, as it comes out of the queue: how many microseconds each took. The rest is left, and what is gone is
/// replaced.
async fn relay_some(scene: &Scene, growth: &mut Measurement, side: &str, some: usize) -> Result<f64> {
    const FLOWS: usize = 1_000;
    let pending = scene.count("select count(*) from messaging.outbox").await?;
    if pending < i64::try_from(2 * some)? {
        return relay_often(scene, growth, side, pending, some).await;
    }
    let mut reader = Reader::open(&scene.stage.vhost.amqp_url, SERVICE).await?;
    let relays = ours::relays(scene, 1).await?;
    let mut seen = reader.next(FLOWS).await?;
    let begin = last(&seen)?;
    seen.extend(reader.next(some).await?);
    let seconds = (last(&seen)? - begin).as_secs_f64();
    relays.stop().await?;
    let left = scene.count("select count(*) from messaging.outbox").await?;
    let gone = pending - left;
    seen.extend(reader.take(usize::try_from(gone)?.saturating_sub(seen.len())).await?);
    all_came(growth, side, gone, &seen)?;
    top_up(scene, gone).await?;
    Ok(1e6 * seconds / some as f64)
}

/// As few as are pending, again and again until there were as many.
async fn relay_often(scene: &Scene, growth: &mut Measurement, side: &str, few: i64, some: usize) -> Result<f64> {
    let mut reader = Reader::open(&scene.stage.vhost.amqp_url, SERVICE).await?;
    let relays = ours::relays(scene, 1).await?;
    let count = usize::try_from(few)?;
    let mut seen = reader.next(count).await?;
    let (mut seconds, mut published) = (0.0, 0);
    while published < some {
        let begin = scene.pend(&scene::events(count, 10_000)).await?;
        seen.extend(reader.next(count).await?);
        seconds += (last(&seen)? - begin).as_secs_f64();
        published += count;
    }
    scene.until("everything is settled", ours::DRAINED).await?;
    relays.stop().await?;
    seen.extend(reader.take(0).await?);
    all_came(growth, side, i64::try_from(published)? + few, &seen)?;
    top_up(scene, few).await?;
    Ok(1e6 * seconds / published as f64)
}

fn last(seen: &[Seen]) -> Result<Instant> {
    Ok(seen.last().context("messages come")?.at)
}

/// What is not pending any more came out of the queue, once each.
fn all_came(growth: &mut Measurement, side: &str, gone: i64, seen: &[Seen]) -> Result<()> {
    let ids: HashSet<&str> = seen.iter().map(|one| one.id.as_str()).collect();
    checks::equal(growth, "what is not pending any more came", side, gone, i64::try_from(ids.len())?);
    checks::equal(growth, "nothing comes twice", side, i64::try_from(ids.len())?, i64::try_from(seen.len())?);
    Ok(())
}

async fn seed(scene: &Scene, what: &str, size: i64) -> Result<()> {
    scene.clear().await?;
    match what {
        "pending events" => top_up(scene, size).await,
        "messages in the queue" => fill_queue(scene, size).await,
        "keys" => {
            sqlx::query(
                "with heads as (insert into messaging.stream_head (key, seq) select 'key-' || n, 1000 from generate_series(0, $1 - 1) as n)
                 insert into messaging.consumer_head (consumer, producer, key, seq)
                 select 'bench', 'bench', 'key-' || n, 0 from generate_series(0, $1 - 1) as n",
            )
            .bind(size)
            .execute(&scene.watch)
            .await?;
            Ok(())
        }
        _ => history(scene, size).await,
    }
}

/// As many messages in the queue more.
async fn fill_queue(scene: &Scene, size: i64) -> Result<()> {
    if size > 0 {
        limit::relay::publish_alone(scene, limit::relay::SAME, &scene::events(usize::try_from(size)?, 2_000)).await?;
    }
    Ok(())
}

/// As many pending events more.
async fn top_up(scene: &Scene, count: i64) -> Result<()> {
    scene.pend(&scene::events(usize::try_from(count)?, 10_000)).await.map(drop)
}

/// Rows of the journal and the inbox, spread over the days that are kept.
async fn history(scene: &Scene, size: i64) -> Result<()> {
    const PART: i64 = 500_000;
    let mut done = 0;
    while done < size {
        let part = PART.min(size - done);
        sqlx::raw_sql(AssertSqlSafe(format!(
            "insert into messaging.journal (published_at, position, message_id, lane, type, key, seq, payload, context, sensitive, deadline, occurred_at)
             select now(), {done} + n - 1000000000, gen_random_uuid(), n % 16, 'bench.v1.Happened', 'old-' || ({done} + n) % 1000000, n,
                    decode(repeat('07', 256), 'hex'), '{{}}', false, false, now()
             from generate_series(1, {part}) as n;
             insert into messaging.inbox (message_id, consumer)
             select encode(substring(int8send((extract(epoch from now() - random() * interval '29 days') * 1000)::bigint) from 3 for 6)
                           || '\\x7000'::bytea || '\\x8000'::bytea || substring(int8send({done} + n) from 3 for 6), 'hex')::uuid, 'bench'
             from generate_series(1, {part}) as n on conflict do nothing"
        )))
        .execute(&scene.watch)
        .await?;
        done += part;
    }
    Ok(())
}
