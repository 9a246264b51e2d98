//! Draining a backlog: one relay and four of them, beside the least loop; and publishing alone, for the record.

use anyhow::Result;
use measure::{Aim, Measurement, Side, in_turn};

use crate::{
    Plan, checks,
    limit::{self, relay::Target},
    ours, queue, scene,
};

#[derive(Clone, Copy)]
enum Runner {
    Relays(usize),
    Loop,
    PublishAlone(Target),
}

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut relay = Measurement::new("relay", "a backlog of events of 256 bytes: relays, beside the least loop");
    let (count, keys) = plan.pick((100_000, 10_000), (15_000, 1_500));
    let scene = scene::Scene::set().await?;
    let events = scene::events(count, keys);
    let alone = [limit::relay::SAME, limit::relay::BARE].map(Runner::PublishAlone);
    let sides = [Runner::Relays(1), Runner::Loop, Runner::Relays(4), alone[0], alone[1]];
    let run = async |runner, events: &[(String, i64)], relay: &mut Measurement| {
        scene.clear().await?;
        let (name, queue, rate) = match runner {
            Runner::Relays(relays) => {
                let running = ours::relays(&scene, relays).await?;
                let rate = ours::drain(&scene, events).await?;
                running.stop().await?;
                (if relays == 1 { "one relay" } else { "four relays" }, scene::SERVICE, rate)
            }
            Runner::Loop => ("loop", limit::relay::SAME.queue, limit::relay::drain(&scene, events).await?),
            Runner::PublishAlone(target) => {
                ("publishing alone", target.queue, limit::relay::publish_alone(&scene, target, events).await?)
            }
        };
        let seen = queue::empty(&scene.stage.vhost.amqp_url, queue, events.len()).await?;
        checks::came_once(relay, name, events, &seen);
        checks::came_in_order(relay, name, &seen);
        if let Runner::Relays(_) = runner {
            let journaled = scene.count("select count(*) from messaging.journal").await?;
            checks::equal(relay, "what was published is in the journal", name, i64::try_from(events.len())?, journaled);
        }
        anyhow::Ok(rate)
    };
    // Warms up.
    for side in sides {
        run(side, &events[..count / 10], &mut relay).await?;
    }
    let rates = in_turn(&sides, plan.rounds(), async |side| run(side, &events, &mut relay).await).await?;
    let [one, looped, four, alone, bare] = &rates[..] else { anyhow::bail!("five sides were measured") };
    relay.compare(
        "one relay: events per second",
        "1/s",
        Side::new("one relay", one),
        Side::new("least loop", looped),
        Aim::AtLeast(0.9),
    );
    relay.compare(
        "four relays: events per second",
        "1/s",
        Side::new("four relays", four),
        Side::new("least loop", looped),
        Aim::AtLeast(0.9),
    );
    relay.note(format!(
        "{count} events on {keys} keys; publishing alone, without a database: {:.0} events per second to the same exchange, {:.0} to a bare queue",
        Side::new("", alone).median(),
        Side::new("", bare).median()
    ));
    Ok(relay)
}
