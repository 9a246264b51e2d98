//! The broker is away under load, and comes back: what has gathered is drained while new events keep coming, beside the drain of as large a
//! backlog in peace. To the relay, the broker is away when its connections are cut and new ones refused; the engine itself goes on, so that
//! its own start is not measured.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use measure::{Aim, Measurement, Side, in_turn};
use messaging::Outbox;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use wire::{Aim as At, Fault, Proxy};

use crate::{
    Plan, checks,
    load::Business,
    ours, queue,
    scene::{self, SERVICE, Scene},
};

/// New events in a second, before, during and after the outage.
const PACE: u64 = 200;

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut recovery =
        Measurement::new("recovery", "draining what has gathered while the broker was away, beside a drain in peace");
    let outage = plan.pick(Duration::from_secs(60), Duration::from_secs(4));
    let backlog = plan.pick(60_000, 15_000);
    let scene = Scene::set().await?;
    let (proxy, url) = proxied(&scene).await?;
    let events = scene::events(backlog, 6_000);
    let mut waits = Vec::new();
    let mut run = async |after_an_outage: bool| {
        scene.clear().await?;
        let relays = ours::relays_by(&scene, 1, &url).await?;
        let (name, rate, committed) = if after_an_outage {
            let (rate, wait, committed) = through_an_outage(&scene, &proxy, outage, &events).await?;
            waits.push(wait);
            ("after an outage", rate, committed)
        } else {
            ("in peace", ours::drain(&scene, &events).await?, 0)
        };
        scene.until("everything is published", ours::DRAINED).await?;
        relays.stop().await?;
        let expected = committed + i64::try_from(events.len())?;
        check(&scene, &mut recovery, name, expected).await?;
        anyhow::Ok(rate)
    };
    run(false).await?;
    let rates = in_turn(&[true, false], plan.rounds().min(plan.pick(3, 2)), run).await?;
    let (after, peace) = (Side::new("after an outage", &rates[0]), Side::new("in peace", &rates[1]));
    recovery.compare("events published per second", "1/s", after, peace, Aim::AtLeast(0.8));
    recovery.note(format!(
        "the broker was away for {} s each time, under {PACE} new events per second; from its return to the first event out: {:.1} s",
        outage.as_secs(),
        Side::new("", &waits).median()
    ));
    Ok(recovery)
}

/// A broker that can be taken away.
async fn proxied(scene: &Scene) -> Result<(Proxy, String)> {
    let url = scene.stage.vhost.url_for(SERVICE);
    let (head, rest) = url.split_once('@').context("a user in the address")?;
    let (engine, vhost) = rest.split_once('/').context("a virtual host in the address")?;
    let proxy = Proxy::amqp(engine).await?;
    let url = format!("{head}@{}/{vhost}", proxy.address());
    Ok((proxy, url))
}

/// Events published per second, from the first one after the outage until what was there then is gone; how many seconds the first one took;
/// and how many new events were committed in all.
async fn through_an_outage(
    scene: &Scene,
    proxy: &Proxy,
    outage: Duration,
    events: &[(String, i64)],
) -> Result<(f64, f64, i64)> {
    let stop = CancellationToken::new();
    let mut load = JoinSet::new();
    load.spawn(steady(ours::outbox(scene, 4)?, stop.clone()));
    let away = proxy.inject(&At::everybody(), Fault::Refuse);
    proxy.cut(&At::everybody());
    scene.pend(events).await?;
    tokio::time::sleep(outage).await;
    let settled = scene.count("select count(*) from messaging.journal").await?;
    let back = Instant::now();
    drop(away);
    scene.until_more(settled).await?;
    let first = Instant::now();
    let last = scene.count("select max(position) from messaging.outbox").await?;
    scene.until_gone(last).await?;
    let seconds = first.elapsed().as_secs_f64();
    let published = scene.count("select count(*) from messaging.journal").await? - settled;
    stop.cancel();
    let committed = load.join_next().await.context("the load runs")?.context("the load panicked")??;
    Ok((published as f64 / seconds, (first - back).as_secs_f64(), committed))
}

/// New events at a steady pace, each of a key of its own. How many there were.
async fn steady(outbox: Arc<Outbox>, stop: CancellationToken) -> Result<i64> {
    let begin = Instant::now();
    let mut committed = 0;
    while !stop.is_cancelled() {
        ours::commit(&outbox, Business::Row, &format!("new-{committed}")).await?;
        committed += 1;
        tokio::time::sleep_until(begin + Duration::from_secs_f64(committed as f64 / PACE as f64)).await;
    }
    Ok(committed)
}

/// What was cut off in the midst is sent again with its id, which an inbox absorbs; here only the first of each counts.
async fn check(scene: &Scene, recovery: &mut Measurement, side: &str, expected: i64) -> Result<()> {
    let journal: Vec<String> =
        sqlx::query_scalar("select message_id::text from messaging.journal").fetch_all(&scene.watch).await?;
    let seen = queue::empty(&scene.stage.vhost.amqp_url, SERVICE, journal.len()).await?;
    checks::equal(recovery, "every event is published", side, expected, i64::try_from(journal.len())?);
    let ids: HashSet<_> = seen.iter().map(|one| one.id.as_str()).collect();
    let lost = journal.iter().filter(|id| !ids.contains(id.as_str())).count();
    let lost =
        if lost > 0 { vec![format!("{side}: {lost} published events are not in the queue")] } else { Vec::new() };
    recovery.check("nothing is lost", journal.len() as u64, lost);
    let mut first = HashMap::new();
    for one in &seen {
        first.entry(one.id.as_str()).or_insert(one);
    }
    let mut firsts: Vec<_> = first.into_values().collect();
    firsts.sort_by_key(|one| one.at);
    checks::came_in_order(recovery, side, firsts);
    Ok(())
}
