//! One thing is changed in what a correct shop left behind, and the checker must say so, by the right name and with the right id. The
//! table is the list of what it is known to catch; a change that is not caught fails the test.

use proof::{Outcome, Run, check};
use proptest::{prelude::*, sample::Index, test_runner::Config};

use crate::tales::rich;

/// Changes one thing, chosen by the index; answers with an id that must be named (empty: there is none).
type Change = fn(&mut Run, Index) -> String;

/// What is changed, which invariants say so (one of them at least, and with the id), and how.
type Mutation = (&'static str, &'static [&'static str], Change);

/// A row of these, chosen by the index among those that fit.
fn pick<T>(rows: &[T], index: Index, fits: impl Fn(&T) -> bool) -> usize {
    let those: Vec<usize> = (0..rows.len()).filter(|place| fits(&rows[*place])).collect();
    *index.get(&those)
}

fn whichever<T>(_: &T) -> bool {
    true
}

macro_rules! drop_one {
    ($($field:ident).+ , $fits:expr, $id:ident) => {
        |run, index| {
            let place = pick(&run.$($field).+, index, $fits);
            run.$($field).+.remove(place).$id.to_string()
        }
    };
}

macro_rules! repeat_one {
    ($($field:ident).+ , $id:ident) => {
        |run, index| {
            let row = index.get(&run.$($field).+).clone();
            run.$($field).+.push(row.clone());
            row.$id.to_string()
        }
    };
}

macro_rules! change_one {
    ($($field:ident).+ , $fits:expr, $id:ident, $change:expr) => {
        |run, index| {
            let place = pick(&run.$($field).+, index, $fits);
            changed(&mut run.$($field).+[place], $change);
            run.$($field).+[place].$id.to_string()
        }
    };
}

macro_rules! invent_one {
    ($($field:ident).+ , $id:ident, $change:expr) => {
        |run, index| {
            let mut row = index.get(&run.$($field).+).clone();
            changed(&mut row, $change);
            run.$($field).+.push(row.clone());
            row.$id.to_string()
        }
    };
}

/// A service's part of the messages, by its place in `SERVICES`.
macro_rules! of {
    ($service:expr, $table:ident, $change:expr) => {
        |run, index| within(&mut run.messaging[$service].$table, index, $change)
    };
}

fn changed<T>(row: &mut T, change: impl FnOnce(&mut T)) {
    change(row);
}

fn within<T>(rows: &mut Vec<T>, index: Index, change: impl FnOnce(&mut Vec<T>, Index) -> String) -> String {
    change(rows, index)
}

mod invented;
mod lost;
mod partial;
mod reordered;
mod repeated;

const ORDERS: usize = 1;
const INVENTORY: usize = 2;
const NOTIFICATIONS: usize = 4;
const GHOST: &str = "ghost";

fn is_restock(movement: &proof::dumps::Movement) -> bool {
    movement.cause == "restock"
}

fn is_named(run: &Run, invariants: &[&str], id: &str) -> Result<(), String> {
    let verdict = check(run);
    let caught =
        verdict.findings.iter().filter(|finding| invariants.contains(&finding.invariant) && finding.is_violated());
    let named = caught.clone().any(|finding| match &finding.outcome {
        Outcome::Violated { violations, .. } => {
            id.is_empty() || violations.iter().any(|violation| violation.ids.iter().any(|named| named.contains(id)))
        }
        _ => false,
    });
    if named { Ok(()) } else { Err(format!("{invariants:?} should name {id:?}\n{verdict}")) }
}

proptest! {
    // Each run is changed in a hundred ways. It is large: there is little to be seen in a smaller one.
    #![proptest_config(Config { cases: 24, max_shrink_iters: 16, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_single_thing_that_is_lost_repeated_invented_reordered_or_partial_is_caught_and_named(
        run in rich(),
        index in any::<Index>(),
    ) {
        let table = [lost::LOST, repeated::REPEATED, invented::INVENTED, reordered::REORDERED, partial::PARTIAL];
        let mut missed = Vec::new();
        for (what, invariants, change) in table.into_iter().flatten() {
            let mut changed = run.0.clone();
            let id = change(&mut changed, index);
            prop_assert!(changed != run.0, "{} changed nothing", what);
            missed.extend(is_named(&changed, invariants, &id).err().map(|why| format!("{what}: {why}")));
        }
        prop_assert!(missed.is_empty(), "{}", missed.join("\n\n"));
    }
}
