//! What must not grow does not: memory and open files of every process, connections to the broker, sessions of the database.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    index::Index,
    ledger::{ProcessSample, Sample},
    verdict::{Finding, Look},
};

/// In less time than this nothing can be told from the noise.
const LEAST_MS: u64 = 120_000;
/// A process that is younger fills its pools and caches.
const WARM_MS: u64 = 30_000;
/// What a process may have more of at the end than before: a third and some, which is what an allocator keeps.
const SHARE: f64 = 1.33;
const MEMORY_SLACK: f64 = 24.0 * 1024.0 * 1024.0;
const COUNT_SLACK: f64 = 24.0;

/// Of a process: what it is called, where it stands, and how much more of it is nothing.
type Figure = (&'static str, fn(&ProcessSample) -> u64, f64);
/// Of an engine.
type Count = (&'static str, fn(&Sample) -> Option<u64>);

/// Memory, files, connections and sessions are in the end what they were in the beginning.
pub(crate) fn flat(index: &Index<'_>) -> Finding {
    let look = Look::new("flat", "memory, open files, connections and sessions are in the end what they were before");
    let samples = &index.run.samples;
    let lasted = samples.last().map_or(0, |last| last.at_ms) - samples.first().map_or(0, |first| first.at_ms);
    if lasted < LEAST_MS {
        return look.not_applicable("the run was too short to tell growth from noise");
    }
    let mut look = look;
    let begin = samples.first().map_or(0, |first| first.at_ms);
    let (early, late) = (begin + lasted / 2, begin + lasted * 3 / 4);
    let warm = warm(samples);
    let names: BTreeSet<&str> =
        samples.iter().flat_map(|sample| &sample.processes).map(|one| one.name.as_str()).collect();
    let figures: [Figure; 2] =
        [("bytes of memory", |one| one.resident_bytes, MEMORY_SLACK), ("open files", |one| one.files, COUNT_SLACK)];
    for name in names {
        for (what, figure, slack) in figures {
            let of = |from: u64, to: u64| {
                let within = samples.iter().filter(|sample| (from..to).contains(&sample.at_ms));
                let own = within.flat_map(|sample| sample.processes.iter().map(move |one| (sample.at_ms, one)));
                let grown =
                    own.filter(|(at, one)| one.name == name && warm.get(&one.pid).is_some_and(|warm| warm <= at));
                median(grown.map(|(_, one)| figure(one)).collect())
            };
            if let (Some(before), Some(after)) = (of(begin, early), of(late, u64::MAX)) {
                look.expect(is_flat(before, after, slack), &[name], || {
                    format!("{before} {what} before, {after} in the end")
                });
            }
        }
    }
    let counts: [Count; 2] =
        [("connections to the broker", |sample| sample.connections), ("sessions", |sample| sample.sessions)];
    for (what, count) in counts {
        let of = |from: u64, to: u64| {
            let within = samples.iter().filter(|sample| (from..to).contains(&sample.at_ms));
            median(within.filter_map(count).collect())
        };
        if let (Some(before), Some(after)) = (of(begin, early), of(late, u64::MAX)) {
            look.expect(is_flat(before, after, COUNT_SLACK), &[], || {
                format!("{before} {what} before, {after} in the end")
            });
        }
    }
    look.done()
}

/// From when on each process counts.
fn warm(samples: &[Sample]) -> BTreeMap<i32, u64> {
    let mut first = BTreeMap::new();
    for sample in samples {
        for one in &sample.processes {
            first.entry(one.pid).or_insert(sample.at_ms + WARM_MS);
        }
    }
    first
}

fn is_flat(before: u64, after: u64, slack: f64) -> bool {
    after as f64 <= before as f64 * SHARE + slack
}

fn median(mut all: Vec<u64>) -> Option<u64> {
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}
