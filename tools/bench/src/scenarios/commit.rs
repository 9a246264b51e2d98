//! Transactions with one event, beside the same transactions without it: a single row, and what `POST /orders` of the shop does.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use measure::{Aim, Measurement, Side, in_turn};

use crate::{
    Plan, checks, limit,
    load::{self, Business},
    ours,
    scene::Scene,
};

const CALLERS: [usize; 3] = [1, 8, 32];
const CASES: [(Business, &str, f64); 2] = [(Business::Row, "one row", 0.65), (Business::Order, "an order", 0.8)];

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut commit = Measurement::new("commit", "a transaction with one event, beside the same transaction without it");
    let scene = Scene::set().await?;
    let time = plan.pick(Duration::from_secs(4), Duration::from_millis(1_500));
    for (business, name, aim) in CASES {
        for callers in CALLERS {
            let connections = u32::try_from(callers)?;
            let (outbox, pool) = (ours::outbox(&scene, connections)?, Arc::new(scene.plain_pool(connections).await?));
            let mut run = async |with_event: bool, time| {
                scene.clear().await?;
                let (committed, seconds) = if with_event {
                    let outbox = Arc::clone(&outbox);
                    let commit = move |key: String| {
                        let outbox = Arc::clone(&outbox);
                        async move { ours::commit(&outbox, business, &key).await }
                    };
                    load::callers(callers, time, commit).await?
                } else {
                    let pool = Arc::clone(&pool);
                    let commit = move |key: String| {
                        let pool = Arc::clone(&pool);
                        async move { limit::commit::commit(&pool, business, &key).await }
                    };
                    load::callers(callers, time, commit).await?
                };
                let rows = scene.count("select (select count(*) from thing) + (select count(*) from orders)").await?;
                let committed_rows = i64::try_from(committed)?;
                checks::equal(&mut commit, "each commit is there once", name, committed_rows, rows);
                if with_event {
                    let pending = scene.count("select count(distinct key) from messaging.outbox where seq = 1").await?;
                    checks::equal(&mut commit, "each commit has its event", name, committed_rows, pending);
                    let deadlines = scene.count("select count(*) from messaging.scheduled").await?;
                    let expected = if business == Business::Order { committed_rows } else { 0 };
                    checks::equal(&mut commit, "each order has its deadline", name, expected, deadlines);
                }
                anyhow::Ok(committed as f64 / seconds)
            };
            for side in [true, false] {
                run(side, time / 3).await?;
            }
            let rates = in_turn(&[true, false], plan.rounds(), async |side| run(side, time).await).await?;
            let what = format!("{name}, {callers} at once: commits per second");
            let (ours, bare) = (Side::new("with an event", &rates[0]), Side::new("without", &rates[1]));
            commit.compare(&what, "1/s", ours, bare, Aim::AtLeast(aim));
        }
    }
    Ok(commit)
}
