//! Messages that each have an effect: an inbox row, a row of the business and an event out, beside one plain transaction for each.

use anyhow::Result;
use measure::{Aim, Measurement, Side, in_turn};

use crate::{Plan, checks, limit, ours, scene};

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut consume =
        Measurement::new("consume", "inbox, a row and an event out for each message, beside a plain transaction each");
    let (count, keys) = plan.pick((50_000, 5_000), (8_000, 800));
    let scene = scene::Scene::set().await?;
    let events = scene::events(count, keys);
    let run = async |is_ours: bool, events: &[(String, i64)], consume: &mut Measurement| {
        scene.clear().await?;
        let (name, rate) = if is_ours {
            ours::fill(&scene, events).await?;
            ("consumer", ours::consume(&scene, events.len()).await?)
        } else {
            limit::relay::publish_alone(&scene, limit::relay::BARE, events).await?;
            ("plain transactions", limit::consume::consume(&scene, events.len()).await?)
        };
        let expected = i64::try_from(events.len())?;
        let effects = scene.count("select count(*) from thing").await?;
        checks::equal(consume, "each message has its effect once", name, expected, effects);
        let distinct = scene.count("select count(distinct (id, number)) from thing").await?;
        checks::equal(consume, "each event has its effect", name, expected, distinct);
        if is_ours {
            let announced = scene.count("select count(*) from messaging.outbox where type = 'bench.v1.Noted'").await?;
            checks::equal(consume, "each effect is announced", name, expected, announced);
            let late = scene
                .count("select count(*) from (select number < lag(number) over (partition by id order by n) as late from thing) as t where late")
                .await?;
            let late = if late == 0 {
                Vec::new()
            } else {
                vec![format!("{late} effects came after a later one of their key")]
            };
            consume.check("the effects of each key come in order", u64::try_from(expected)?, late);
        }
        anyhow::Ok(rate)
    };
    for side in [true, false] {
        run(side, &events[..count / 8], &mut consume).await?;
    }
    let rates = in_turn(&[true, false], plan.rounds(), async |side| run(side, &events, &mut consume).await).await?;
    let (ours, plain) = (Side::new("consumer", &rates[0]), Side::new("plain transactions", &rates[1]));
    consume.compare("effects per second", "1/s", ours, plain, Aim::AtLeast(3.0));
    consume.note(format!("{count} messages on {keys} keys"));
    Ok(consume)
}
