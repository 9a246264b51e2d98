//! What a seed means: the orders, the faults and when they come. Printed as JSON with every run, and drawn again from the seed alone.

use std::time::Duration;

use proof::{ledger::Line, plan::Floors};
use serde::Serialize;

use super::random::Random;
use crate::services::{OPERATOR_EMAIL, SERVICES};

/// Processes of each service.
pub(super) const REPLICAS: u16 = 2;
pub(super) const CUSTOMERS: u64 = 4;
/// Of these there are enough, of the last there are not.
pub(super) const PRODUCTS: [(&str, u32); 4] =
    [("PROVE-1", 1_000_000), ("PROVE-2", 1_000_000), ("PROVE-3", 1_000_000), ("PROVE-FEW", 7)];
/// Not a product at all.
pub(super) const NO_PRODUCT: &str = "PROVE-NONE";
/// From the beginning of one fault to that of the next, if the first is over by then.
const FAULT_EVERY: Duration = Duration::from_secs(15);
const FIRST_FAULT: Duration = Duration::from_secs(5);
/// Orders of a run without faults come at this pace.
const QUIET_PER_SECOND: f64 = 5.0;

/// Streams of random numbers; what is added later gets a number of its own, so that the others stay as they are.
const FAULTS: u64 = 1 << 40;

/// What the run is to be. A superset of what the checker reads ([`proof::plan::Plan`]).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(super) seed: u64,
    pub(super) orders: u32,
    pub(super) replicas: u16,
    pub(super) orders_per_second: f64,
    pub(super) accounts: Vec<String>,
    pub(super) quiet: bool,
    pub(super) floors: Floors,
    pub(super) faults: Vec<PlannedFault>,
}

/// Something that is to be done to the shop.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PlannedFault {
    /// From the first order on.
    pub(super) at_ms: u64,
    pub(super) kind: Kind,
    /// The service that it is done to, where it is done to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<&'static str>,
    /// Which process of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replica: Option<u16>,
    /// How long what was stopped stays so.
    pub(super) for_ms: u64,
}

/// What can be done to the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// `kill -9` of a process of a service.
    Kill,
    /// SIGSTOP of a process, for longer than its leases, then SIGCONT.
    Pause,
    /// SIGTERM of a process: it drains.
    Terminate,
    /// Every connection to the broker is closed by the broker.
    CloseConnections,
    /// The broker is stopped and started.
    StopBroker,
    /// `kill -9` of the broker.
    KillBroker,
    /// Every session of a service in its database is ended.
    TerminateSessions,
    /// The database is stopped at once, as a crash would, and recovers.
    CrashDatabase,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Kill,
        Self::Pause,
        Self::Terminate,
        Self::CloseConnections,
        Self::StopBroker,
        Self::KillBroker,
        Self::TerminateSessions,
        Self::CrashDatabase,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Terminate => "terminate",
            Self::CloseConnections => "close_connections",
            Self::StopBroker => "stop_broker",
            Self::KillBroker => "kill_broker",
            Self::TerminateSessions => "terminate_sessions",
            Self::CrashDatabase => "crash_database",
        }
    }
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
}

impl Plan {
    pub(super) fn draw(seed: u64, orders: u32, faults: u32) -> Self {
        let faults = draw_faults(&mut Random::new(seed, FAULTS), faults);
        let lasts = FIRST_FAULT + FAULT_EVERY * u32::try_from(faults.len()).unwrap_or(u32::MAX);
        let quiet = faults.is_empty();
        let per_second = if quiet { QUIET_PER_SECOND } else { f64::from(orders) / lasts.as_secs_f64() };
        let least = u64::from(!quiet);
        Self {
            seed,
            orders,
            replicas: REPLICAS,
            orders_per_second: per_second,
            accounts: vec![OPERATOR_EMAIL.to_owned()],
            quiet,
            floors: Floors {
                acknowledged: 0.9,
                confirmed: u64::from(orders) / 4,
                recovered: least * u64::from(faults.iter().any(is_seen_by_customers)),
                absorbed: least,
                faults: faults.len() as u64,
            },
            faults,
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
        let cancel_after_ms = random.percent(12).then(|| random.below(2_500));
        let registers = random.percent(4);
        let restocks = random.percent(5).then(|| Line {
            sku: random.of(["PROVE-1", "PROVE-2", "PROVE-3", "PROVE-FEW"]).to_owned(),
            quantity: 1 + random.below(9).cast_signed(),
        });
        Wish {
            customer: usize::try_from(customer).unwrap_or(0),
            replica: u16::try_from(replica).unwrap_or(0),
            lines,
            payment_method,
            cancel_after_ms,
            registers,
            restocks,
        }
    }
}

/// Each kind once, in a random order, then again.
fn draw_faults(random: &mut Random, count: u32) -> Vec<PlannedFault> {
    let mut faults = Vec::new();
    let mut kinds = Vec::new();
    for number in 0..count {
        if kinds.is_empty() {
            kinds = Kind::ALL.to_vec();
            random.shuffle(&mut kinds);
        }
        let Some(kind) = kinds.pop() else { break };
        let (service, replica) = (random.of(SERVICES).name, random.below(u64::from(REPLICAS)));
        let of_a_process = matches!(kind, Kind::Kill | Kind::Pause | Kind::Terminate);
        let of_a_service = of_a_process || kind == Kind::TerminateSessions;
        let for_ms = match kind {
            // A relay's lease ends after 15 s.
            Kind::Pause => 17_000 + random.below(6_000),
            Kind::CloseConnections | Kind::TerminateSessions => 0,
            _ => random.below(3_000),
        };
        faults.push(PlannedFault {
            at_ms: u64::try_from((FIRST_FAULT + FAULT_EVERY * number).as_millis()).unwrap_or(u64::MAX),
            kind,
            service: of_a_service.then_some(service),
            replica: of_a_process.then(|| u16::try_from(replica).unwrap_or(0)),
            for_ms,
        });
    }
    faults
}

/// Whether a request must have met it: then some answer was lost and asked for again.
fn is_seen_by_customers(fault: &PlannedFault) -> bool {
    fault.kind == Kind::CrashDatabase
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_plan_each_time_and_another_seed_another_one() {
        let drawn = |seed| serde_json::to_string(&Plan::draw(seed, 100, 20)).unwrap();
        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
    }

    #[test]
    fn each_kind_of_fault_comes_before_any_comes_again() {
        let mut names: Vec<_> = Plan::draw(3, 100, 8).faults.iter().map(|fault| fault.kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn the_checker_can_read_a_plan() {
        let text = serde_json::to_string(&Plan::draw(3, 100, 0)).unwrap();
        let read: proof::plan::Plan = serde_json::from_str(&text).unwrap();
        assert!(read.quiet && read.seed == 3);
    }
}
