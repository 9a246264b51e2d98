//! The limits say to the databases what the shop says, statement by statement: what a limit leaves out would flatter or shame us.
//!
//! Compared are the words of SQL and the names of tables and columns, in their order. Values may be said in other ways: a script of `pgbench`
//! makes up what the shop is told.

use std::{collections::BTreeSet, fs, path::Path};

use crate::workspace;

/// What the limits may say otherwise.
const APART: [&str; 5] = [
    "begin",
    "commit",
    "savepoint lines",
    "release savepoint lines",
    // The limit knows which job it wants; to find those that are due is work of ours.
    "update messaging job set attempts attempts lease due_at where task and id returning id attempts context",
];

/// Words with which values are made.
const OF_VALUES: [&str; 14] = [
    "array",
    "clock_timestamp",
    "false",
    "interval",
    "lpad",
    "make_interval",
    "md5",
    "now",
    "null",
    "repeat",
    "secs",
    "sha256",
    "to_hex",
    "true",
];

#[test]
fn the_limits_say_what_the_shop_says() {
    let root = workspace::root().unwrap();
    let shop = said_by_the_shop(&root);
    // These are checked against a database when they are run, not when they are compiled: they stand nowhere but in the code.
    let idempotency = words(&fs::read_to_string(root.join("crates/idempotency/src/lib.rs")).unwrap());
    for (file, least) in
        [("tools/dev/src/bench/orders/request.sql", 7), ("tools/bench/src/limit/shop/statements.sql", 40)]
    {
        let said = statements(&fs::read_to_string(root.join(file)).unwrap());
        assert!(said.len() >= least, "{file} has only {} statements", said.len());
        for statement in said {
            let known = APART.contains(&statement.join(" ").as_str())
                || shop.contains(&statement)
                || idempotency.windows(statement.len()).any(|some| some == statement);
            assert!(known, "{file} says what no service says: {}", statement.join(" "));
        }
    }
}

#[test]
fn only_values_may_differ() {
    let shop = words(
        r#"select a, b as "b: B" from t -- why 
                       where c = $1::uuid and d = 'x' and e <= now() for update"#,
    );
    assert_eq!(shop.join(" "), "select a b from t where c and d and e for update");
    assert_eq!(
        shop,
        words("select a, b from t where c = (:who::uuid[])[:n::int] and d = repeat('x', 4) and e <= now() for update")
    );
    assert_ne!(shop, words("select a, b from t where c = :who and d = 'x' and e <= now()"));
    assert_eq!(statements("\\set n 1\nbegin;\nselect a\nfrom t; -- ; no\n").len(), 2);
}

/// What the services and `messaging` say, as it is kept for the compiler.
fn said_by_the_shop(root: &Path) -> BTreeSet<Vec<String>> {
    let services = fs::read_dir(root.join("services")).unwrap().map(|service| service.unwrap().path());
    let packages = services.chain([root.join("crates/messaging")]).map(|package| package.join(".sqlx"));
    let kept = packages.filter(|folder| folder.exists()).flat_map(|folder| fs::read_dir(folder).unwrap());
    kept.map(|file| {
        let query: serde_json::Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        words(query["query"].as_str().unwrap())
    })
    .collect()
}

/// The statements of a script, without what is said to `pgbench`.
fn statements(script: &str) -> Vec<Vec<String>> {
    let code =
        script.lines().filter(|line| !line.starts_with('\\')).map(|line| line.split("--").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join("\n");
    code.split(';').map(words).filter(|statement| !statement.is_empty()).collect()
}

fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::<String>::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '-' if rest.starts_with("--") => past(rest, ['\n']),
            // In code there are lifetimes as well, which end with their line.
            '\'' => past(&rest[1..], ['\'', '\n']),
            // What a column is called, for the compiler. Other quotes are those of the code.
            '"' if words.last().is_some_and(|word| word == "as") => {
                words.pop();
                past(&rest[1..], ['"'])
            }
            // A cast, or a parameter of a script.
            ':' => rest.trim_start_matches(':').trim_start_matches(is_of_a_word),
            letter if is_of_a_word(letter) => {
                let end = rest.find(|c| !is_of_a_word(c)).unwrap_or(rest.len());
                let (word, rest) = rest.split_at(end);
                if letter.is_alphabetic() && !OF_VALUES.contains(&word) {
                    words.push(word.to_lowercase());
                }
                rest
            }
            other => &rest[other.len_utf8()..],
        };
    }
    words
}

fn past<const N: usize>(text: &str, ends: [char; N]) -> &str {
    text.split_once(ends).map_or("", |(_, rest)| rest)
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
