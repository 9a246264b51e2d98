//! When what is done to the shop: faults come in episodes, each of a shape, and after each episode the shop is whole again.

use std::time::Duration;

use serde::Serialize;

use super::{
    kinds::{Aim, Ground, Kind},
    plan::REPLICAS,
    random::Random,
};

/// From the end of one episode, when everything is well again, to the beginning of the next.
const BREATH: Duration = Duration::from_secs(2);
/// From the beginning of one fault that is over at once to the next, within a storm.
const STORM_EVERY_MS: u64 = 700;
const STORM: u32 = 5;
/// The second fault comes so soon after the first is over that the shop still recovers.
const WHILE_RECOVERING_MS: u64 = 3_000;

/// How the faults of an episode lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    /// One fault.
    Alone,
    /// Another begins while one is not over.
    Overlapping,
    /// Another begins when one is just over.
    WhileRecovering,
    /// One short fault after the other.
    Storm,
    /// One while the processes of a service are restarted in turn.
    WhileDeploying,
}

/// Faults that belong together.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Episode {
    pub(super) shape: Shape,
    pub(super) faults: Vec<PlannedFault>,
}

/// Something that is to be done to the shop.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PlannedFault {
    /// From the beginning of the episode.
    pub(super) after_ms: u64,
    pub(super) kind: Kind,
    /// The service that it is done to, where it is done to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<&'static str>,
    /// Which process of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replica: Option<u16>,
    /// How long what was done stays so.
    pub(super) for_ms: u64,
    /// For what else has to be drawn when it is done.
    pub(super) draw: u64,
}

impl Episode {
    /// How long it takes at least.
    pub(super) fn lasts(&self) -> Duration {
        let end = self.faults.iter().map(|fault| fault.after_ms + fault.for_ms).max().unwrap_or(0);
        Duration::from_millis(end) + BREATH
    }
}

/// So many faults, each of `kinds` once in a random order, then again; in episodes of all shapes.
pub(super) fn draw(random: &mut Random, kinds: &[Kind], count: u32) -> Vec<Episode> {
    let mut left = count;
    let mut deck = Deck { kinds, cards: Vec::new() };
    let mut episodes = Vec::new();
    while left > 0 && !kinds.is_empty() {
        let episode = episode(random, &mut deck, left);
        left -= u32::try_from(episode.faults.len()).unwrap_or(left).min(left);
        episodes.push(episode);
    }
    episodes
}

/// The kinds that did not come yet in this round.
struct Deck<'a> {
    kinds: &'a [Kind],
    cards: Vec<Kind>,
}

impl Deck<'_> {
    /// The next one that is fit.
    fn next(&mut self, random: &mut Random, fit: impl Fn(Kind) -> bool) -> Option<Kind> {
        if self.cards.is_empty() {
            self.cards = self.kinds.to_vec();
            random.shuffle(&mut self.cards);
        }
        let place = self.cards.iter().rposition(|kind| fit(*kind))?;
        Some(self.cards.remove(place))
    }
}

fn episode(random: &mut Random, deck: &mut Deck<'_>, left: u32) -> Episode {
    let shape = match random.below(10) {
        0..4 => Shape::Alone,
        4..6 => Shape::Overlapping,
        6..8 => Shape::WhileRecovering,
        8 => Shape::Storm,
        _ => Shape::WhileDeploying,
    };
    let shape = if left < 2 { Shape::Alone } else { shape };
    let first = match shape {
        Shape::WhileDeploying => Some(Kind::RollingRestart),
        Shape::Storm => deck.next(random, is_short),
        _ => deck.next(random, |_| true),
    };
    let Some(first) = first.or_else(|| deck.next(random, |_| true)) else {
        return Episode { shape: Shape::Alone, faults: Vec::new() };
    };
    let mut faults = vec![fault(random, first, 0)];
    match shape {
        Shape::Alone => {}
        Shape::Overlapping | Shape::WhileDeploying => {
            let other = |kind: Kind| goes_with(kind, first);
            if let Some(second) = deck.next(random, other) {
                let lasts = faults.first().map_or(0, |first| first.for_ms);
                let after = random.below(lasts.max(1_000));
                faults.push(fault(random, second, after));
            }
        }
        Shape::WhileRecovering => {
            if let Some(second) = deck.next(random, |kind| goes_with(kind, first)) {
                let lasts = faults.first().map_or(0, |first| first.for_ms);
                let after = lasts + random.below(WHILE_RECOVERING_MS);
                faults.push(fault(random, second, after));
            }
        }
        Shape::Storm => {
            for number in 1..u64::from(STORM.min(left)) {
                let possible =
                    |kind| is_short(kind) && faults.iter().all(|before| !leaves_nothing_for(before.kind, kind));
                let Some(next) = deck.next(random, possible) else { break };
                let mut next = fault(random, next, number * STORM_EVERY_MS);
                next.for_ms = 0;
                faults.push(next);
            }
        }
    }
    let shape = if faults.len() == 1 { Shape::Alone } else { shape };
    Episode { shape, faults }
}

/// Over at once, or can be.
fn is_short(kind: Kind) -> bool {
    kind.about().lasts_ms.0 == 0 && kind != Kind::WipeBroker
}

/// Whether the first ends the engine that the second is done with: in a storm it is not back by then.
fn leaves_nothing_for(first: Kind, second: Kind) -> bool {
    let ends_broker = matches!(first, Kind::StopBroker | Kind::KillBroker);
    let ends_database = matches!(first, Kind::CrashDatabase | Kind::KillDatabase);
    match second.about().ground {
        Ground::Broker | Ground::Cluster => ends_broker,
        Ground::Database => ends_database,
        Ground::Messages => ends_broker || ends_database,
        _ => false,
    }
}

/// Of another ground: two on the same would be one that is seen twice, and where an engine stands still, nothing lies between it and others.
/// What has to be repaired by asking the rest is done alone.
fn goes_with(kind: Kind, other: Kind) -> bool {
    let grounds = [kind, other].map(|kind| kind.about().ground);
    let hidden = grounds.contains(&Ground::Network)
        && grounds.iter().any(|ground| matches!(ground, Ground::Broker | Ground::Cluster | Ground::Database));
    let alone = |kind: Kind| {
        kind.about().ground == Ground::Messages
            || matches!(kind, Kind::LostQueue | Kind::LostBinding | Kind::FullQueue | Kind::WipeBroker)
    };
    // A node of the cluster is the broker, too.
    let ground = |kind: Kind| match kind.about().ground {
        Ground::Cluster => Ground::Broker,
        other => other,
    };
    ground(kind) != ground(other) && !hidden && !alone(kind) && !alone(other)
}

pub(super) fn fault(random: &mut Random, kind: Kind, after_ms: u64) -> PlannedFault {
    let about = kind.about();
    let (from, to) = about.lasts_ms;
    let (services, of_a_process) = match about.aim {
        Aim::Process(services) => (services, true),
        Aim::Service(services) => (services, false),
        Aim::Whole => ([].as_slice(), false),
    };
    // Drawn in any case: what is drawn next does not depend on what this is.
    let (place, replica, more) = (random.next(), random.below(u64::from(REPLICAS)), random.next());
    let service = usize::try_from(place % (services.len().max(1) as u64)).ok().and_then(|place| services.get(place));
    PlannedFault {
        after_ms,
        kind,
        service: service.copied(),
        replica: of_a_process.then(|| u16::try_from(replica).unwrap_or(0)),
        for_ms: from + random.below((to - from).max(1)),
        draw: more,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drawn(seed: u64, count: u32) -> Vec<Episode> {
        draw(&mut Random::new(seed, 1), Kind::ALL, count)
    }

    #[test]
    fn each_kind_comes_before_most_of_them_come_again() {
        let count = u32::try_from(Kind::ALL.len()).unwrap() * 2;
        let episodes = drawn(3, count);
        let kinds: BTreeSet<_> = episodes.iter().flat_map(|episode| &episode.faults).map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
    }

    #[test]
    fn every_shape_comes() {
        let shapes: BTreeSet<_> = drawn(3, 200).iter().map(|episode| format!("{:?}", episode.shape)).collect();
        assert_eq!(shapes.len(), 5, "{shapes:?}");
    }

    #[test]
    fn two_at_once_are_done_to_different_things() {
        for episode in drawn(4, 300).iter().filter(|episode| episode.shape == Shape::Overlapping) {
            let [first, second] = episode.faults.as_slice() else { panic!("{episode:?}") };
            assert_ne!(first.kind.about().ground, second.kind.about().ground);
        }
    }

    #[test]
    fn nothing_is_done_in_a_storm_with_an_engine_that_has_ended() {
        let is_storm = |episode: &Episode| episode.shape == Shape::Storm;
        let storms: Vec<_> = (0..20).flat_map(|seed| drawn(seed, 200)).filter(is_storm).collect();
        assert!(storms.len() > 50, "{}", storms.len());
        for storm in storms {
            let kinds: Vec<_> = storm.faults.iter().map(|fault| fault.kind).collect();
            let ended = kinds.iter().position(|kind| *kind == Kind::KillBroker).unwrap_or(kinds.len());
            let needs_broker = |kind: &Kind| matches!(kind, Kind::CloseConnections | Kind::Poison | Kind::StopBroker);
            assert!(!kinds.iter().skip(ended + 1).any(needs_broker), "{kinds:?}");
        }
    }

    #[test]
    fn there_are_as_many_as_were_asked_for() {
        for count in [1, 7, 40] {
            let faults: usize = drawn(5, count).iter().map(|episode| episode.faults.len()).sum();
            assert_eq!(faults, count as usize);
        }
    }
}
