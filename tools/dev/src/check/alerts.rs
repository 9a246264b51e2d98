//! The rules of Prometheus: valid, tested, and explained. `promtool` says whether they are valid and whether their tests pass; what it does not
//! ask is asked here: that no alert is without a test in which it fires, one in which it has gone again, and a section of the runbook.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use saphyr::{LoadableYamlNode, Yaml};
use tokio::process::Command;

use super::Verdict;
use crate::{console::Step, install, programs, services::SERVICES};

/// Where the rules are, and their tests.
const FOLDER: &str = "deploy/prometheus";
const RUNBOOK: &str = "deploy/RUNBOOK.md";

pub(super) async fn check(root: &Path, step: &mut Step) -> Result<Verdict> {
    let rules = files(&root.join(FOLDER).join("rules"))?;
    let tests = files(&root.join(FOLDER).join("tests"))?;
    let runbook = fs::read_to_string(root.join(RUNBOOK)).with_context(|| format!("cannot read {RUNBOOK}"))?;
    let mut alerts = Vec::new();
    for rule in &rules {
        alerts.extend(alerts_of(&read(rule)?).with_context(|| rule.display().to_string())?);
    }
    let mut tested = Tested::default();
    for test in &tests {
        tested.add(&read(test)?).with_context(|| test.display().to_string())?;
    }
    let mut wrong = gaps(&alerts, &tested, &runbook);
    wrong.extend(unknown_services(&read(&root.join(FOLDER).join("targets/services.json"))?)?);
    if !wrong.is_empty() {
        return Ok(Verdict::Failed(wrong.join("\n")));
    }
    if !programs::is_there("promtool", &["--version"]).await {
        let explanation =
            "promtool is not here; Debian's package `prometheus` has it (sudo apt-get install prometheus)";
        if let Err(reason) = install::packages(&["prometheus"], explanation).await {
            return Ok(Verdict::Skipped(reason.to_string()));
        }
    }
    let config = root.join(FOLDER).join("prometheus.yml");
    for (what, arguments) in [("config", [&[config][..]].concat()), ("rules", rules)] {
        let checked = promtool(&["check", what], &arguments, step).await?;
        if !checked.success {
            return Ok(Verdict::Failed(checked.printed));
        }
    }
    let passed = format!("{} alerts fire, resolve, and have a section in the runbook", alerts.len());
    Ok(Verdict::of(promtool(&["test", "rules"], &tests, step).await?, &passed))
}

async fn promtool(what: &[&str], files: &[PathBuf], step: &mut Step) -> Result<programs::Watched> {
    programs::watch(Command::new("promtool").args(what).args(files), step).await
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// An alert, as far as it is looked at here.
struct Alert {
    name: String,
    /// The annotations that it lacks.
    lacks: Vec<&'static str>,
    runbook: String,
}

fn alerts_of(rules: &str) -> Result<Vec<Alert>> {
    let documents = Yaml::load_from_str(rules).context("not YAML")?;
    let mut alerts = Vec::new();
    for group in documents.iter().flat_map(|file| list(file, "groups")) {
        for rule in list(group, "rules") {
            let Some(name) = text(rule, "alert") else { continue };
            let annotation = |what: &str| rule.as_mapping_get("annotations").and_then(|all| text(all, what));
            let severity = rule.as_mapping_get("labels").and_then(|labels| text(labels, "severity"));
            let mut lacks: Vec<_> =
                ["summary", "description", "runbook"].into_iter().filter(|what| annotation(what).is_none()).collect();
            lacks.extend((!matches!(severity, Some("critical" | "warning"))).then_some("severity"));
            let runbook = annotation("runbook").unwrap_or_default().to_owned();
            alerts.push(Alert { name: name.to_owned(), lacks, runbook });
        }
    }
    Ok(alerts)
}

/// Alerts that a test sees firing, and those that a later look of the same test sees gone.
#[derive(Default)]
struct Tested {
    firing: BTreeSet<String>,
    resolved: BTreeSet<String>,
}

impl Tested {
    fn add(&mut self, tests: &str) -> Result<()> {
        let documents = Yaml::load_from_str(tests).context("not YAML")?;
        for test in documents.iter().flat_map(|file| list(file, "tests")) {
            let mut fired = BTreeSet::new();
            // In the order of the file, which is the order of time.
            for look in list(test, "alert_rule_test") {
                let name = text(look, "alertname").context("a test of an alert names none")?.to_owned();
                if !list(look, "exp_alerts").is_empty() {
                    fired.insert(name);
                } else if fired.contains(&name) {
                    self.resolved.insert(name);
                }
            }
            self.firing.extend(fired);
        }
        Ok(())
    }
}

fn gaps(alerts: &[Alert], tested: &Tested, runbook: &str) -> Vec<String> {
    let sections: BTreeSet<_> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut wrong = Vec::new();
    for Alert { name, lacks, runbook } in alerts {
        wrong.extend(lacks.iter().map(|what| format!("{name} has no {what}")));
        if !tested.firing.contains(name) {
            wrong.push(format!("{name} fires in no test"));
        }
        if !tested.resolved.contains(name) {
            wrong.push(format!("{name} is resolved in no test"));
        }
        if !sections.contains(name.as_str()) {
            wrong.push(format!("{name} has no section in {RUNBOOK}"));
        }
        if *runbook != format!("{RUNBOOK}#{}", name.to_lowercase()) {
            wrong.push(format!("{name} does not name its section of {RUNBOOK}: {runbook:?}"));
        }
    }
    for section in sections {
        if !alerts.iter().any(|alert| alert.name == section) {
            wrong.push(format!("{RUNBOOK} has a section {section}, and there is no such alert"));
        }
    }
    wrong
}

/// Every service is scraped in containers, and nothing that is none.
fn unknown_services(targets: &str) -> Result<Vec<String>> {
    let targets: serde_json::Value = serde_json::from_str(targets).context("targets/services.json is not JSON")?;
    let found: BTreeSet<_> = targets
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|target| target["labels"]["service"].as_str().map(str::to_owned))
        .collect();
    let wanted: BTreeSet<_> = SERVICES.iter().map(|service| service.name.to_owned()).collect();
    Ok(wanted.symmetric_difference(&found).map(|name| format!("targets/services.json and {name} do not fit")).collect())
}

fn list<'a, 'b>(of: &'a Yaml<'b>, key: &str) -> &'a [Yaml<'b>] {
    of.as_mapping_get(key).and_then(|found| found.as_sequence()).map_or(&[], |found| found.as_slice())
}

fn text<'a>(of: &'a Yaml<'_>, key: &str) -> Option<&'a str> {
    of.as_mapping_get(key).and_then(|found| found.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "groups: [{ name: g, rules: [{ record: r, expr: x }, { alert: Late, expr: x, labels: { severity: warning }, \
                        annotations: { summary: s, description: d, runbook: deploy/RUNBOOK.md#late } }] }]";
    const TEST: &str = "tests: [{ alert_rule_test: [{ alertname: Late, exp_alerts: [] }, \
                        { alertname: Late, exp_alerts: [{ exp_labels: { a: b } }] }, { alertname: Late, exp_alerts: [] }] }]";

    fn gaps_of(rule: &str, test: &str, runbook: &str) -> Vec<String> {
        let mut tested = Tested::default();
        tested.add(test).unwrap();
        gaps(&alerts_of(rule).unwrap(), &tested, runbook)
    }

    #[test]
    fn an_alert_that_is_tested_and_explained_has_no_gap() {
        assert_eq!(gaps_of(RULE, TEST, "# Runbook\n\n### Late\n"), Vec::<String>::new());
    }

    #[test]
    fn each_gap_of_an_alert_is_named() {
        assert_eq!(gaps_of(RULE, TEST, ""), ["Late has no section in deploy/RUNBOOK.md"]);
        let never = TEST.replace("[{ exp_labels: { a: b } }]", "[]");
        assert_eq!(gaps_of(RULE, &never, "### Late"), ["Late fires in no test", "Late is resolved in no test"]);
        let for_ever = TEST.replace(", { alertname: Late, exp_alerts: [] }]", "]");
        assert_eq!(gaps_of(RULE, &for_ever, "### Late"), ["Late is resolved in no test"]);
        assert_eq!(gaps_of(&RULE.replace("warning", "loud"), TEST, "### Late"), ["Late has no severity"]);
        assert_eq!(gaps_of(&RULE.replace("summary: s, ", ""), TEST, "### Late"), ["Late has no summary"]);
        let elsewhere = gaps_of(&RULE.replace("#late", "#early"), TEST, "### Late");
        assert_eq!(elsewhere, ["Late does not name its section of deploy/RUNBOOK.md: \"deploy/RUNBOOK.md#early\""]);
        let orphan = gaps_of(RULE, TEST, "### Late\n### Gone\n");
        assert_eq!(orphan, ["deploy/RUNBOOK.md has a section Gone, and there is no such alert"]);
    }

    #[test]
    fn a_service_that_is_not_scraped_is_named() {
        let targets = |names: &[&str]| {
            serde_json::json!(
                names.iter().map(|name| serde_json::json!({ "labels": { "service": name } })).collect::<Vec<_>>()
            )
            .to_string()
        };
        let all: Vec<_> = SERVICES.iter().map(|service| service.name).collect();
        assert_eq!(unknown_services(&targets(&all)).unwrap(), Vec::<String>::new());
        assert_eq!(unknown_services(&targets(&all[1..])).unwrap().len(), 1);
        assert_eq!(unknown_services(&targets(&[&all[..], &["tills"]].concat())).unwrap().len(), 1);
    }
}
