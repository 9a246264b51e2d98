//! Floors: a run in which nothing happened proves nothing, and a fault that did not bite is none.

use std::collections::BTreeSet;

use crate::{
    index::Index,
    ledger::{Request, What},
    operations::{Known, Operation},
    traces,
    verdict::{Counts, Finding, Look},
};

/// The problem of a service that has no place for a request.
const OVERLOADED: &str = "urn:postrider:problem:overloaded";

/// How much happened.
pub(crate) fn counts(index: &Index<'_>) -> Counts {
    let run = index.run;
    let state = |state: &str| run.orders.iter().filter(|order| order.state == state).count();
    let kinds: BTreeSet<&str> = run.faults.iter().map(|fault| fault.kind.as_str()).collect();
    let recovered = |operation: &&Operation<'_>| {
        let ends = operation.attempts.iter().map(|attempt| attempt.end.map(|(_, what)| what));
        let lost = ends.take_while(|end| !matches!(end, Some(What::Ok { .. }))).any(|end| !is_definite(end));
        lost && matches!(operation.known(), Known::Done(_))
    };
    Counts {
        orders: run.orders.len(),
        confirmed: state("confirmed"),
        cancelled: state("cancelled"),
        faults: run.faults.len(),
        kinds_of_faults: kinds.len(),
        messages: index.announced.len(),
        absorbed: copies(index) as u64 + run.end.redelivered,
        recovered: index.operations.iter().filter(recovered).count(),
        unclear: index.operations.iter().filter(|operation| operation.known() == Known::Unclear).count(),
        acknowledged: acknowledged(index),
        mails: run.mails.len(),
        repeated_mails: run.mails.len() - index.mails.len(),
        connected: traces::share(index),
        drained_after_ms: run.end.drained_after_ms,
    }
}

/// Messages that were published once more.
fn copies(index: &Index<'_>) -> usize {
    let distinct: BTreeSet<&str> = index.run.tap.iter().map(|message| message.message_id.as_str()).collect();
    index.run.tap.len() - distinct.len()
}

fn is_definite(end: Option<&What>) -> bool {
    matches!(end, Some(What::Ok { .. } | What::Fail { .. }))
}

/// Told that there are too many requests, and that nothing was done: what a service says to a crowd, such as the one that comes after an outage.
fn is_told_to_come_back(end: Option<&What>) -> bool {
    matches!(end, Some(What::Info { status: Some(503), why }) if why.contains(OVERLOADED))
}

/// Share of the requests whose first attempt touched no fault that got an answer to it: a definite one, or that they shall come back.
fn acknowledged(index: &Index<'_>) -> f64 {
    let (mut all, mut answered) = (0, 0);
    for operation in &index.operations {
        let Some(first) = operation.attempts.first() else { continue };
        let end_ms = first.end.map_or(u64::MAX, |(at, _)| at);
        if index.run.faults.iter().any(|fault| fault.start_ms <= end_ms && first.start_ms <= fault.end_ms) {
            continue;
        }
        all += 1;
        let end = first.end.map(|(_, what)| what);
        answered += usize::from(is_definite(end) || is_told_to_come_back(end));
    }
    if all == 0 { 0.0 } else { f64::from(all as u32).recip() * answered as f64 }
}

/// What had to happen has happened, and each fault has evidence.
pub(crate) fn reached(index: &Index<'_>) -> Finding {
    let mut look = Look::new(
        "floors",
        "enough happened: requests were answered, orders confirmed, faults bit, and something was recovered and absorbed",
    );
    let (floors, counts) = (&index.run.plan.floors, counts(index));
    look.expect(counts.acknowledged >= floors.acknowledged, &[], || {
        format!(
            "{:.3} of the requests outside of faults were answered at once, not {}",
            counts.acknowledged, floors.acknowledged
        )
    });
    for (what, found, least) in [
        ("orders were confirmed", counts.confirmed as u64, floors.confirmed),
        ("unclear requests were recovered", counts.recovered as u64, floors.recovered),
        ("messages were published or delivered again", counts.absorbed, floors.absorbed),
        ("faults were injected", counts.faults as u64, floors.faults),
    ] {
        look.expect(found >= least, &[], || format!("{found} {what}, not {least}"));
    }
    let mut ids = BTreeSet::new();
    for fault in &index.run.faults {
        look.expect(ids.insert(fault.id), &[&fault.id.to_string()], || "a fault is written down twice".to_owned());
        let id = format!("fault {}", fault.id);
        look.expect(fault.evidence.count > 0, &[&id, &fault.kind, &fault.target], || {
            format!("it did not bite: {}", fault.evidence.text)
        });
        look.expect(fault.start_ms <= fault.end_ms, &[&id], || "it ended before it began".to_owned());
    }
    let asked = index.operations.iter().any(|operation| matches!(operation.request, Request::Order { .. }));
    look.expect(asked, &[], || "nobody ordered anything".to_owned());
    look.done()
}

/// Where nothing was done to it, nothing came twice. A service may still say that it is at its limit: that is a floor, not this.
pub(crate) fn undisturbed(index: &Index<'_>) -> Finding {
    let mut look =
        Look::new("undisturbed", "without faults nothing is published or delivered twice, and no mail is repeated");
    if !index.run.plan.quiet {
        return look.not_applicable("faults were planned");
    }
    let counts = counts(index);
    look.expect(counts.faults == 0, &[], || format!("{} faults in a quiet run", counts.faults));
    look.expect(copies(index) == 0, &[], || format!("{} messages were published again", copies(index)));
    look.expect(index.run.end.redelivered == 0, &[], || {
        format!("{} deliveries were made again", index.run.end.redelivered)
    });
    look.expect(counts.repeated_mails == 0, &[], || format!("{} mails were repeated", counts.repeated_mails));
    look.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_want_of_room_is_an_answer_and_an_outage_is_none() {
        let told = |status, why: &str| What::Info { status, why: why.to_owned() };
        let crowd = told(Some(503), r#"{"type":"urn:postrider:problem:overloaded","title":"There are more"}"#);
        assert!(is_told_to_come_back(Some(&crowd)));
        for other in [told(Some(503), r#"{"type":"urn:postrider:problem:unavailable"}"#), told(None, "no answer")] {
            assert!(!is_told_to_come_back(Some(&other)), "{other:?}");
        }
        assert!(!is_told_to_come_back(None));
    }
}
