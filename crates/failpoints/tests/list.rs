//! The list of points and the code say the same.

use std::{collections::BTreeSet, fs, io, path::Path};

use failpoints::{POINTS, Reached};

/// The names in every `hit("…")` below a folder.
fn hits(folder: &Path, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            hits(&path, found)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path)?;
            let names = text.split("hit(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
    Ok(())
}

#[test]
fn every_point_of_the_list_is_in_the_code_once_and_the_reverse() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut found = Vec::new();
    for group in ["crates", "services"] {
        for package in fs::read_dir(workspace.join(group)).unwrap() {
            let sources = package.unwrap().path().join("src");
            if sources.is_dir() {
                hits(&sources, &mut found).unwrap();
            }
        }
    }
    found.sort_unstable();
    let mut listed: Vec<_> = POINTS.iter().map(|point| point.name.to_owned()).collect();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn no_point_is_in_the_list_twice_and_each_is_reached_by_way_of_one_that_exists() {
    let names: BTreeSet<_> = POINTS.iter().map(|point| point.name).collect();
    assert_eq!(names.len(), POINTS.len());
    for point in POINTS {
        if let Reached::AfterError(other) = point.reached {
            assert!(names.contains(other), "{}: there is no {other}", point.name);
            // Whoever makes the other one fail would take the failure that is meant for it.
            assert!(POINTS.iter().all(|known| known.name != other || known.service != point.service));
        }
    }
}
