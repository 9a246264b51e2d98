//! What is done to the shop, episode by episode, and what shows each time that it bit. Each fault has a beginning and an end, so that two
//! can be on at once; how each kind is done is a matter of [`processes`], [`points`], [`broker`], [`cluster`], [`database`], [`network`],
//! [`messages`], [`mail`] and [`surroundings`].
//! Nothing is done to engines that were given.

mod broker;
mod cluster;
mod database;
mod mail;
pub(super) mod messages;
mod network;
mod points;
mod processes;
mod surroundings;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use proof::ledger::{Evidence, Fault, Tapped};
use rustix::process::Signal;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use wire::Injection;

use super::{
    kinds::{Ground, Kind},
    ledger::Ledger,
    plan::Plan,
    schedule::{Episode, PlannedFault},
};
use crate::{
    binaries::Binaries, console, engines::private_rabbitmq::Node, process::Tracked, replicas, shop::eventually,
    stack::Stack, state::ServiceProcess,
};

/// Mails that one process of notifications has in hand at most (its setting MAIL_CONCURRENCY).
const MAILS_IN_HAND: u64 = 4;
/// Until everything is as before; more than a service takes to drain and an engine to recover.
const HEAL_PATIENCE: Duration = Duration::from_secs(120);
/// Until whatever was told to stand still does.
const HALT_PATIENCE: Duration = Duration::from_secs(5);

/// What faults are done to.
pub(super) struct World<'a> {
    pub(super) stack: &'a mut Stack,
    /// Another commit's programs, where there are some.
    pub(super) other: Option<&'a Binaries>,
    /// Deliveries that the broker counted as made again before it forgot.
    pub(super) redelivered: &'a mut u64,
    /// What the queue that hears everything held before it was lost.
    pub(super) heard: &'a mut Vec<Tapped>,
}

/// A fault that is on.
pub(super) struct Open {
    /// What was seen of it so far.
    pub(super) seen: Evidence,
    pub(super) undo: Undo,
    /// Ids of messages that were made to fail.
    pub(super) poisons: Vec<String>,
}

/// What has to be done at its end.
pub(super) enum Undo {
    Nothing,
    /// Its processes that do not run.
    StartService(&'static str),
    /// These follow, when those before them are there again.
    Restart(Vec<ServiceProcess>),
    StartEngines,
    /// One broker of three is to be there again.
    Rejoin(cluster::Victim),
    /// These brokers follow, when those before them are there again.
    RestartBrokers(Vec<Node>),
    Continue(Vec<Tracked>),
    /// Ends by itself.
    Await(JoinSet<Result<u64>>),
    /// The queue has to be filled from when on.
    Replay(String),
    /// It is over when it is dropped.
    Heal(Injection),
    /// What the mailbox was told under this number is to be taken back.
    Withdraw(u64),
    /// Every queue of a broker that knows nothing has to be filled, and these go on then.
    RefillAll(String, Vec<Tracked>),
    /// Its clock is right again.
    RightClock(&'static str),
}

impl Open {
    fn new(count: u64, text: impl Into<String>, undo: Undo) -> Self {
        Self { seen: Evidence { count, text: text.into() }, undo, poisons: Vec::new() }
    }
}

/// What is planned, and what was seen of it.
pub(super) struct Faults {
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    other: Option<Binaries>,
    written: u64,
    /// Deliveries that the broker counted as made again before it forgot.
    pub(super) redelivered: u64,
    /// What the queue that hears everything held before it was lost.
    pub(super) heard: Vec<Tapped>,
}

/// Something that is due.
struct Due {
    at_ms: u64,
    fault: usize,
    is_end: bool,
}

impl Faults {
    pub(super) fn new(plan: &Arc<Plan>, ledger: &Arc<Ledger>, other: Option<Binaries>) -> Self {
        Self {
            plan: Arc::clone(plan),
            ledger: Arc::clone(ledger),
            other,
            written: 0,
            redelivered: 0,
            heard: Vec::new(),
        }
    }

    /// One episode, until the shop is whole again. Says when it wants orders: some faults end only when they have hit something, and by then
    /// all that were planned may be placed.
    pub(super) async fn inject(
        &mut self,
        stack: &mut Stack,
        episode: &Episode,
        wanted: watch::Sender<bool>,
    ) -> Result<()> {
        let begin = Instant::now();
        let mut open: Vec<Option<(u64, Open)>> = episode.faults.iter().map(|_| None).collect();
        let mut over = Vec::new();
        for due in in_time(episode) {
            sleep_until(begin + Duration::from_millis(due.at_ms)).await;
            let (Some(planned), Some(slot)) = (episode.faults.get(due.fault), open.get_mut(due.fault)) else {
                continue;
            };
            let doing = format!("{} {}", planned.kind.about().name, target(planned));
            let world = &mut World {
                stack,
                other: self.other.as_ref(),
                redelivered: &mut self.redelivered,
                heard: &mut self.heard,
            };
            match slot.take() {
                Some((start_ms, fault)) => {
                    let poisons = fault.poisons.clone();
                    wanted.send_replace(true);
                    let evidence = end(world, planned, fault).await.with_context(|| format!("{doing}: its end"))?;
                    wanted.send_replace(false);
                    over.push((planned, start_ms, evidence, poisons));
                }
                None => {
                    let start_ms = self.ledger.now_ms();
                    *slot = Some((start_ms, start(world, planned).await.with_context(|| doing)?));
                }
            }
        }
        healed(stack).await?;
        for (planned, start_ms, evidence, poisons) in over {
            self.written += 1;
            let fault = Fault {
                id: self.written,
                kind: planned.kind.about().name.to_owned(),
                target: target(planned),
                start_ms,
                end_ms: self.ledger.now_ms(),
                mails_in_hand: mails_in_hand(planned, &evidence, self.plan.replicas),
                mails_refused: if planned.kind == Kind::MailRefused { evidence.count } else { 0 },
                evidence,
                poisons,
            };
            let Fault { id, kind, target, evidence, .. } = &fault;
            console::row("fault", format_args!("{id} {:?}: {kind} {target}: {}", episode.shape, evidence.text));
            self.ledger.write_fault(&fault)?;
        }
        Ok(())
    }
}

/// Beginnings and ends, by time; what is over at once ends before anything else begins. What bites only while the shop works ends after everything
/// that keeps it from working.
fn in_time(episode: &Episode) -> Vec<Due> {
    let last_ms = episode.faults.iter().map(|planned| planned.after_ms + planned.for_ms).max().unwrap_or_default();
    let both = |(fault, planned): (usize, &PlannedFault)| {
        let (from, to) = (planned.after_ms, planned.after_ms + planned.for_ms);
        let to = if bites_at_work(planned.kind) { last_ms } else { to };
        [Due { at_ms: from, fault, is_end: false }, Due { at_ms: to, fault, is_end: true }]
    };
    let mut all: Vec<Due> = episode.faults.iter().enumerate().flat_map(both).collect();
    let is_patient =
        |due: &Due| due.is_end && episode.faults.get(due.fault).is_some_and(|planned| bites_at_work(planned.kind));
    all.sort_by_key(|due| (due.at_ms, is_patient(due), due.fault, due.is_end));
    all
}

/// Its end waits for a mail, an event or a transaction that it hits, or for a process that comes to a point.
fn bites_at_work(kind: Kind) -> bool {
    use Kind::{
        CutAfterPublishes, CutReply, CutTransaction, Deadlocks, FullQueue, LateDelivery, LostCommitReply, LostConfirm,
        LostConsumerAck, MailDeferred, MailHangs, MailRefused, MailReplyLost, Point,
    };
    matches!(
        kind,
        MailReplyLost
            | MailDeferred
            | MailRefused
            | MailHangs
            | FullQueue
            | Point
            | Deadlocks
            | LostConfirm
            | LostConsumerAck
            | LateDelivery
            | CutAfterPublishes
            | LostCommitReply
            | CutTransaction
            | CutReply
    )
}

async fn start(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    match planned.kind.about().ground {
        Ground::Processes if planned.kind == Kind::Point => points::begin(world, planned).await,
        Ground::Processes => processes::begin(world, planned).await,
        Ground::Broker => broker::begin(world, planned).await,
        Ground::Cluster => cluster::begin(world, planned).await,
        Ground::Database => database::begin(world, planned).await,
        Ground::Network => network::begin(world, planned).await,
        Ground::Surroundings if planned.kind == Kind::PauseBackend => surroundings::begin(world, planned).await,
        Ground::Surroundings => mail::begin(world, planned).await,
        Ground::Messages => messages::begin(world, planned).await,
    }
}

async fn end(world: &mut World<'_>, planned: &PlannedFault, open: Open) -> Result<Evidence> {
    match planned.kind.about().ground {
        Ground::Processes if planned.kind == Kind::Point => points::end(world, planned, open).await,
        Ground::Processes => processes::end(world, planned, open).await,
        Ground::Broker => broker::end(world, planned, open).await,
        Ground::Cluster => cluster::end(world, planned, open).await,
        Ground::Database => database::end(world, planned, open).await,
        Ground::Network => network::end(world, planned, open).await,
        Ground::Surroundings if planned.kind == Kind::PauseBackend => surroundings::end(world, planned, open).await,
        Ground::Surroundings => mail::end(world, planned, open).await,
        Ground::Messages => messages::end(world, planned, open).await,
    }
}

fn service(planned: &PlannedFault) -> Result<&'static str> {
    planned.service.context("a service is planned")
}

/// Has all of these stand still; how many do. A signal takes a moment, on a busy machine a longer one.
async fn halt(all: &[Tracked]) -> Result<u64> {
    all.iter().try_for_each(|process| process.signal(Signal::STOP))?;
    let begin = Instant::now();
    loop {
        let still = all.iter().filter(|process| process.is_stopped()).count();
        if still == all.len() || begin.elapsed() > HALT_PATIENCE {
            return Ok(still as u64);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What was stopped is started. The ports of a process that was killed may be taken for a moment more.
async fn start_engines(stack: &mut Stack) -> Result<()> {
    let mut tries = 0;
    while let Err(error) = stack.start_rabbitmq().await {
        tries += 1;
        ensure!(tries < 5, "an engine does not start again: {error:#}");
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Waits until every process is ready, and does what it is there for.
async fn healed(stack: &mut Stack) -> Result<()> {
    for running in &stack.state.services {
        let label = replicas::label(&running.service, running.replica);
        eventually(&format!("{label} to be ready again"), HEAL_PATIENCE, async || {
            ensure!(running.process.is_running(), "{label} has ended by itself");
            Ok(replicas::at_work(running.port).await.ok())
        })
        .await?;
    }
    Ok(())
}

fn target(planned: &PlannedFault) -> String {
    match (planned.service, planned.replica, planned.kind.about().ground) {
        (Some(service), Some(replica), _) => replicas::label(service, replica),
        (Some(service), None, _) => service.to_owned(),
        (None, _, Ground::Processes) => "a process".to_owned(),
        (None, _, Ground::Database) => "database".to_owned(),
        (None, _, Ground::Surroundings) if planned.kind == Kind::PauseBackend => "mail server and collector".to_owned(),
        (None, _, Ground::Surroundings) => "mail server".to_owned(),
        (None, _, Ground::Network) if planned.kind.is_of_the_database() => "database".to_owned(),
        (None, _, Ground::Cluster) => "cluster".to_owned(),
        (None, ..) => "broker".to_owned(),
    }
}

/// A mail is sent again where its sender died, slept past its lease or lost its database between the mail server's yes and its own record,
/// and where the mail server's yes was lost.
fn mails_in_hand(planned: &PlannedFault, evidence: &Evidence, replicas: u16) -> u64 {
    let of_notifications = planned.service == Some("notifications");
    let all = MAILS_IN_HAND * u64::from(replicas);
    match planned.kind {
        Kind::Point => points::mails_in_hand(planned),
        Kind::Kill | Kind::Pause | Kind::Terminate | Kind::OtherVersion if of_notifications => MAILS_IN_HAND,
        Kind::TerminateSessions
        | Kind::RollingRestart
        | Kind::LockedTable
        | Kind::ClockAhead
        | Kind::ClockBehind
        | Kind::FullQueue
            if of_notifications =>
        {
            all
        }
        // A session a time, each of one mail.
        Kind::TerminateOften if of_notifications => planned.for_ms / database::OFTEN_MS + 1,
        Kind::MailReplyLost => evidence.count,
        // One session, of one mail.
        Kind::CutTransaction | Kind::CutReply if of_notifications => 1,
        Kind::DatabaseGone | Kind::DatabaseSilent | Kind::DatabaseRefused => all,
        Kind::CrashDatabase | Kind::KillDatabase | Kind::PauseDatabase | Kind::PauseBackend => all,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::{random::Random, schedule::Shape};

    #[test]
    fn what_is_over_at_once_ends_before_the_next_begins() {
        let mut random = Random::new(1, 1);
        let mut fault = |after_ms, for_ms| PlannedFault {
            for_ms,
            ..crate::prove::schedule::fault(&mut random, Kind::Kill, after_ms)
        };
        let episode = Episode { shape: Shape::Storm, faults: vec![fault(0, 500), fault(100, 0), fault(100, 50)] };
        let order: Vec<_> = in_time(&episode).iter().map(|due| (due.fault, due.is_end)).collect();
        assert_eq!(order, [(0, false), (1, false), (1, true), (2, false), (2, true), (0, true)]);
    }

    #[test]
    fn what_waits_for_a_mail_ends_when_there_can_be_one() {
        let mut random = Random::new(1, 1);
        let mut fault = |kind, after_ms, for_ms| PlannedFault {
            for_ms,
            ..crate::prove::schedule::fault(&mut random, kind, after_ms)
        };
        let faults = vec![fault(Kind::MailRefused, 0, 100), fault(Kind::DatabaseSilent, 50, 500)];
        let order: Vec<_> =
            in_time(&Episode { shape: Shape::Overlapping, faults }).iter().map(|due| (due.fault, due.is_end)).collect();
        assert_eq!(order, [(0, false), (1, false), (1, true), (0, true)]);
    }
}
