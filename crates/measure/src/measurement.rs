//! What a scenario came to: comparisons with their aims, and whether what was measured was right.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Ratios, quantile_of};

/// How much of the limit is enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// A throughput: at least so much of the limit's.
    AtLeast(f64),
    /// A time or a cost: at most so much of the limit's.
    AtMost(f64),
}

/// Whether it was enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The median ratio reaches the aim.
    Reached,
    /// It does not.
    Missed,
}

/// One side of a comparison: a figure for each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    /// What ran.
    pub name: String,
    /// What it came to, in the order of the rounds.
    pub figures: Vec<f64>,
}

/// What is ours beside its limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// What was counted, such as `events per second`.
    pub what: String,
    /// Of the figures, such as `ms`; empty for a mere number.
    pub unit: String,
    /// Ours.
    pub measured: Side,
    /// The least program that does the same.
    pub limit: Side,
    /// Ours to the limit's, round by round.
    pub ratio: Ratios,
    /// How much is enough.
    pub aim: Aim,
    /// Whether it was.
    pub verdict: Verdict,
}

/// Figures without an aim: for the record, or to see a course.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What was counted.
    pub what: String,
    /// Of the figures.
    pub unit: String,
    /// A curve is drawn for each: (x, y).
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
    /// What x is.
    pub over: String,
}

/// Something that must be true of every run, however quick it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What must hold.
    pub says: String,
    /// How many things were looked at.
    pub looked_at: u64,
    /// What does not hold; the first few.
    pub violations: Vec<String>,
}

/// What a scenario came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The scenario's name.
    pub scenario: String,
    /// What was measured, beside what.
    pub says: String,
    /// Ours beside the limits.
    pub comparisons: Vec<Comparison>,
    /// For the record.
    pub records: Vec<Record>,
    /// What else to know, a sentence each.
    pub notes: Vec<String>,
    /// Whether it was right.
    pub checks: Vec<Check>,
    /// How long all of it took.
    pub seconds: f64,
}

impl Aim {
    fn verdict(self, ratio: f64) -> Verdict {
        let reached = match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        };
        if reached { Verdict::Reached } else { Verdict::Missed }
    }

    /// The ratio that just reaches it.
    #[must_use]
    pub fn ratio(self) -> f64 {
        match self {
            Self::AtLeast(ratio) | Self::AtMost(ratio) => ratio,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(ratio) => write!(f, "≥ {ratio}"),
            Self::AtMost(ratio) => write!(f, "≤ {ratio}"),
        }
    }
}

impl Comparison {
    /// The verdict in words, and whether every pair agrees with it.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        let every = !(self.ratio.low..=self.ratio.high).contains(&self.aim.ratio());
        match (self.verdict, every) {
            (Verdict::Reached, true) => "reached",
            (Verdict::Reached, false) => "reached, but not by every pair",
            (Verdict::Missed, true) => "MISSED",
            (Verdict::Missed, false) => "MISSED, but not by every pair",
        }
    }
}

impl Side {
    /// One side by name.
    #[must_use]
    pub fn new(name: &str, figures: &[f64]) -> Self {
        Self { name: name.to_owned(), figures: figures.to_vec() }
    }

    /// The middle figure; 0 of none.
    #[must_use]
    pub fn median(&self) -> f64 {
        quantile_of(&self.figures, 0.5).unwrap_or_default()
    }
}

impl Check {
    /// Whether it held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

impl Measurement {
    /// Nothing yet.
    #[must_use]
    pub fn new(scenario: &str, says: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            says: says.to_owned(),
            comparisons: Vec::new(),
            records: Vec::new(),
            notes: Vec::new(),
            checks: Vec::new(),
            seconds: 0.0,
        }
    }

    /// Adds what is ours beside its limit. Without a single round there is nothing to compare, and nothing is added.
    pub fn compare(&mut self, what: &str, unit: &str, measured: Side, limit: Side, aim: Aim) {
        let Some(ratio) = Ratios::of(&measured.figures, &limit.figures) else { return };
        let verdict = aim.verdict(ratio.median);
        let (what, unit) = (what.to_owned(), unit.to_owned());
        self.comparisons.push(Comparison { what, unit, measured, limit, ratio, aim, verdict });
    }

    /// Adds curves for the record.
    pub fn record(&mut self, what: &str, unit: &str, over: &str, curves: Vec<(String, Vec<(f64, f64)>)>) {
        let (what, unit, over) = (what.to_owned(), unit.to_owned(), over.to_owned());
        self.records.push(Record { what, unit, curves, over });
    }

    /// Adds a sentence.
    pub fn note(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
    }

    /// Adds what was looked at, to what this check has seen in earlier runs.
    pub fn check(&mut self, says: &str, looked_at: u64, violations: Vec<String>) {
        const SHOWN: usize = 10;
        let check = match self.checks.iter_mut().find(|check| check.says == says) {
            Some(check) => check,
            None => {
                self.checks.push(Check { says: says.to_owned(), looked_at: 0, violations: Vec::new() });
                let last = self.checks.len() - 1;
                &mut self.checks[last]
            }
        };
        check.looked_at += looked_at;
        check.violations.extend(violations);
        check.violations.truncate(SHOWN);
    }

    /// Whether everything that was looked at was right. A measurement without a check shows nothing.
    #[must_use]
    pub fn is_correct(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.holds() && check.looked_at > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_judged_by_its_aim() {
        let mut measurement = Measurement::new("x", "y");
        let sides = || (Side::new("ours", &[9.0, 8.0, 10.0]), Side::new("limit", &[10.0, 10.0, 10.0]));
        for aim in [Aim::AtLeast(0.9), Aim::AtLeast(0.95), Aim::AtMost(1.0), Aim::AtMost(0.8)] {
            let (ours, limit) = sides();
            measurement.compare("rate", "1/s", ours, limit, aim);
        }
        let verdicts: Vec<_> = measurement.comparisons.iter().map(|comparison| comparison.verdict).collect();
        assert_eq!(verdicts, [Verdict::Reached, Verdict::Missed, Verdict::Reached, Verdict::Missed]);
        let (ours, limit) = sides();
        measurement.compare("rate", "1/s", ours, limit, Aim::AtLeast(0.7));
        let outcomes: Vec<_> = measurement.comparisons.iter().map(Comparison::outcome).collect();
        let some = "MISSED, but not by every pair";
        assert_eq!(
            outcomes,
            ["reached, but not by every pair", some, "reached, but not by every pair", some, "reached"]
        );
    }

    #[test]
    fn what_was_looked_at_adds_up_and_nothing_looked_at_is_not_right() {
        let mut measurement = Measurement::new("x", "y");
        assert!(!measurement.is_correct());
        measurement.check("nothing is lost", 0, Vec::new());
        assert!(!measurement.is_correct());
        measurement.check("nothing is lost", 5, Vec::new());
        assert!(measurement.is_correct());
        measurement.check("nothing is lost", 5, vec!["one is".to_owned()]);
        assert_eq!((measurement.checks[0].looked_at, measurement.is_correct()), (10, false));
    }
}
