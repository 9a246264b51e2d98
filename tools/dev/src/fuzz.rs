//! Generated requests to every service of a stack, as an operator and as a customer: whatever is asked, the answer is one that the
//! service documents, and none is a failure of the server. The requests are made by Schemathesis from the services' own
//! `/openapi.json`; it is a Python program and lives in an environment of its own under `.dev/tools`.

mod tool;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::{
    console::{self, Step},
    engines::Given,
    files, programs,
    seed::{self, People},
    services::{SERVICES, Service},
    shop::{Person, Shop},
    stack::{Options, Stack},
    test_summary::Counts,
};

const STACK: &str = "fuzz";
/// Requests that are made up for each operation, besides those at the edges of its schema.
const EXAMPLES: &str = "12";
/// Logging out would make every later request one of nobody.
const LAST: &str = "^/sessions/current$";

/// What was counted, one test for each operation and person, and whether every run was made.
pub(crate) async fn run(engines: Given) -> Result<(Counts, bool)> {
    console::heading("Generated requests (Schemathesis)");
    let mut counts = Counts::default();
    let program = match tool::install().await {
        Ok(program) => program,
        // Not passed over in silence: an interface that nobody tried is not known to be right.
        Err(error) => {
            console::row("NOT RUN", format_args!("{error:#}"));
            console::row("", "`cargo dev test --no-fuzz` leaves this part out.");
            counts.failed += 1;
            return Ok((counts, false));
        }
    };
    Stack::purge(STACK).await?;
    let mut options = Options::named(STACK).tested();
    options.engines = engines;
    let mut stack = match Stack::start(options).await {
        Ok(stack) => stack,
        Err(error) => {
            // The error holds the end of the log; engines that go on running for nobody help no one.
            Stack::purge(STACK).await?;
            return Err(error);
        }
    };
    let asked = ask_all(&program, &mut stack, &mut counts).await;
    console::heading("Stopping the stack");
    // What was found is explained by the logs.
    let purge = counts.failed == 0 && asked.is_ok();
    stack.stop(purge).await?;
    asked.map(|()| (counts, true))
}

async fn ask_all(program: &Path, stack: &mut Stack, counts: &mut Counts) -> Result<()> {
    let shop = stack.shop();
    let people = seed::plant(&shop, &mut stack.state).await?;
    let folder = stack.state.folder().clone();
    let settings = settings(&shop, &people, &folder).await?;
    for service in SERVICES {
        let port = stack.port(service.name)?;
        for (role, person) in [("operator", &people.operator), ("customer", &people.customer)] {
            let run = Run { program, settings: &settings, service, port, role, folder: &folder };
            *counts += run.ask(person, &["--exclude-path-regex", LAST], "").await?;
            if service.name == "users" {
                *counts += run.ask(person, &["--include-path-regex", LAST], " logging out").await?;
            }
        }
    }
    Ok(())
}

/// One service, asked by one person.
struct Run<'a> {
    program: &'a Path,
    settings: &'a Path,
    service: &'a Service,
    port: u16,
    role: &'a str,
    folder: &'a Path,
}

impl Run<'_> {
    async fn ask(&self, person: &Person, chosen: &[&str], note: &str) -> Result<Counts> {
        let label = format!("{}, {}{note}", self.service.name, self.role);
        let mut step = Step::start(&label, "asking");
        let report = self.folder.join(format!("{}.xml", label.replace([' ', ','], "-")));
        let mut command = Command::new(self.program);
        command.arg("--no-color").arg("--config-file").arg(self.settings);
        command.args(["run", &format!("http://127.0.0.1:{}/openapi.json", self.port)]);
        command.args(["--header", &format!("Authorization: Bearer {}", person.token)]);
        command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--continue-on-failure"]);
        command.args(["--report", "junit", "--report-junit-path"]).arg(&report).args(chosen);
        command.current_dir(self.folder).env("PYTHONUTF8", "1");
        let done = programs::watch(&mut command, &mut step).await?;
        let counts = fs::read_to_string(&report).ok().and_then(|report| junit(&report));
        let Some(mut counts) = counts else {
            step.failed("it did not come to its end");
            console::line(done.printed);
            return Ok(Counts { failed: 1, ..Counts::default() });
        };
        if !done.success && counts.failed == 0 {
            counts.failed = 1;
        }
        if counts.failed == 0 {
            step.done(format_args!("every answer is as documented ({} tests)", counts.passed));
        } else {
            step.failed(counts);
            console::line(findings(&done.printed));
        }
        Ok(counts)
    }
}

/// The part of what Schemathesis prints that says what it found.
fn findings(printed: &str) -> &str {
    printed.find("= FAILURES =").or_else(|| printed.find("= ERRORS =")).map_or(printed, |at| {
        let end = printed.find("= WARNINGS =").filter(|end| *end > at).unwrap_or(printed.len());
        printed.get(at..end).unwrap_or(printed)
    })
}

/// What differs from Schemathesis' defaults, and the ids that exist, so that not every request ends at a 404.
async fn settings(shop: &Shop, people: &People, folder: &Path) -> Result<PathBuf> {
    let customer = &people.customer;
    // An account that may get any role. Those that ask stay what they are.
    let bystander = shop.new_customer("bystander@example.test", "By Stander", &files::secret()?).await?;
    let mut ids = vec![bystander.id];
    for (sku, method) in [(seed::MUG, "pm_ok"), (seed::TEA, "pm_declined"), (seed::CHAIR, "pm_slow")] {
        ids.push(shop.place(customer, sku, 1, method).await?.order.id);
    }
    let letters = crate::http::get_as(shop.notifications_port(), "/notifications", &customer.token).await?;
    let letters = letters.success()?.json()?;
    let letters = letters.get("items").unwrap_or(&letters).as_array().cloned().unwrap_or_default();
    ids.extend(letters.iter().filter_map(|letter| letter["id"].as_str().map(str::to_owned)));
    let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    let path = folder.join("schemathesis.toml");
    let text = SETTINGS.replace("IDS", &quoted.join(", "));
    files::write_private(&path, text.as_bytes(), None).context("cannot write the settings")?;
    Ok(path)
}

const SETTINGS: &str = r#"
seed = 1
request-timeout = 20.0
# Streams of server-sent events have no end.
max-stream-events = 3
warnings = false

[dictionaries]
ids = { values = [IDS] }
skus = { values = ["MUG-01", "TEA-01", "VASE-01"] }

[parameters]
"path.id" = { dictionary = "ids", probability = 0.5 }
"path.order_id" = { dictionary = "ids", probability = 0.5 }
"path.sku" = { dictionary = "skus", probability = 0.5 }

[checks]
# A request that fits the schema may still be refused: an unknown product, a cursor that nobody gave out, a common password.
positive_data_acceptance.enabled = false
# An order that was placed is an order, also when it is cancelled a moment later.
ensure_resource_availability.enabled = false
# A version that has moved on is looked at before the rest of the request.
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "428", "429"]
missing_required_header.expected-statuses = ["400", "401", "403", "404", "406", "415", "422", "428"]
"#;

/// The totals of a JUnit report.
fn junit(report: &str) -> Option<Counts> {
    let head = report.split_once("<testsuites")?.1.split_once('>')?.0;
    let number =
        |name: &str| -> Option<u64> { head.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.parse().ok() };
    let (tests, skipped) = (number("tests")?, number("skipped")?);
    let failed = number("failures")? + number("errors")?;
    Some(Counts { passed: tests.saturating_sub(failed + skipped), failed, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_a_report_are_read() {
        let report = r#"<?xml version="1.0"?><testsuites errors="1" failures="2" skipped="3" tests="10" time="3.4"><testsuite/>"#;
        assert_eq!(junit(report), Some(Counts { passed: 4, failed: 3, skipped: 3 }));
        assert_eq!(junit("<html>"), None);
    }

    #[test]
    fn only_findings_are_shown() {
        let printed = "loaded\n==== FAILURES ====\nthis\n==== WARNINGS ====\nthat";
        assert_eq!(findings(printed), "= FAILURES ====\nthis\n===");
        assert_eq!(findings("Traceback"), "Traceback");
    }
}
