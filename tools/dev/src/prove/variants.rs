//! The known-bad variants of the shop: each lacks one guarantee, and the checker must say so. A checker that has never said no proves
//! nothing. The table names for each variant what it lacks, what must be found violated, and the drill ([`drills`]) that brings it out
//! fastest; [`hunt`] runs them. The guarantees themselves are taken away in the code of the shop (`if without("…")`, crate `failpoints`).

mod drills;
mod hunt;
mod means;

use anyhow::{Result, bail};

pub(super) use hunt::hunt;

use drills::Drill;

/// A shop that lacks one guarantee.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// The name of what is taken away, in the code (`without("…")`).
    pub(super) switch: &'static str,
    /// What is guaranteed as long as it is there.
    pub(super) guarantee: &'static str,
    /// One of these invariants must be violated.
    pub(super) invariants: &'static [&'static str],
    /// What brings it out.
    pub(super) drill: &'static Drill,
}

macro_rules! variants {
    ($($drill:ident { $($switch:literal $invariants:tt $guarantee:literal)* })*) => {
        &[$($(Variant { switch: $switch, guarantee: $guarantee, invariants: &$invariants, drill: &drills::$drill },)*)*]
    };
}

/// All of them, by the drill that they share.
pub(super) const VARIANTS: &[Variant] = variants! {
    CALM {
        "message-id" ["published"] "An event keeps its message id on every way it takes."
        "trace-context" ["one_trace"] "Everything that comes of a request is in the trace of the request."
        "dead-letters" ["parked"] "What cannot be handled is kept, with the reason."
        "reject" ["drained", "parked"] "What cannot be read does not block what comes after it."
        "stock-release" ["stock_of_orders", "settled"] "A cancelled order gives its goods back."
        "provider-keys" ["money"] "The provider is asked for one payment under one key, however often it is asked."
        "mail-ids" ["letters"] "A mail keeps its Message-ID at every attempt."
    }
    TWINS {
        "leases" ["undisturbed"] "Of several relays one works on a lane, so that nothing is published twice on a quiet day."
        "job-leases" ["copies", "undisturbed"] "Of several workers one does a job, so that no mail goes out twice on a quiet day."
    }
    REFUSED_COMMITS {
        "rollback" ["whole", "announced", "asked_for"] "An event of a transaction that is rolled back is never published."
        "inbox-in-transaction" ["heard", "drained"] "That a message was handled is committed with its effect."
        "retries" ["handled", "drained"] "A message whose handling failed is tried again."
        "waiting" ["ordered"] "A message waits behind an earlier one of its key that failed."
        "answer-in-transaction" ["acknowledged"] "The answer to a key is stored with the order that it promises."
        "answer-after-commit" ["acknowledged"] "An order is acknowledged when it is committed, and not before."
    }
    LATE_COMMITS {
        "pending-rows" ["drained"] "An event that commits late is published, though later numbers were published before it."
        "inbox" ["heard"] "A message that is delivered twice has its effect once."
        "one-statement" ["stock"] "The stock that is checked is the stock that is taken."
        "supervisor" ["drained"] "A consumer whose subscription was lost subscribes again."
    }
    KILLED_COMMITS {
        "one-transaction" ["whole", "announced"] "Rows and events are committed together, or not at all."
        "manual-ack" ["handled"] "A message that is being handled when the process dies is delivered again."
        "ack-after-commit" ["handled"] "A message is acknowledged when its effect is committed, and not before."
        "idempotency-keys" ["one_per_key"] "A request that is sent again with its key is one order."
    }
    DEAD_BROKER {
        "settle-after-confirm" ["published", "handled"] "An event counts as published when the broker has confirmed it."
    }
    LOST_BINDING {
        "returns" ["handled", "drained"] "An event that reaches no queue is held until one is bound."
    }
    IMPATIENT_ORDERS {
        "schedule" ["punctual"] "A scheduled event does not come before its time."
        "promotion" ["punctual", "settled"] "A scheduled event comes when its time is there."
        "deadlines" ["punctual"] "An order waits for an answer as long as was promised, and no longer."
        "refunds" ["money"] "What was taken for an order that was cancelled goes back."
        "late-payments" ["money"] "A payment is called off at the provider, not only with us."
    }
    IMPATIENT_GOODS {
        "reservation-end" ["punctual"] "Goods that nobody pays for in time are free again."
        "release-once" ["stock_of_orders", "announced"] "Goods are given back once, whoever asks for it."
    }
    SILENT_MAILBOX {
        "sent-after-sending" ["letters"] "A letter counts as sent when the mail server has taken it."
    }
};

/// One of so many parts of equal size, in order: variants that share a drill stay together, but for those at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// From 1.
    number: usize,
    of: usize,
}

impl Default for Part {
    /// Everything.
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl Part {
    pub(super) fn of<T>(self, all: &[T]) -> &[T] {
        let from = |number: usize| all.len() * number / self.of;
        &all[from(self.number - 1)..from(self.number)]
    }
}

pub(super) fn parse_part(text: &str) -> Result<Part, String> {
    let part =
        text.split_once('/').and_then(|(number, of)| Some(Part { number: number.parse().ok()?, of: of.parse().ok()? }));
    part.filter(|part| (1..=part.of).contains(&part.number))
        .ok_or_else(|| "a part is such as 2/3, the second of three".to_owned())
}

/// The variants with these names; all of them if none is named.
pub(super) fn named(switches: &[String]) -> Result<Vec<Variant>> {
    if switches.is_empty() {
        return Ok(VARIANTS.to_vec());
    }
    let find = |switch: &String| match VARIANTS.iter().find(|variant| variant.switch == switch) {
        Some(variant) => Ok(*variant),
        None => {
            let known: Vec<_> = VARIANTS.iter().map(|variant| variant.switch).collect();
            bail!("there is no variant without {switch:?}; there is {}", known.join(", "))
        }
    };
    switches.iter().map(find).collect()
}

/// What a run without guarantees showed about each of them, for people.
pub(super) fn explain(without: &[Variant], violated: &[&str]) -> Vec<String> {
    let explained = without.iter().map(|Variant { switch, guarantee, invariants, drill }| {
        let hit: Vec<&str> = invariants.iter().copied().filter(|name| violated.contains(name)).collect();
        let outcome = if hit.is_empty() {
            format!(
                "nothing of that was seen here: luck, not safety. `cargo dev prove --mutants {switch}` brings it out with {}",
                drill.what
            )
        } else {
            format!("it does not hold here: see {} above", hit.join(", "))
        };
        format!("without {switch}, this is no longer guaranteed: {guarantee}\n{:19}{outcome}", "")
    });
    explained.collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn no_two_variants_lack_the_same() {
        let switches: BTreeSet<_> = VARIANTS.iter().map(|variant| variant.switch).collect();
        assert_eq!(switches.len(), VARIANTS.len());
        assert!(VARIANTS.len() >= 24);
    }

    #[test]
    fn an_unknown_name_is_refused_and_no_name_means_all() {
        assert_eq!(named(&[]).unwrap().len(), VARIANTS.len());
        assert_eq!(named(&["inbox".to_owned()]).unwrap()[0].switch, "inbox");
        assert!(named(&["inbox".to_owned(), "outbux".to_owned()]).is_err());
    }

    #[test]
    fn every_variant_is_in_one_of_the_parts() {
        let all: Vec<_> = (0..33).collect();
        for of in 1..=40 {
            let parts: Vec<_> = (1..=of).map(|number| parse_part(&format!("{number}/{of}")).unwrap()).collect();
            let together: Vec<_> = parts.iter().flat_map(|part| part.of(&all)).copied().collect();
            assert_eq!(together, all);
        }
        assert_eq!(Part::default().of(&all), all);
        for mistake in ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/3"] {
            assert!(parse_part(mistake).is_err(), "{mistake:?}");
        }
    }

    /// A switch that is nowhere in the code takes nothing away.
    #[test]
    fn every_switch_is_in_the_code_of_the_shop() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut code = String::new();
        read(&root.join("crates"), &mut code);
        read(&root.join("services"), &mut code);
        for Variant { switch, .. } in VARIANTS {
            assert!(code.contains(&format!("without(\"{switch}\")")), "{switch} is taken away nowhere");
        }
    }

    fn read(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, all);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                *all += &fs::read_to_string(&path).unwrap();
            }
        }
    }

    #[test]
    fn what_a_run_does_not_show_is_said_to_be_luck() {
        let inbox = named(&["inbox".to_owned()]).unwrap();
        assert!(explain(&inbox, &["heard"])[0].contains("see heard above"));
        assert!(explain(&inbox, &["stock"])[0].contains("luck"));
    }
}
