//! What a run of the shop must have left behind, whatever was done to it meanwhile, and a checker that says whether it did.
//!
//! A run is a folder. Whoever drives the shop writes down every request before it is sent and what came back ([`ledger`]), witnesses that
//! the shop does not control write down what they saw (a queue that hears everything, the mailbox, the broker), and at the end the tables
//! of the services are copied ([`dumps`]). [`check`] compares all of it and names what does not fit, with the ids involved.
//!
//! It depends on no code of the shop and talks to nothing: what it knows of orders, stock and money is written down here a second time,
//! from the outside. It decides nothing about how a run is made; `cargo dev prove` makes them.

pub mod dumps;
mod flat;
mod floors;
mod index;
pub mod ledger;
mod liveness;
mod mail;
mod messages;
mod money;
mod operations;
mod orders;
pub mod plan;
mod punctual;
mod report;
mod run;
mod saga;
mod stock;
mod traces;
mod verdict;

use index::Index;

pub use report::{report, summary};
pub use run::{BadRun, Run};
pub use verdict::{Counts, Finding, Outcome, Verdict, Violation};

/// Judges a run: every invariant, in the order in which one explains the next.
#[must_use]
pub fn check(run: &Run) -> Verdict {
    let index = Index::of(run);
    let findings = vec![
        operations::sound(&index),
        orders::acknowledged(&index),
        orders::refused(&index),
        orders::whole(&index),
        orders::asked_for(&index),
        orders::one_per_key(&index),
        saga::legal(&index),
        saga::announced(&index),
        saga::heard(&index),
        punctual::punctual(&index),
        stock::conserved(&index),
        stock::of_each_order(&index),
        money::charged_once(&index),
        mail::letters(&index),
        mail::copies(&index),
        messages::published(&index),
        messages::handled(&index),
        messages::ordered(&index),
        messages::parked(&index),
        liveness::drained(&index),
        liveness::settled(&index),
        flat::flat(&index),
        traces::connected(&index),
        floors::reached(&index),
        floors::undisturbed(&index),
    ];
    Verdict { seed: run.plan.seed, counts: floors::counts(&index), findings }
}
