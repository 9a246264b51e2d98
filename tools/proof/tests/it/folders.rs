//! A run in a folder, and the program that judges it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use proof::Run;
use proptest::{strategy::Strategy as _, strategy::ValueTree as _, test_runner::TestRunner};

use crate::tales::rich;

fn a_run() -> Run {
    rich().new_tree(&mut TestRunner::deterministic()).unwrap().current().0
}

/// A folder that is gone in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("proof-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn proof(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_proof")).arg("check").arg(folder).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_that_is_written_is_read_as_it_was() {
    let folder = Folder::new("round");
    let run = a_run();
    run.save(&folder.0).unwrap();
    assert_eq!(Run::load(&folder.0).unwrap(), run);
}

#[test]
fn the_program_says_what_holds_and_what_does_not_and_ends_accordingly() {
    let folder = Folder::new("program");
    let mut run = a_run();
    run.save(&folder.0).unwrap();
    let fine = proof(&folder.0, &[]);
    assert_eq!(fine.status.code(), Some(0), "{}", text(&fine.stdout));
    assert!(text(&fine.stdout).ends_with(&format!("{}\n", proof::check(&run).summary())));

    let lost = run.orders.remove(0).id;
    run.save(&folder.0).unwrap();
    let broken = proof(&folder.0, &[]);
    assert_eq!(broken.status.code(), Some(1));
    let said = text(&broken.stdout);
    let first = said.lines().next().unwrap();
    assert!(first.contains("VIOLATED  acknowledged"), "the first that is broken comes first: {said}");
    assert!(said.contains(&lost), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&proof(&folder.0, &["--json"]).stdout).unwrap();
    let found =
        json["findings"].as_array().unwrap().iter().find(|finding| finding["invariant"] == "acknowledged").unwrap();
    assert_eq!((&found["outcome"], &found["count"]), (&"violated".into(), &1.into()), "{found}");
}

#[test]
fn a_file_that_is_missing_or_damaged_is_named_and_nothing_is_judged() {
    let folder = Folder::new("damaged");
    a_run().save(&folder.0).unwrap();
    let book = folder.0.join("payments/book.jsonl");
    let whole = fs::read_to_string(&book).unwrap();

    fs::write(&book, format!("{whole}{{\"key\": 1}}\n")).unwrap();
    let damaged = proof(&folder.0, &[]);
    let line = whole.lines().count() + 1;
    assert_eq!(damaged.status.code(), Some(2));
    assert!(text(&damaged.stderr).contains(&format!("book.jsonl:{line}: ")), "{}", text(&damaged.stderr));

    fs::remove_file(&book).unwrap();
    let missing = proof(&folder.0, &[]);
    assert_eq!((missing.status.code(), text(&missing.stdout).as_str()), (Some(2), ""));
    assert!(text(&missing.stderr).contains("book.jsonl: "), "{}", text(&missing.stderr));
}
