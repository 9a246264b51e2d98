//! From a commit to its effect with ten events in a second, beside the bare path: publish, confirm, deliver, commit, with nothing kept in
//! between.
//!
//! Both effects are seen in the same way: somebody asks the database for the row until it is there.

use std::time::Duration;

use anyhow::{Context as _, Result};
use measure::{Aim, Measurement, Side, quantile_of};
use tokio::time::Instant;

use crate::{
    Plan, checks,
    limit::path::Path,
    ours,
    scene::{Happened, Scene},
};

/// Between two events, so that each finds the system idle.
const PAUSE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_micros(200);
const WARM_UP: usize = 20;

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut latency = Measurement::new("latency", "from a commit to its effect, ten in a second, beside the bare path");
    let scene = Scene::set().await?;
    let (outbox, service) = ours::service(&scene).await?;
    let mut path = Path::open(&scene).await?;
    let (blocks, pairs) = plan.pick((6, 100), (3, 40));
    let (mut ours, mut bare): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for block in 0..=blocks {
        let pairs = if block == 0 { WARM_UP } else { pairs };
        let (mut by_us, mut by_path) = (Vec::new(), Vec::new());
        for pair in 0..pairs {
            let id = format!("{block}-{pair}");
            let mut tx = outbox.begin().await?;
            tx.publish(&Happened::new(format!("ours-{id}"), 1))?;
            let begin = Instant::now();
            tx.commit().await?;
            by_us.push(seen(&scene, &format!("ours-{id}"), begin).await?);
            tokio::time::sleep(PAUSE).await;
            let begin = Instant::now();
            path.publish(&format!("bare-{id}")).await?;
            by_path.push(seen(&scene, &format!("bare-{id}"), begin).await?);
            path.rest().await?;
            tokio::time::sleep(PAUSE).await;
        }
        if block > 0 {
            ours.push(by_us);
            bare.push(by_path);
        }
    }
    service.stop().await?;
    for (share, name, aim) in [(0.5, "p50", 2.5), (0.99, "p99", 4.0)] {
        let of = |blocks: &[Vec<f64>]| blocks.iter().filter_map(|block| quantile_of(block, share)).collect::<Vec<_>>();
        let (by_us, by_path) = (Side::new("outbox", &of(&ours)), Side::new("bare path", &of(&bare)));
        latency.compare(&format!("{name} of commit → effect"), "ms", by_us, by_path, Aim::AtMost(aim));
    }
    let effects = scene.count("select count(distinct id) from thing").await?;
    let sent = i64::try_from(2 * (WARM_UP + blocks * pairs))?;
    checks::equal(
        &mut latency,
        "each has its effect once",
        "both",
        sent,
        scene.count("select count(*) from thing").await?,
    );
    checks::equal(&mut latency, "each event has its effect", "both", sent, effects);
    latency.note(course("outbox", &ours)?);
    latency.note(course("bare path", &bare)?);
    Ok(latency)
}

/// Waits until the effect can be seen; how many milliseconds that took.
async fn seen(scene: &Scene, id: &str, begin: Instant) -> Result<f64> {
    let look = async || sqlx::query("select from thing where id = $1").bind(id).fetch_optional(&scene.watch).await;
    while look().await?.is_none() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// How the times of all blocks spread.
fn course(name: &str, blocks: &[Vec<f64>]) -> Result<String> {
    let all = blocks.concat();
    let at = |share| quantile_of(&all, share).context("something was measured");
    Ok(format!(
        "{name}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, of {} events",
        at(0.5)?,
        at(0.9)?,
        at(0.99)?,
        all.len()
    ))
}
