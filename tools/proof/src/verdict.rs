//! What was found: for each invariant whether it holds, and if not, where. As JSON, and as text for people.

use std::fmt;

use serde::Serialize;

/// So many violations of one invariant are shown; the rest is counted.
const SHOWN: usize = 5;

/// What was found about a run.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Of the run.
    pub seed: u64,
    /// How much happened.
    pub counts: Counts,
    /// One for each invariant, in the order in which one explains the next.
    pub findings: Vec<Finding>,
}

/// How much happened.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Counts {
    pub orders: usize,
    pub confirmed: usize,
    pub cancelled: usize,
    pub faults: usize,
    pub kinds_of_faults: usize,
    pub messages: usize,
    /// Published or delivered again.
    pub absorbed: u64,
    /// Requests whose first answer was lost and that were acknowledged in the end.
    pub recovered: usize,
    /// Requests of which nobody was told what came of them.
    pub unclear: usize,
    /// Share of the requests outside of all faults that got a definite answer at once.
    pub acknowledged: f64,
    pub mails: usize,
    pub repeated_mails: usize,
    /// Share of the orders that ended whose payment, mails and goods are all in the trace of their request.
    pub connected: f64,
    pub drained_after_ms: u64,
}

/// What was found about one invariant.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its short name.
    pub invariant: &'static str,
    /// What must hold.
    pub says: &'static str,
    /// Whether it does.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether an invariant holds.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Wherever it was looked at.
    Holds {
        /// In so many places.
        looked_at: usize,
    },
    /// It does not.
    Violated {
        /// Places that were looked at.
        looked_at: usize,
        /// How many of them are wrong.
        count: usize,
        /// The first of them.
        violations: Vec<Violation>,
    },
    /// There was nothing to look at, or it was not asked for.
    NotApplicable {
        /// Why not.
        why: &'static str,
    },
}

/// One place where an invariant does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// What is wrong.
    pub what: String,
    /// Of what: orders, messages, requests.
    pub ids: Vec<String>,
}

/// Looks at one invariant, place by place.
pub(crate) struct Look {
    invariant: &'static str,
    says: &'static str,
    looked_at: usize,
    count: usize,
    violations: Vec<Violation>,
}

impl Look {
    pub(crate) fn new(invariant: &'static str, says: &'static str) -> Self {
        Self { invariant, says, looked_at: 0, count: 0, violations: Vec::new() }
    }

    /// One more place: it is as it should be, or this is what is wrong.
    pub(crate) fn expect(&mut self, holds: bool, ids: &[&str], what: impl FnOnce() -> String) {
        self.looked_at += 1;
        if holds {
            return;
        }
        self.count += 1;
        if self.violations.len() < SHOWN {
            let ids = ids.iter().filter(|id| !id.is_empty()).map(|id| (*id).to_owned()).collect();
            self.violations.push(Violation { what: what(), ids });
        }
    }

    pub(crate) fn done(self) -> Finding {
        let Self { invariant, says, looked_at, count, violations } = self;
        let outcome = match (looked_at, count) {
            (0, _) => Outcome::NotApplicable { why: "there was nothing to look at" },
            (_, 0) => Outcome::Holds { looked_at },
            _ => Outcome::Violated { looked_at, count, violations },
        };
        Finding { invariant, says, outcome }
    }

    /// It was not asked for.
    pub(crate) fn not_applicable(self, why: &'static str) -> Finding {
        Finding { invariant: self.invariant, says: self.says, outcome: Outcome::NotApplicable { why } }
    }
}

impl Finding {
    /// Whether it is broken.
    #[must_use]
    pub fn is_violated(&self) -> bool {
        self.violations() > 0
    }

    fn violations(&self) -> usize {
        match &self.outcome {
            Outcome::Violated { count, .. } => *count,
            Outcome::Holds { .. } | Outcome::NotApplicable { .. } => 0,
        }
    }
}

impl Verdict {
    /// Whether every invariant holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.findings.iter().any(Finding::is_violated)
    }

    /// The short names of the invariants that are broken, the first one first.
    #[must_use]
    pub fn violated(&self) -> Vec<&'static str> {
        self.findings.iter().filter(|finding| finding.is_violated()).map(|finding| finding.invariant).collect()
    }

    /// What was acknowledged is not there.
    pub(crate) const LOST: &[&'static str] = &["acknowledged"];
    /// Something was done twice.
    pub(crate) const DUPLICATE: &[&'static str] = &["one_per_key", "stock_of_orders", "money", "copies"];
    /// More was sold than there is.
    pub(crate) const OVERSOLD: &[&'static str] = &["stock"];

    pub(crate) fn count(&self, invariants: &[&str]) -> usize {
        let those = self.findings.iter().filter(|finding| invariants.contains(&finding.invariant));
        those.map(Finding::violations).sum()
    }

    /// The run in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = &self.counts;
        format!(
            "seed {}: {} orders, {} faults of {} kinds: {} acknowledged lost, {} duplicate effects, {} oversold, {} deliveries duplicated \
             and absorbed, {} unclear requests recovered, drained in {:.1} s",
            self.seed,
            counts.orders,
            counts.faults,
            counts.kinds_of_faults,
            self.count(Self::LOST),
            self.count(Self::DUPLICATE),
            self.count(Self::OVERSOLD),
            counts.absorbed,
            counts.recovered,
            counts.drained_after_ms as f64 / 1e3,
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (violated, fine): (Vec<_>, Vec<_>) = self.findings.iter().partition(|finding| finding.is_violated());
        for Finding { invariant, says, outcome } in violated.into_iter().chain(fine) {
            match outcome {
                Outcome::Holds { looked_at } => writeln!(f, "  holds     {invariant:16} {says} ({looked_at})")?,
                Outcome::NotApplicable { why } => writeln!(f, "  –         {invariant:16} {says}: {why}")?,
                Outcome::Violated { looked_at, count, violations } => {
                    writeln!(f, "  VIOLATED  {invariant:16} {says} ({count} of {looked_at})")?;
                    for Violation { what, ids } in violations {
                        writeln!(f, "              {what} [{}]", ids.join(", "))?;
                    }
                    if *count > violations.len() {
                        writeln!(f, "              … and {} more", count - violations.len())?;
                    }
                }
            }
        }
        let counts = &self.counts;
        writeln!(
            f,
            "  {} orders ({} confirmed, {} cancelled), {} messages, {} mails ({} sent again), {} requests unclear to the end, \
             {:.1} % answered at once outside of faults, {:.1} % of orders with everything in one trace",
            counts.orders,
            counts.confirmed,
            counts.cancelled,
            counts.messages,
            counts.mails,
            counts.repeated_mails,
            counts.unclear,
            counts.acknowledged * 100.0,
            counts.connected * 100.0
        )?;
        write!(f, "{}", self.summary())
    }
}
