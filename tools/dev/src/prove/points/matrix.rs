//! Every point in every mode, over one stack at work: each service is taken through its modes, with all of its points armed at once, while
//! the other services are in whatever mode they are. What is never reached is written down as a fault that did not bite.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use failpoints::Reached;
use proof::ledger::{Evidence, Fault};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{Case, Folders, Mode, keep};
use crate::{
    console::{self, Step},
    files,
    prove::{faults::messages, ledger::Ledger, plan::Plan, random::Random},
    replicas,
    services::SERVICES,
    stack::Stack,
    state::ServiceProcess,
};

const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Until a point has to be reached: longer than the longest wait of an order, with room for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often what leads to a point is done again, as long as nobody came there.
const LEAD_AGAIN: Duration = Duration::from_secs(10);
/// The stream of random numbers of what is made up on the way.
const ON_THE_WAY: u64 = 3 << 40;

/// What is left to be done, and what is under way.
pub(in crate::prove) struct Matrix<'a> {
    folders: &'a Folders,
    run: &'a Path,
    ledger: &'a Ledger,
    tracks: Vec<Track>,
    started: u64,
    /// Processes that may end: it was wanted.
    doomed: BTreeSet<i32>,
    /// Every process that there was: what one has left may be found when another one has taken its place.
    labels: BTreeMap<i32, String>,
    /// Points that nobody came to.
    unreached: Vec<String>,
    random: Random,
}

/// One service on its way through its modes.
struct Track {
    service: &'static str,
    waves: VecDeque<Vec<Case>>,
    open: Vec<Open>,
}

/// A case that is armed, or has bitten and is not over.
struct Open {
    id: u64,
    case: Case,
    start_ms: u64,
    armed: Instant,
    /// When what leads to the point was last done.
    led: Option<Instant>,
    poisons: Vec<String>,
    bite: Option<Bite>,
}

struct Bite {
    at: Instant,
    pid: i32,
    label: String,
}

impl<'a> Matrix<'a> {
    pub(in crate::prove) fn new(plan: &Plan, folders: &'a Folders, run: &'a Path, ledger: &'a Ledger) -> Self {
        let tracks = SERVICES.into_iter().map(|service| Track::new(service.name, &plan.points)).collect();
        let random = Random::new(plan.seed, ON_THE_WAY);
        Self {
            folders,
            run,
            ledger,
            tracks,
            started: 0,
            doomed: BTreeSet::new(),
            labels: BTreeMap::new(),
            unreached: Vec::new(),
            random,
        }
    }

    /// Until everything has been done and every process is up again.
    pub(in crate::prove) async fn carry_out(&mut self, stack: &mut Stack) -> Result<()> {
        let mut step = Step::start("points", "making processes fail at each of them");
        let all: usize = self.tracks.iter().map(Track::left).sum();
        while self.tracks.iter().any(|track| track.left() > 0) {
            let running = stack.state.services.iter();
            self.labels
                .extend(running.map(|known| (known.process.pid(), replicas::label(&known.service, known.replica))));
            // First who has ended, then who has left something: so whoever was made to end is known by then.
            let ended = stack.state.services.iter().filter(|known| !known.process.is_running());
            let ended: Vec<_> = ended.cloned().collect();
            for place in 0..self.tracks.len() {
                self.advance(place, stack).await?;
            }
            for process in ended {
                self.start_again(stack, &process).await?;
            }
            let left: usize = self.tracks.iter().map(Track::left).sum();
            step.note(&format!("{} of {all} done", all - left));
            sleep(LOOK_AGAIN).await;
        }
        stack.start_services().await?;
        if self.unreached.is_empty() {
            step.done(format_args!("{all} cases"));
        } else {
            step.failed(format_args!("{} of {all} cases: nobody came there", self.unreached.len()));
            self.unreached.iter().for_each(|what| console::row("", what));
        }
        Ok(())
    }

    async fn start_again(&mut self, stack: &mut Stack, ended: &ServiceProcess) -> Result<()> {
        let label = replicas::label(&ended.service, ended.replica);
        let log = stack.state.log(&label);
        let pid = ended.process.pid();
        ensure!(self.doomed.contains(&pid), "{label} ({pid}) has ended by itself:\n{}", files::tail(&log, 25));
        stack.start_service(&ended.service).await
    }

    async fn advance(&mut self, place: usize, stack: &Stack) -> Result<()> {
        let Some(track) = self.tracks.get_mut(place) else { bail!("there is no such track") };
        if track.open.is_empty() {
            for case in track.waves.pop_front().unwrap_or_default() {
                self.started += 1;
                case.arm(self.folders)?;
                let start_ms = self.ledger.now_ms();
                track.open.push(Open {
                    id: self.started,
                    case,
                    start_ms,
                    armed: Instant::now(),
                    led: None,
                    poisons: Vec::new(),
                    bite: None,
                });
            }
        }
        let mut helpers = BTreeSet::new();
        for mut open in std::mem::take(&mut track.open) {
            if open.bite.is_none()
                && let Some((pid, left)) = self.folders.taken(track.service, open.case.point.name)
            {
                keep(&left, self.run, open.id)?;
                open.bite = Some(Bite { at: Instant::now(), pid, label: label(&self.labels, pid)? });
                if matches!(open.case.mode, Mode::Abort | Mode::Panic) {
                    self.doomed.insert(pid);
                }
            }
            let over = match &open.bite {
                Some(bite) => open.is_over(bite, stack),
                None if open.armed.elapsed() < PATIENCE => {
                    open.lead(self.folders, stack, &mut helpers, &mut self.doomed, &mut self.random).await?;
                    false
                }
                // Whoever takes it at this very moment is seen the next time.
                None => self.folders.disarm(track.service, open.case.point.name),
            };
            if !over {
                track.open.push(open);
                continue;
            }
            let fault = open.over(self.ledger.now_ms());
            if fault.evidence.count == 0 {
                self.unreached.push(format!("{} {}", fault.kind, fault.target));
            }
            self.ledger.write_fault(&fault)?;
        }
        track.end_helpers(self.folders, &helpers);
        Ok(())
    }
}

impl Track {
    fn new(service: &'static str, cases: &[Case]) -> Self {
        let mut waves: VecDeque<Vec<Case>> = VecDeque::new();
        for case in cases.iter().filter(|case| case.point.service == service) {
            match waves.back_mut() {
                Some(wave) if wave.iter().all(|known| known.mode == case.mode) => wave.push(*case),
                _ => waves.push_back(vec![*case]),
            }
        }
        Self { service, waves, open: Vec::new() }
    }

    fn left(&self) -> usize {
        self.open.len() + self.waves.iter().map(Vec::len).sum::<usize>()
    }

    /// Takes back the errors that led to points which are reached by now.
    fn end_helpers(&self, folders: &Folders, wanted: &BTreeSet<&'static str>) {
        for point in failpoints::POINTS {
            if let Reached::AfterError(helper) = point.reached
                && point.service == self.service
                && !wanted.contains(helper)
            {
                folders.disarm(self.service, helper);
            }
        }
    }
}

impl Open {
    /// Does what has to happen for the point to be reached, as far as customers do not do it.
    async fn lead(
        &mut self,
        folders: &Folders,
        stack: &Stack,
        helpers: &mut BTreeSet<&'static str>,
        doomed: &mut BTreeSet<i32>,
        random: &mut Random,
    ) -> Result<()> {
        let service = self.case.point.service;
        let again = self.led.is_none_or(|led| led.elapsed() > LEAD_AGAIN);
        match self.case.point.reached {
            Reached::Always | Reached::Sometimes => {}
            Reached::AfterError(helper) => {
                helpers.insert(helper);
                if !folders.is_armed(service, helper) {
                    folders.arm(service, helper, "error 1")?;
                }
            }
            Reached::AtStart if again => {
                let process = stack.state.services.iter().find(|known| known.service == service);
                let process = &process.context("no process of the service runs")?.process;
                doomed.insert(process.pid());
                process.signal(Signal::TERM)?;
            }
            Reached::ByPoison if again => {
                self.poisons.push(messages::poison(stack, service, random).await?);
            }
            Reached::AtStart | Reached::ByPoison => {}
        }
        if again {
            self.led = Some(Instant::now());
        }
        Ok(())
    }

    fn is_over(&self, bite: &Bite, stack: &Stack) -> bool {
        match self.case.mode {
            Mode::Abort => {
                !stack.state.services.iter().any(|known| known.process.pid() == bite.pid && known.process.is_running())
            }
            Mode::Hang => bite.at.elapsed() > Duration::from_secs(self.case.point.outlasts_s),
            Mode::Error | Mode::Panic => true,
        }
    }

    fn over(&self, now_ms: u64) -> Fault {
        let Case { point, mode, at_hit } = self.case;
        let evidence = match &self.bite {
            Some(bite) => Evidence {
                count: 1,
                text: format!("{} (process {}) took it at hit {at_hit} or later", bite.label, bite.pid),
            },
            None => Evidence { count: 0, text: "nobody came there".to_owned() },
        };
        Fault {
            id: self.id,
            kind: format!("point_{}", mode.name()),
            target: format!("{} of {}", point.name, point.service),
            start_ms: self.start_ms,
            end_ms: now_ms,
            evidence,
            mails_in_hand: self.case.mails_in_hand(),
            mails_refused: 0,
            poisons: self.poisons.clone(),
        }
    }
}

/// Whose process it is, or was.
fn label(labels: &BTreeMap<i32, String>, pid: i32) -> Result<String> {
    labels.get(&pid).cloned().with_context(|| format!("process {pid} is none of the stack's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::points::matrix as cases;

    #[test]
    fn a_service_is_in_one_mode_at_a_time_and_comes_to_all_of_its_cases() {
        let cases = cases(3);
        let tracks: Vec<_> = SERVICES.into_iter().map(|service| Track::new(service.name, &cases)).collect();
        assert_eq!(tracks.iter().map(Track::left).sum::<usize>(), cases.len());
        for track in tracks {
            assert_eq!(track.waves.len(), 4, "{}", track.service);
            for wave in track.waves {
                assert!(wave.windows(2).all(|pair| pair[0].mode == pair[1].mode && pair[0].point != pair[1].point));
            }
        }
    }
}
