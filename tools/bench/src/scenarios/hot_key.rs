//! Half of all events are of one key, which can be sent only one after the other: the events of the other keys must hardly notice.
//!
//! Both sides have as many events in the same places; on one of them every second one is of the hot key. Measured is when the last event of the
//! others comes out of the queue, taken from outside.

use anyhow::{Context as _, Result};
use measure::{Aim, Measurement, Side, in_turn};

use crate::{
    Plan, checks, ours,
    queue::Reader,
    scene::{self, SERVICE, Scene},
};

const HOT: &str = "hot";

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut hot = Measurement::new("hot-key", "what the other keys lose when every second event is of one key");
    let (count, keys) = plan.pick((40_000, 4_000), (10_000, 1_000));
    let scene = Scene::set().await?;
    let relays = ours::relays(&scene, 1).await?;
    let run = async |is_hot: bool, count: usize, hot: &mut Measurement| {
        scene.clear().await?;
        let events = events(count, keys, is_hot);
        let reader = Reader::open(&scene.stage.vhost.amqp_url, SERVICE).await?;
        let begin = scene.pend(&events).await?;
        let seen = reader.take(events.len()).await?;
        let name = if is_hot { "with a hot key" } else { "without" };
        checks::came_once(hot, name, &events, &seen);
        checks::came_in_order(hot, name, &seen);
        scene.until("everything is settled", ours::DRAINED).await?;
        let others = seen.iter().filter(|one| one.key.starts_with("other-"));
        let last = others.clone().map(|one| one.at).max().context("there are others")?;
        let rate = others.count() as f64 / (last - begin).as_secs_f64();
        let all = seen.iter().map(|one| one.at).max().context("there are events")?;
        Ok::<_, anyhow::Error>((rate, events.len() as f64 / (all - begin).as_secs_f64()))
    };
    for side in [true, false] {
        run(side, count / 10, &mut hot).await?;
    }
    let rates = in_turn(&[true, false], plan.rounds(), async |side| run(side, count, &mut hot).await).await?;
    relays.stop().await?;
    let of = |side: usize| rates[side].iter().map(|(others, _)| *others).collect::<Vec<_>>();
    let (with, without) = (Side::new("with a hot key", &of(0)), Side::new("without", &of(1)));
    hot.compare("events of the other keys per second", "1/s", with, without, Aim::AtLeast(0.9));
    let all = |side: usize| Side::new("", &rates[side].iter().map(|(_, all)| *all).collect::<Vec<_>>()).median();
    hot.note(format!(
        "all events together: {:.0} per second with a hot key, {:.0} without; the others are half of them, so they gain at most twice as much, when \
         the hot key is left behind",
        all(0),
        all(1)
    ));
    Ok(hot)
}

/// Every second event is of one key, or of any.
fn events(count: usize, keys: u64, is_hot: bool) -> Vec<(String, i64)> {
    let mut numbers = std::collections::HashMap::new();
    (0..count as u64)
        .map(|n| {
            let key = match n % 2 {
                0 if is_hot => HOT.to_owned(),
                0 => format!("rest-{}", scene::scatter(n) % keys),
                _ => format!("other-{}", scene::scatter(n) % keys),
            };
            let number: &mut i64 = numbers.entry(key.clone()).or_default();
            *number += 1;
            (key, *number)
        })
        .collect()
}
