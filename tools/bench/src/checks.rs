//! What must be true of every run: nothing lost, nothing twice, the order of each key.

use std::collections::{HashMap, HashSet};

use measure::Measurement;

use crate::queue::Seen;

/// Looks at what came out of a queue into which each of these went once.
pub(crate) fn came_once(measurement: &mut Measurement, side: &str, events: &[(String, i64)], seen: &[Seen]) {
    let mut ids = HashSet::new();
    let twice = seen.iter().filter(|one| !ids.insert(one.id.as_str())).count();
    let there: HashSet<_> = seen.iter().map(|one| (one.key.as_str(), one.seq)).collect();
    let lost = events.iter().filter(|(key, seq)| !there.contains(&(key.as_str(), *seq))).count();
    let mut wrong = Vec::new();
    if lost > 0 {
        wrong.push(format!("{side}: {lost} events are not in the queue"));
    }
    measurement.check("nothing is lost", events.len() as u64, wrong);
    let twice = if twice > 0 { vec![format!("{side}: {twice} messages came twice")] } else { Vec::new() };
    measurement.check("nothing comes twice", seen.len() as u64, twice);
}

/// Looks at the order of each key.
pub(crate) fn came_in_order<'a>(measurement: &mut Measurement, side: &str, seen: impl IntoIterator<Item = &'a Seen>) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    let (mut wrong, mut looked_at) = (Vec::new(), 0);
    for one in seen {
        looked_at += 1;
        let before = last.insert(&one.key, one.seq).unwrap_or(0);
        if one.seq <= before {
            wrong.push(format!("{side}: {} came after {before} of {}", one.seq, one.key));
        }
    }
    measurement.check("the events of each key come in order", looked_at, wrong);
}

/// Two numbers that must be equal.
pub(crate) fn equal(measurement: &mut Measurement, says: &str, side: &str, expected: i64, found: i64) {
    let wrong = if expected == found { Vec::new() } else { vec![format!("{side}: {found} instead of {expected}")] };
    measurement.check(says, u64::try_from(expected).unwrap_or(0), wrong);
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn seen(all: &[(&str, &str, i64)]) -> Vec<Seen> {
        let one = |(id, key, seq): &(&str, &str, i64)| Seen {
            id: (*id).to_owned(),
            key: (*key).to_owned(),
            seq: *seq,
            at: Instant::now(),
        };
        all.iter().map(one).collect()
    }

    fn violated(all: &[(&str, &str, i64)]) -> Vec<String> {
        let events = [("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 1)];
        let mut measurement = Measurement::new("x", "y");
        came_once(&mut measurement, "ours", &events, &seen(all));
        came_in_order(&mut measurement, "ours", &seen(all));
        measurement.checks.into_iter().filter(|check| !check.holds()).map(|check| check.says).collect()
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_found() {
        assert_eq!(violated(&[("1", "a", 1), ("3", "b", 1), ("2", "a", 2)]), [""; 0]);
        assert_eq!(violated(&[("1", "a", 1), ("2", "a", 2)]), ["nothing is lost"]);
        assert_eq!(
            violated(&[("1", "a", 1), ("2", "a", 2), ("3", "b", 1), ("3", "b", 1)]),
            ["nothing comes twice", "the events of each key come in order"]
        );
        assert_eq!(violated(&[("2", "a", 2), ("1", "a", 1), ("3", "b", 1)]), ["the events of each key come in order"]);
    }
}
