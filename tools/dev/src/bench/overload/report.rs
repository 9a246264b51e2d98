//! What was measured, what was aimed at, and how both are shown.

use std::{fmt, time::Duration};

use measure::{Measurement, Side, quantile};
use serde::Serialize;

use crate::{
    bench::arrivals::{Outcome, PATIENCE, Wish},
    console,
};

/// A storm is over when so much of what comes is taken again,
const RECOVERED: f64 = 0.9;
/// from one of these steps to the end,
const STEP: Duration = Duration::from_millis(500);
/// which is at least so many steps away.
const STEPS: u32 = 4;

/// Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Times {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Times {
    /// `None` of nothing.
    fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_by(f64::total_cmp);
        let milliseconds = |share| quantile(&seconds, share).map(|seconds| seconds * 1e3);
        Some(Self { p50: milliseconds(0.5)?, p99: milliseconds(0.99)?, max: milliseconds(1.0)? })
    }
}

/// How `/readyz` did meanwhile.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Health {
    milliseconds: Option<Times>,
    failed: usize,
}

impl Health {
    pub(super) fn of(seconds: Vec<f64>, failed: usize) -> Self {
        Self { milliseconds: Times::of(seconds), failed }
    }
}

/// One multiple of the peak.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Part {
    multiple: f64,
    offered_per_second: f64,
    /// Taken within the patience of those who asked.
    goodput_per_second: f64,
    /// Orders, of those that were answered too late too, for each second until the last one had come to its end: what was put off meanwhile is
    /// counted so.
    ended_per_second: f64,
    /// Share of the time in which a thread of the server could have worked that it waited for a processor.
    starved: Option<f64>,
    taken: usize,
    refused: usize,
    late: usize,
    failed: usize,
    /// Of those that were taken, from when they were due.
    taken_milliseconds: Option<Times>,
    refused_milliseconds: Option<Times>,
    refused_without_retry_after: usize,
    health: Health,
}

impl Part {
    pub(super) fn of(multiple: f64, wishes: &[Wish], time: Duration, health: Health) -> Self {
        let count = |which: fn(&Outcome) -> bool| wishes.iter().filter(|wish| which(&wish.outcome)).count();
        let taken: Vec<_> = wishes.iter().filter(|wish| is_taken(wish)).map(|wish| wish.took.as_secs_f64()).collect();
        let refusals = wishes.iter().flat_map(|wish| &wish.refusals).map(Duration::as_secs_f64).collect();
        Self {
            multiple,
            offered_per_second: wishes.len() as f64 / time.as_secs_f64(),
            goodput_per_second: taken.len() as f64 / time.as_secs_f64(),
            ended_per_second: f64::NAN,
            starved: None,
            taken: taken.len(),
            refused: count(|outcome| matches!(outcome, Outcome::Refused { .. })),
            late: count(|outcome| *outcome == Outcome::Late),
            failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
            taken_milliseconds: Times::of(taken),
            refused_milliseconds: Times::of(refusals),
            refused_without_retry_after: count(|outcome| *outcome == Outcome::Refused { retry_after: false }),
            health,
        }
    }

    /// So many orders a second came to their end.
    pub(super) fn ended(self, per_second: f64) -> Self {
        Self { ended_per_second: per_second, ..self }
    }

    /// What the server's threads had of the processors meanwhile.
    pub(super) fn served(self, threads: Option<Scheduled>) -> Self {
        Self { starved: threads.map(Scheduled::waiting), ..self }
    }
}

/// How long threads ran, and how long they waited for a processor, in nanoseconds (`/proc/<pid>/task/<tid>/schedstat`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scheduled {
    pub(super) ran: f64,
    pub(super) waited: f64,
}

impl Scheduled {
    /// What has come since an earlier look.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self { ran: self.ran - earlier.ran, waited: self.waited - earlier.waited }
    }

    fn waiting(self) -> f64 {
        self.waited / (self.ran + self.waited)
    }
}

fn is_taken(wish: &Wish) -> bool {
    matches!(wish.outcome, Outcome::Taken(_))
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered_per_second, goodput_per_second, refused, late, failed, .. } = self;
        write!(f, "{offered_per_second:.0} orders/s came, {goodput_per_second:.0} were taken in time; ")?;
        write!(f, "{refused} refused, {late} too late, {failed} failed")
    }
}

/// A rush of people who ask again.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Storm {
    /// Share of what came that was taken, before, meanwhile and afterwards.
    taken: [f64; 3],
    /// From the end of the rush until what comes is taken again; `None`: not while it was looked at.
    recovered_seconds: Option<f64>,
    health: Health,
}

impl Storm {
    pub(super) fn of(before: &[Wish], storm: &[Wish], after: &[Wish], health: Health) -> Self {
        let share = |wishes: &[Wish]| {
            let taken = wishes.iter().filter(|wish| is_taken(wish)).count();
            taken as f64 / wishes.len().max(1) as f64
        };
        Self {
            taken: [before, storm, after].map(share),
            recovered_seconds: recovered(after).map(|time| time.as_secs_f64()),
            health,
        }
    }
}

/// From when on nearly everything that was due was taken in time, at the first try or a later one, to the end: one good moment is none.
fn recovered(after: &[Wish]) -> Option<Duration> {
    let end = after.iter().map(|wish| wish.due).max()?;
    let from = (0_u32..).map(|step| STEP * step).take_while(|from| *from + STEP * STEPS <= end);
    let fine = |from: &Duration| {
        let due = after.iter().filter(|wish| wish.due >= *from);
        let (mut all, mut good) = (0_usize, 0_usize);
        for wish in due {
            all += 1;
            good += usize::from(is_taken(wish) && wish.took <= PATIENCE);
        }
        good as f64 >= RECOVERED * all as f64
    };
    from.into_iter().find(fine)
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, storm, after] = self.taken.map(|share| share * 100.0);
        write!(f, "{before:.0} % taken before, {storm:.0} % in it, {after:.0} % afterwards; ")?;
        match self.recovered_seconds {
            Some(seconds) => write!(f, "as before after {seconds:.1} s"),
            None => write!(f, "never as before"),
        }
    }
}

/// All of it, with limits or without.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Way {
    /// Orders a second, when as many come as can be taken: before everything else, and after it.
    pub(super) peaks: [f64; 2],
    pub(super) parts: Vec<Part>,
    pub(super) storm: Storm,
    pub(super) acknowledged: usize,
    /// Acknowledged, and not in the database.
    pub(super) lost: usize,
}

impl Way {
    fn peak(&self) -> f64 {
        self.peaks.iter().sum::<f64>() / 2.0
    }

    fn part(&self, multiple: f64) -> Option<&Part> {
        self.parts.iter().find(|part| part.multiple == multiple)
    }

    /// Share of the peak that is taken in time.
    fn goodput(&self, multiple: f64, peak: f64) -> f64 {
        self.part(multiple).map_or(0.0, |part| part.goodput_per_second / peak)
    }
}

/// Something that was aimed at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Aim {
    what: &'static str,
    measured: f64,
    aim: f64,
    met: bool,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    with_limits: Way,
    without_limits: Way,
    aims: Vec<Aim>,
}

impl Report {
    pub(super) fn new([with_limits, without_limits]: [Way; 2]) -> Self {
        let aims = aims(&with_limits, &without_limits);
        Self { with_limits, without_limits, aims }
    }

    pub(super) fn show(&self) {
        console::heading("Overload");
        for (name, way) in [("with limits", &self.with_limits), ("without limits", &self.without_limits)] {
            let [before, after] = way.peaks;
            console::heading(format_args!("{name}: at most {before:.0} orders/s before, {after:.0} afterwards"));
            console::line(
                "  × peak   orders/s   in time  of peak   ended/s   taken p50/p99 ms   refused p50/p99 ms   late   failed   health p99 ms   starved",
            );
            for part in &way.parts {
                console::line(row(part, self.with_limits.peak()));
            }
            console::row("retry storm", &way.storm);
            console::row("acknowledged", format_args!("{} orders, {} of them lost", way.acknowledged, way.lost));
        }
        console::heading("Aims");
        for Aim { what, measured, aim, met } in &self.aims {
            console::row(if *met { "met" } else { "MISSED" }, format_args!("{what}: {measured:.2} (aim {aim:.2})"));
        }
    }
}

impl Report {
    /// What the page of all benches shows of it.
    pub(super) fn measurement(&self) -> Measurement {
        let mut all = Measurement::new(
            "overload",
            "`POST /orders` at multiples of the peak, whatever becomes of the orders; goodput is what was taken within a second",
        );
        let Self { with_limits, without_limits, .. } = self;
        let peak = with_limits.peak();
        for (multiple, least) in [(2.0, 0.9), (10.0, 0.8)] {
            let taken = with_limits.part(multiple).map(|part| part.goodput_per_second);
            let (measured, limit) = (Side::new("with limits", taken.as_slice()), Side::new("the peak", &[peak]));
            all.compare(
                &format!("goodput at {multiple} × peak"),
                "orders/s",
                measured,
                limit,
                measure::Aim::AtLeast(least),
            );
        }
        let course = |way: &Way| way.parts.iter().map(|part| (part.multiple, part.goodput_per_second)).collect();
        let curves = vec![
            ("with limits".to_owned(), course(with_limits)),
            ("without limits".to_owned(), course(without_limits)),
        ];
        all.record("goodput", "orders/s", "multiple of the peak", curves);
        if let (Some(peak), Some(most)) = (with_limits.part(1.0), with_limits.part(10.0)) {
            all.note(format!(
                "orders come to their end at {:.0} a second at the peak and at {:.0} at ten times the peak: whoever does what follows an order has \
                 the same processors, and more of them when the server spends its own on refusals",
                peak.ended_per_second, most.ended_per_second
            ));
            if let Some(starved) = most.starved {
                all.note(format!(
                    "at ten times the peak the server's threads wait for a processor for {:.0} % of the time in which they could work",
                    starved * 100.0
                ));
            }
        }
        for Aim { what, measured, aim, met } in &self.aims {
            let verdict = if *met { "met" } else { "missed" };
            all.note(format!("{what}: {measured:.2}, aim {aim:.2}: {verdict}"));
        }
        for way in [with_limits, without_limits] {
            let lost = (way.lost > 0).then(|| format!("{} orders were acknowledged and are not there", way.lost));
            let looked_at = u64::try_from(way.acknowledged).unwrap_or(u64::MAX);
            all.check("an order that was acknowledged is there", looked_at, lost.into_iter().collect());
        }
        all
    }
}

fn row(part: &Part, peak: f64) -> String {
    let pair = |times: &Option<Times>| {
        times.as_ref().map_or_else(|| "–".to_owned(), |times| format!("{:.1} / {:.1}", times.p50, times.p99))
    };
    let health = part.health.milliseconds.as_ref().map_or_else(|| "–".to_owned(), |times| format!("{:.1}", times.p99));
    let starved = part.starved.map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", share * 100.0));
    format!(
        "  {:6} {:10.0} {:9.0} {:6.0} % {:9.0} {:>18} {:>20} {:6} {:8} {:>15} {:>9}",
        part.multiple,
        part.offered_per_second,
        part.goodput_per_second,
        part.goodput_per_second / peak * 100.0,
        part.ended_per_second,
        pair(&part.taken_milliseconds),
        pair(&part.refused_milliseconds),
        part.late,
        part.failed,
        health,
        starved,
    )
}

fn aims(with: &Way, without: &Way) -> Vec<Aim> {
    let at_least = |what, measured: f64, aim: f64| Aim { what, measured, aim, met: measured >= aim };
    let at_most = |what, measured: f64, aim: f64| Aim { what, measured, aim, met: measured <= aim };
    let p99 = |part: Option<&Part>, which: fn(&Part) -> &Option<Times>| {
        part.and_then(|part| which(part).as_ref()).map_or(f64::NAN, |times| times.p99)
    };
    let taken = |multiple| p99(with.part(multiple), |part| &part.taken_milliseconds);
    let refused = |multiple| p99(with.part(multiple), |part| &part.refused_milliseconds);
    let silent: usize = with.parts.iter().map(|part| part.refused_without_retry_after).sum();
    let probes: usize = with.parts.iter().map(|part| part.health.failed).sum();
    vec![
        at_least("goodput at 2 × peak, share of the peak", with.goodput(2.0, with.peak()), 0.9),
        at_least("goodput at 10 × peak, share of the peak", with.goodput(10.0, with.peak()), 0.8),
        at_most("p99 of what is taken at 2 × peak, to that at 0.8", taken(2.0) / taken(0.8), 2.0),
        at_most("p99 of what is taken at 10 × peak, to that at 0.8", taken(10.0) / taken(0.8), 2.0),
        at_most("p99 of refusals at 2 × peak, ms", refused(2.0), 10.0),
        at_most("p99 of refusals at 10 × peak, ms", refused(10.0), 10.0),
        at_most("refusals without Retry-After", silent as f64, 0.0),
        at_most("probes of health that failed", (probes + with.storm.health.failed) as f64, 0.0),
        at_most("orders that were acknowledged and lost", (with.lost + without.lost) as f64, 0.0),
        at_most("seconds from a retry storm to normal", with.storm.recovered_seconds.unwrap_or(f64::INFINITY), 5.0),
        at_most("goodput at 10 × peak without limits, share of the peak", without.goodput(10.0, with.peak()), 0.5),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(due_ms: u64, outcome: Outcome) -> Wish {
        Wish { due: Duration::from_millis(due_ms), took: Duration::from_millis(20), refusals: Vec::new(), outcome }
    }

    #[test]
    fn a_storm_is_over_when_what_comes_is_taken_again_for_a_while() {
        let taken = |due| wish(due, Outcome::Taken(String::new()));
        let every_tenth = |from: u64, to: u64| (from..to).step_by(10);
        let all = every_tenth(0, 1_000).map(|due| wish(due, Outcome::Late)).chain(every_tenth(1_000, 5_000).map(taken));
        assert_eq!(recovered(&all.collect::<Vec<_>>()), Some(Duration::from_secs(1)));
        let relapse =
            every_tenth(0, 1_000).map(taken).chain(every_tenth(1_000, 5_000).map(|due| wish(due, Outcome::Late)));
        assert_eq!(recovered(&relapse.collect::<Vec<_>>()), None);
    }

    #[test]
    fn what_is_taken_refused_and_late_is_told_apart() {
        let mut refused = wish(0, Outcome::Refused { retry_after: true });
        refused.refusals.push(Duration::from_millis(3));
        let wishes = [refused, wish(1, Outcome::Late), wish(2, Outcome::Taken("7".to_owned()))];
        let part = Part::of(2.0, &wishes, Duration::from_secs(1), Health::of(vec![0.001], 0))
            .served(Some(Scheduled { ran: 1.0, waited: 3.0 }));
        assert_eq!((part.goodput_per_second, part.starved), (1.0, Some(0.75)));
        assert_eq!((part.taken, part.refused, part.late, part.failed), (1, 1, 1, 0));
        assert_eq!(part.taken_milliseconds.unwrap().p50, 20.0);
        assert_eq!(part.refused_milliseconds.unwrap().max, 3.0);
    }
}
