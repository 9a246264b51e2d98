//! What a seed means: the orders, the faults and when they come. Printed as JSON with every run, and drawn again from the seed alone.

use std::time::Duration;

use proof::{
    ledger::Line,
    plan::{Floors, Patience},
};
use serde::Serialize;

use super::{
    kinds::Kind,
    points::{self, Case},
    random::Random,
    schedule::{self, Episode},
};
use crate::services::OPERATOR_EMAIL;

/// Processes of each service.
pub(super) const REPLICAS: u16 = 2;
pub(super) const CUSTOMERS: u64 = 4;
/// Of these there are enough, of the last there are not.
pub(super) const PRODUCTS: [(&str, u32); 4] =
    [("PROVE-1", 1_000_000), ("PROVE-2", 1_000_000), ("PROVE-3", 1_000_000), ("PROVE-FEW", 7)];
/// How long orders wait: for goods longer than any fault lasts, so that most of them are confirmed; for a payment as long as a process stands
/// still, so that some come too late. Where processes are killed, a deadline may be late.
pub(super) const PATIENCE: Patience =
    Patience { placed_ms: 120_000, reserved_ms: 20_000, paid_ms: 120_000, slack_ms: None };
/// The same where deadlines are to come due, too.
pub(super) const LITTLE_PATIENCE: Patience =
    Patience { placed_ms: 45_000, reserved_ms: 45_000, paid_ms: 45_000, slack_ms: None };
/// Not a product at all.
pub(super) const NO_PRODUCT: &str = "PROVE-NONE";
/// More than are placed while all points are reached.
const ENOUGH_ORDERS: u32 = 20_000;
/// Less than a customer's order in ten, as long as the machine is not slower than that.
const CONFIRMED_AMONG_POINTS: u64 = 100;
/// From one order of a run without faults to the next, and of those that were not planned.
pub(super) const QUIET_PACE: Duration = Duration::from_millis(200);
/// More than this is a question of speed, which is not what is asked here.
const SHORTEST_PACE: Duration = Duration::from_millis(40);

/// Streams of random numbers; what is added later gets a number of its own, so that the others stay as they are.
const FAULTS: u64 = 1 << 40;

/// What the run is to be. A superset of what the checker reads ([`proof::plan::Plan`]).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(super) seed: u64,
    pub(super) orders: u32,
    pub(super) replicas: u16,
    pub(super) accounts: Vec<String>,
    pub(super) quiet: bool,
    pub(super) poisons: Vec<String>,
    pub(super) patience: Option<Patience>,
    pub(super) mix: Mix,
    pub(super) floors: Floors,
    /// What is done to the shop, in this order; orders are spread over all of it.
    pub(super) episodes: Vec<Episode>,
    /// Instead of that: failures at points, all of which are to happen, however long it takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) points: Vec<Case>,
}

/// What customers are like.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Mix {
    /// So many of a hundred change their minds,
    pub(super) cancel_percent: u64,
    /// within so many milliseconds.
    pub(super) cancel_within_ms: u64,
    /// So many of a hundred pay with what takes its time, whatever is drawn for them otherwise.
    pub(super) slow_percent: u64,
}

impl Mix {
    /// Of an ordinary day.
    pub(super) const USUAL: Self = Self { cancel_percent: 12, cancel_within_ms: 2_500, slow_percent: 0 };
}

/// What a customer wants, and whether they change their mind.
pub(super) struct Wish {
    pub(super) customer: usize,
    pub(super) replica: u16,
    pub(super) lines: Vec<Line>,
    pub(super) payment_method: &'static str,
    /// After this many milliseconds.
    pub(super) cancel_after_ms: Option<u64>,
    /// Somebody new registers, too.
    pub(super) registers: bool,
    /// Goods come in, too.
    pub(super) restocks: Option<Line>,
    /// They ask twice at once.
    pub(super) impatient: bool,
    /// They ask once more when they were told, as if they had not heard it.
    pub(super) doubtful: bool,
}

impl Plan {
    /// So many orders, and so many faults of these kinds.
    pub(super) fn draw(seed: u64, orders: u32, kinds: &[Kind], faults: u32) -> Self {
        let episodes = schedule::draw(&mut Random::new(seed, FAULTS), kinds, faults);
        let all = || episodes.iter().flat_map(|episode| &episode.faults);
        let count = all().count() as u64;
        let least = u64::from(count > 0);
        Self {
            seed,
            orders,
            replicas: REPLICAS,
            accounts: vec![OPERATOR_EMAIL.to_owned()],
            quiet: count == 0,
            poisons: Vec::new(),
            patience: Some(PATIENCE),
            mix: Mix::USUAL,
            floors: Floors {
                acknowledged: 0.9,
                confirmed: u64::from(orders) / 4,
                recovered: least * u64::from(all().any(|fault| is_seen_by_customers(fault.kind))),
                absorbed: least * u64::from(all().any(|fault| sends_again(fault.kind))),
                faults: count,
            },
            episodes,
            points: Vec::new(),
        }
    }

    /// Every failure at every point, while there are customers.
    pub(super) fn of_points(seed: u64) -> Self {
        let points = points::matrix(seed);
        let mut plan = Self::draw(seed, ENOUGH_ORDERS, &[], 0);
        plan.quiet = false;
        plan.patience = Some(LITTLE_PATIENCE);
        plan.floors.confirmed = CONFIRMED_AMONG_POINTS;
        (plan.floors.recovered, plan.floors.absorbed) = (1, 1);
        plan.floors.faults = points.len() as u64;
        plan.points = points;
        plan
    }

    /// How many faults there are.
    pub(super) fn faults(&self) -> usize {
        self.episodes.iter().map(|episode| episode.faults.len()).sum()
    }

    /// Which orders are placed during an episode, by their numbers; all of them, without any episode.
    pub(super) fn orders_of(&self, episode: usize) -> std::ops::Range<u64> {
        let (orders, episodes) = (u64::from(self.orders), self.episodes.len().max(1) as u64);
        let until = |episode: u64| orders * episode / episodes;
        until(episode as u64)..until(episode as u64 + 1)
    }

    /// From one order to the next, during that episode.
    pub(super) fn pace(&self, episode: usize) -> Duration {
        let orders = u32::try_from(self.orders_of(episode).count()).unwrap_or(u32::MAX).max(1);
        match self.episodes.get(episode) {
            None => QUIET_PACE,
            Some(episode) => (episode.lasts() / orders).max(SHORTEST_PACE),
        }
    }

    /// The `number`th order: the same whatever came of the others.
    pub(super) fn wish(&self, number: u64) -> Wish {
        let mut random = Random::new(self.seed, number);
        let (customer, replica) = (random.below(CUSTOMERS), random.below(u64::from(self.replicas)));
        let mut lines = Vec::new();
        for sku in ["PROVE-1", "PROVE-2", "PROVE-3"] {
            if random.percent(50) {
                lines.push(Line { sku: sku.to_owned(), quantity: 1 + random.below(4).cast_signed() });
            }
        }
        if lines.is_empty() || random.percent(8) {
            lines.push(Line { sku: "PROVE-FEW".to_owned(), quantity: 1 });
        }
        if random.percent(3) {
            lines.push(Line { sku: NO_PRODUCT.to_owned(), quantity: 1 });
        }
        let payment_method = match random.below(100) {
            0..72 => "pm_ok",
            72..82 => "pm_flaky",
            82..90 => "pm_slow",
            90..96 => "pm_declined",
            _ => "pm_insufficient_funds",
        };
        let mix = self.mix;
        let cancel_after_ms = random.percent(mix.cancel_percent).then(|| random.below(mix.cancel_within_ms));
        let registers = random.percent(4);
        let restocks = random.percent(5).then(|| Line {
            sku: random.of(["PROVE-1", "PROVE-2", "PROVE-3", "PROVE-FEW"]).to_owned(),
            quantity: 1 + random.below(9).cast_signed(),
        });
        let impatient = random.percent(6);
        let payment_method = if random.percent(mix.slow_percent) { "pm_slow" } else { payment_method };
        let doubtful = random.percent(10);
        Wish {
            customer: usize::try_from(customer).unwrap_or(0),
            replica: u16::try_from(replica).unwrap_or(0),
            lines,
            payment_method,
            cancel_after_ms,
            registers,
            restocks,
            impatient,
            doubtful,
        }
    }
}

/// Whether a request must have met it: then some answer was lost and asked for again.
fn is_seen_by_customers(kind: Kind) -> bool {
    matches!(kind, Kind::CrashDatabase | Kind::KillDatabase)
}

/// Whether something must have been published or delivered again.
fn sends_again(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::CloseConnections | Kind::KillBroker | Kind::StopBroker | Kind::CrashDatabase | Kind::LostConsumerAck
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_plan_each_time_and_another_seed_another_one() {
        let drawn = |seed| serde_json::to_string(&Plan::draw(seed, 100, Kind::ALL, 20)).unwrap();
        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
    }

    #[test]
    fn every_order_belongs_to_one_episode() {
        for orders in [0, 3, 100] {
            let plan = Plan::draw(3, orders, Kind::ALL, 20);
            let placed: Vec<u64> = (0..plan.episodes.len()).flat_map(|episode| plan.orders_of(episode)).collect();
            assert_eq!(placed, (0..u64::from(orders)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_checker_can_read_a_plan() {
        let text = serde_json::to_string(&Plan::draw(3, 100, Kind::ALL, 0)).unwrap();
        let read: proof::plan::Plan = serde_json::from_str(&text).unwrap();
        assert!(read.quiet && read.seed == 3);
    }
}
