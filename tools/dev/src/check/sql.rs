//! Whether `.sqlx/` of each package describes its queries as the database does.

use std::path::Path;

use anyhow::Result;

use super::{Report, Verdict};
use crate::{
    engines::Postgres,
    prepare::{self, Queries},
};

pub(super) async fn check_all(root: &Path, postgres: &Postgres, report: &mut Report) -> Result<()> {
    let mut libraries = Queries::new();
    for package in prepare::packages(root)? {
        let name = format!("SQL: {}", package.name);
        report
            .check(&name, async |step| {
                let wanted = prepare::describe(postgres, root, &package, &libraries, step).await?;
                let found = prepare::read(&package.folder.join(".sqlx"))?;
                let verdict = compare(&wanted, &found);
                if package.is_library {
                    libraries.extend(wanted);
                }
                Ok(verdict)
            })
            .await;
    }
    Ok(())
}

fn compare(wanted: &Queries, found: &Queries) -> Verdict {
    let mut differences = Vec::new();
    for (name, content) in wanted {
        match found.get(name) {
            None => differences.push(format!("missing: {name}")),
            Some(old) if old != content => differences.push(format!("out of date: {name}")),
            Some(_) => {}
        }
    }
    differences
        .extend(found.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("no longer used: {name}")));
    if differences.is_empty() {
        Verdict::Passed(format!("{} queries are described as they are", wanted.len()))
    } else {
        Verdict::Failed(format!("{}\n`cargo dev prepare` renews them.", differences.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named() {
        let queries = |pairs: &[(&str, &str)]| -> Queries {
            pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect()
        };
        let wanted = queries(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(matches!(compare(&wanted, &wanted), Verdict::Passed(_)));
        let Verdict::Failed(reason) = compare(&wanted, &queries(&[("a", "1"), ("b", "old"), ("d", "4")])) else {
            panic!("they differ");
        };
        assert!(reason.starts_with("out of date: b\nmissing: c\nno longer used: d"), "{reason}");
    }
}
