//! Drills: a small piece of work for the shop, and what is done to it meanwhile. Each is mild enough that the shop as it is comes through it
//! with every invariant ([`super::hunt`] sees to that first), and hard enough that a shop that lacks something does not.

use std::time::Duration;

use anyhow::Result;
use proof::plan::{Floors, Patience};
use tokio::time::sleep;

use super::means::{self, Bites, Moment};
use crate::{
    prove::{
        ledger::Ledger,
        patient,
        plan::{Mix, PATIENCE, Plan},
        rest::Bound,
    },
    services::OPERATOR_EMAIL,
    stack::{Options, Stack},
};

/// Everything that is drawn is drawn from this.
const SEED: u64 = 24;

/// Longer than a service waits for the greeting of a mail server.
const NO_GREETING: Duration = Duration::from_secs(12);

/// A piece of work, and what is done meanwhile.
#[derive(Debug)]
pub(in crate::prove) struct Drill {
    pub(super) name: &'static str,
    /// In words that follow "with".
    pub(super) what: &'static str,
    orders: u32,
    replicas: u16,
    mix: Mix,
    patience: Patience,
    /// How long the shop has to come to rest afterwards,
    rest_seconds: u64,
    /// and for how long of it nothing may be new.
    still_seconds: u64,
    settings: &'static [(&'static str, &'static str, &'static str)],
    disturbance: Disturbance,
}

/// What is done to the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    Nothing,
    /// A message that cannot be read.
    Poison,
    /// No fault: there is time for others to do once more what one of them has done.
    SlowRecords,
    RefusedCommits,
    LateCommits,
    KilledCommits,
    DeadBroker,
    LostBinding,
    SilentMailbox,
}

const FICKLE: Mix = Mix { cancel_percent: 30, cancel_within_ms: 1_500, slow_percent: 0 };
const SLOW_PAYERS: Mix = Mix { cancel_percent: 0, cancel_within_ms: 1, slow_percent: 50 };

const USUAL: Drill = Drill {
    name: "",
    what: "",
    orders: 16,
    replicas: 1,
    mix: FICKLE,
    patience: PATIENCE,
    rest_seconds: 15,
    still_seconds: 6,
    settings: &[("payments", "PROVIDER_SLOW_SECONDS", "1")],
    disturbance: Disturbance::Nothing,
};

pub(super) const CALM: Drill = Drill {
    name: "calm",
    what: "nothing but a message that cannot be read",
    disturbance: Disturbance::Poison,
    ..USUAL
};

pub(super) const TWINS: Drill = Drill {
    name: "twins",
    what: "two processes of each service, and databases that take their time to write down what was done",
    replicas: 2,
    rest_seconds: 30,
    disturbance: Disturbance::SlowRecords,
    ..USUAL
};

pub(super) const REFUSED_COMMITS: Drill = Drill {
    name: "refused commits",
    what: "a database that refuses some commits of orders and inventory",
    orders: 28,
    mix: Mix { cancel_percent: 60, cancel_within_ms: 800, slow_percent: 0 },
    rest_seconds: 30,
    still_seconds: 12,
    disturbance: Disturbance::RefusedCommits,
    ..USUAL
};

pub(super) const LATE_COMMITS: Drill = Drill {
    name: "late commits",
    what: "commits that take their time, and connections to the broker that are closed meanwhile",
    orders: 24,
    rest_seconds: 15,
    disturbance: Disturbance::LateCommits,
    ..USUAL
};

pub(super) const KILLED_COMMITS: Drill = Drill {
    name: "killed commits",
    what: "transactions that take their time, and processes that are killed meanwhile",
    rest_seconds: 25,
    still_seconds: 8,
    disturbance: Disturbance::KilledCommits,
    ..LATE_COMMITS
};

pub(super) const DEAD_BROKER: Drill = Drill {
    name: "dead broker",
    what: "a broker that falls silent and is killed",
    rest_seconds: 30,
    still_seconds: 20,
    disturbance: Disturbance::DeadBroker,
    ..USUAL
};

pub(super) const LOST_BINDING: Drill = Drill {
    name: "lost binding",
    what: "placed orders that no queue is bound for at first",
    disturbance: Disturbance::LostBinding,
    ..USUAL
};

pub(super) const IMPATIENT_ORDERS: Drill = Drill {
    name: "impatient orders",
    what: "payments that take longer than orders wait",
    orders: 12,
    mix: SLOW_PAYERS,
    patience: Patience { reserved_ms: 3_000, slack_ms: Some(4_000), ..PATIENCE },
    rest_seconds: 25,
    still_seconds: 12,
    settings: &[("payments", "PROVIDER_SLOW_SECONDS", "9"), ("orders", "PAYMENT_DEADLINE_SECONDS", "3")],
    ..USUAL
};

pub(super) const IMPATIENT_GOODS: Drill = Drill {
    name: "impatient goods",
    what: "payments that take longer than goods are held",
    orders: 12,
    mix: SLOW_PAYERS,
    patience: Patience { slack_ms: Some(4_000), ..PATIENCE },
    rest_seconds: 25,
    still_seconds: 12,
    settings: &[("payments", "PROVIDER_SLOW_SECONDS", "9"), ("inventory", "RESERVATION_SECONDS", "3")],
    ..USUAL
};

pub(super) const SILENT_MAILBOX: Drill = Drill {
    name: "silent mailbox",
    what: "a mail server that does not answer for a while",
    orders: 12,
    rest_seconds: 30,
    still_seconds: 20,
    settings: &[
        ("notifications", "SMTP_TIMEOUT_SECONDS", "1"),
        ("notifications", "SMTP_ANSWER_TIMEOUT_SECONDS", "1"),
        ("notifications", "MAIL_RETRY_SECONDS", "1"),
    ],
    disturbance: Disturbance::SilentMailbox,
    ..USUAL
};

impl Drill {
    /// What the run is to be.
    pub(super) fn plan(&self) -> Plan {
        let quiet = matches!(self.disturbance, Disturbance::Nothing | Disturbance::Poison | Disturbance::SlowRecords);
        let poisons = if self.disturbance == Disturbance::Poison { vec![means::POISON.to_owned()] } else { Vec::new() };
        Plan {
            seed: SEED,
            orders: self.orders,
            replicas: self.replicas,
            accounts: vec![OPERATOR_EMAIL.to_owned()],
            quiet,
            poisons,
            patience: Some(self.patience.clone()),
            mix: self.mix,
            // The least of the shop as it is: something was sold, and what was done to it bit.
            floors: Floors { acknowledged: 0.0, confirmed: 1, recovered: 0, absorbed: 0, faults: u64::from(!quiet) },
            episodes: Vec::new(),
            points: Vec::new(),
        }
    }

    /// How the shop is started.
    pub(super) fn options(&self, options: Options) -> Options {
        let mut options = patient(options);
        options.replicas = self.replicas;
        self.settings.iter().fold(options, |options, (service, name, value)| options.setting(service, name, value))
    }

    pub(super) fn rest(&self) -> Bound {
        Bound { whole: Duration::from_secs(self.rest_seconds), still: Duration::from_secs(self.still_seconds) }
    }

    /// What is done before the first order comes.
    pub(super) async fn prepare(&self, stack: &Stack) -> Result<()> {
        match self.disturbance {
            Disturbance::LostBinding => means::unbind(stack).await,
            Disturbance::Poison => means::poison(stack).await,
            Disturbance::SlowRecords => means::slow_records(stack).await,
            _ => Ok(()),
        }
    }

    /// What is done while orders come; each thing is written down with what shows that it bit.
    pub(super) async fn disturb(&self, stack: &mut Stack, ledger: &Ledger) -> Result<()> {
        let mut bites = Bites::new(ledger);
        match self.disturbance {
            Disturbance::Nothing | Disturbance::Poison | Disturbance::SlowRecords => {}
            Disturbance::RefusedCommits => {
                sleep(Duration::from_millis(300)).await;
                let began = bites.begin();
                means::hinder(stack, means::REFUSE, Moment::Commit).await?;
                sleep(Duration::from_secs(5)).await;
                bites.end(began, "refused_commits", "orders, inventory", means::let_go(stack).await?, 0)?;
            }
            Disturbance::LateCommits | Disturbance::KilledCommits => self.late_commits(stack, &mut bites).await?,
            Disturbance::DeadBroker => {
                sleep(Duration::from_millis(1_200)).await;
                let began = bites.begin();
                let evidence = means::silence_and_kill_broker(stack, Duration::from_secs(2)).await?;
                bites.end(began, "silent_and_killed", "broker", evidence, 0)?;
            }
            Disturbance::LostBinding => {
                let began = bites.begin();
                sleep(Duration::from_millis(2_500)).await;
                bites.end(began, "lost_binding", "inventory", means::bind_again(stack).await?, 0)?;
            }
            Disturbance::SilentMailbox => {
                sleep(Duration::from_millis(700)).await;
                let began = bites.begin();
                let evidence = means::silence_mailbox(stack, NO_GREETING).await?;
                bites.end(began, "pause", "mailbox", evidence, means::MAILS_IN_HAND)?;
            }
        }
        Ok(())
    }

    /// What is under way when a connection is closed is in its commit; when a process dies, there or before it.
    async fn late_commits(&self, stack: &mut Stack, bites: &mut Bites<'_>) -> Result<()> {
        sleep(Duration::from_millis(300)).await;
        let late = bites.begin();
        let moment = match self.disturbance {
            Disturbance::KilledCommits => Moment::WritingAndCommit,
            _ => Moment::Commit,
        };
        means::hinder(stack, means::DELAY, moment).await?;
        sleep(Duration::from_millis(2_500)).await;
        let began = bites.begin();
        if self.disturbance == Disturbance::LateCommits {
            bites.end(began, "close_connections", "broker", means::close_connections(stack).await?, 0)?;
            sleep(Duration::from_secs(1)).await;
        } else {
            let evidence = means::kill(stack, &["orders", "inventory"]).await?;
            bites.end(began, "kill", "orders, inventory", evidence, 0)?;
        }
        bites.end(late, "late_commits", "orders, inventory", means::let_go(stack).await?, 0)
    }
}
