//! `pgbench`, which comes with every PostgreSQL: a script, over so many connections, for so long.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{engines::Postgres, programs};

/// What is run.
pub(super) struct Script<'a> {
    pub(super) text: &'a str,
    /// The variables that it uses.
    pub(super) variables: &'a [(&'a str, String)],
    pub(super) connections: u16,
    pub(super) time: Duration,
}

/// What it came to.
#[derive(Debug, PartialEq)]
pub(super) struct Ran {
    pub(super) transactions: i64,
    pub(super) per_second: f64,
}

/// Runs a script in a database. Statements are prepared once, as the services prepare theirs.
pub(super) async fn run(postgres: &Postgres, database: &str, script: &Script<'_>) -> Result<Ran> {
    let mut arguments = ["--no-vacuum", "--protocol=prepared", "--jobs=2", "--file=-"].map(str::to_owned).to_vec();
    arguments.push(format!("--client={}", script.connections));
    arguments.push(format!("--time={}", script.time.as_secs().max(1)));
    arguments.extend(script.variables.iter().map(|(name, value)| format!("--define={name}={value}")));
    let mut command = postgres.pgbench(database, &arguments);
    let printed = programs::output_of_input(&mut command, script.text).await.context(
        "pgbench, which comes with PostgreSQL (Debian: postgresql, postgresql-contrib), measures the database alone",
    )?;
    let ran = read(&printed).with_context(|| format!("pgbench printed no figures:\n{printed}"))?;
    ensure!(ran.transactions > 0, "pgbench did nothing:\n{printed}");
    Ok(ran)
}

fn read(printed: &str) -> Option<Ran> {
    let after = |label: &str| printed.lines().find_map(|line| line.strip_prefix(label));
    let transactions = after("number of transactions actually processed: ")?.split('/').next()?.trim().parse().ok()?;
    let per_second = after("tps = ")?.split(' ').next()?.parse().ok()?;
    Some(Ran { transactions, per_second })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_it_prints() {
        let printed = "transaction type: -\nnumber of transactions actually processed: 6021\nnumber of failed transactions: 0 (0.000%)\n\
                       initial connection time = 14.5 ms\ntps = 1203.981273 (without initial connection time)\n";
        assert_eq!(read(printed), Some(Ran { transactions: 6021, per_second: 1203.981273 }));
        assert_eq!(read("pgbench: error"), None);
    }
}
