//! Metrics, dashboards and alerts on a stack that runs: Prometheus reads everything, what is documented is there and nothing else, no query asks for
//! what does not exist, and a real dead letter raises its alert until the runbook is followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use dev::{http, stack::Stack};
use serde_json::Value;

use crate::{PASSWORD, eventually, expressions};

/// As the table of deploy/METRICS.md and the text format both say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

pub(crate) async fn all(stack: &Stack) {
    something_happens(stack).await;
    every_target_is_read(stack).await;
    what_is_documented_is_measured_and_nothing_else(stack).await;
    every_metric_that_is_asked_for_exists(stack).await;
    a_dead_letter_raises_its_alert_until_the_runbook_is_followed(stack).await;
}

/// What appears with its first use appears.
async fn something_happens(stack: &Stack) {
    let shop = stack.shop();
    let operator = shop.operator().await.unwrap();
    let customer = shop.new_customer("mia@example.test", "Mia Example", PASSWORD).await.unwrap();
    shop.new_product(&operator, "MEASURED", 5).await.unwrap();
    let placed = shop.place(&customer, "MEASURED", 1, "pm_ok").await.unwrap();
    shop.follow(&customer, &placed.order.id, crate::PATIENCE, |entry| entry.state == "confirmed").await.unwrap();
}

async fn every_target_is_read(stack: &Stack) {
    eventually("every target to be read", async || {
        let answer = ask(stack, "/api/v1/targets?state=active").await;
        let targets = answer["activeTargets"].as_array().unwrap();
        let jobs: BTreeSet<_> = targets.iter().map(|target| target["labels"]["job"].as_str().unwrap()).collect();
        let all = ["postgres", "rabbitmq", "rabbitmq-queues", "services"];
        let read = targets.iter().all(|target| target["health"] == "up");
        (read && jobs == BTreeSet::from(all)).then_some(())
    })
    .await;
    let up = ask(stack, "/api/v1/query?query=sum%20by%20(service)%20(up%7Bjob%3D%22services%22%7D)").await;
    let services: BTreeSet<_> =
        up["result"].as_array().unwrap().iter().map(|one| one["metric"]["service"].as_str().unwrap()).collect();
    assert_eq!(services, BTreeSet::from_iter(Stack::services()), "every service is a target");
}

async fn what_is_documented_is_measured_and_nothing_else(stack: &Stack) {
    let (documented, later) = documented();
    let missing = |measured: &BTreeMap<String, Metric>| {
        let names = documented.keys().filter(|name| !measured.contains_key(*name) && !later.contains(*name));
        names.cloned().collect::<Vec<_>>()
    };
    let mut said = String::new();
    // A number that is taken every few seconds may come a few seconds later.
    let measured = eventually("every metric of deploy/METRICS.md to be measured", async || {
        let mut all = BTreeMap::<String, Metric>::new();
        for service in Stack::services() {
            let text = http::get(stack.port(service).unwrap(), "/metrics").await.unwrap().text();
            for (name, metric) in measured(&text) {
                let known = all.entry(name).or_default();
                known.kind = metric.kind;
                known.labels.extend(metric.labels);
            }
        }
        let missing = missing(&all);
        say_once(&mut said, missing.join(", "));
        missing.is_empty().then_some(all)
    })
    .await;
    let unknown: Vec<_> = measured.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "not in deploy/METRICS.md: {unknown:?}");
    for (name, metric) in &measured {
        assert_eq!(metric, &documented[name], "{name} is not what deploy/METRICS.md says of it");
    }
}

/// The table, and the names of those that appear with their first use.
fn documented() -> (BTreeMap<String, Metric>, BTreeSet<String>) {
    let (mut all, mut later) = (BTreeMap::new(), BTreeSet::new());
    for line in read("deploy/METRICS.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, from, meaning] = cells[..] else { panic!("not a row of five: {line}") };
        assert!(["start", "first use"].contains(&from) && !meaning.is_empty(), "{line}");
        let name = name.trim_matches('`').to_owned();
        let labels =
            labels.split(", ").map(|label| label.trim_matches('`').to_owned()).filter(|label| !label.is_empty());
        if from == "first use" {
            later.insert(name.clone());
        }
        let twice = all.insert(name, Metric { kind: kind.to_owned(), labels: labels.collect() });
        assert!(twice.is_none(), "twice in deploy/METRICS.md: {line}");
    }
    (all, later)
}

/// What a service answers at `/metrics`.
fn measured(text: &str) -> BTreeMap<String, Metric> {
    let mut all = BTreeMap::<String, Metric>::new();
    let mut helped = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped.insert(help.split(' ').next().unwrap().to_owned());
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(helped.contains(name), "{name} does not say what it means");
            all.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.is_empty() && !line.starts_with('#') {
            let (series, labels) = line.split_once(['{', ' ']).unwrap();
            let stem = |suffix: &str| series.strip_suffix(suffix).filter(|stem| all.contains_key(*stem));
            let name = ["_bucket", "_sum", "_count"].into_iter().find_map(stem).unwrap_or(series).to_owned();
            let labels = if line.contains('{') { labels } else { "" };
            let names =
                labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(name, _)| name.to_owned());
            all.entry(name).or_default().labels.extend(names.filter(|label| label != "le"));
        }
    }
    all
}

async fn every_metric_that_is_asked_for_exists(stack: &Stack) {
    let (_, later) = documented();
    let asked = asked_for();
    assert!(asked.len() > 200, "{} expressions: where are the others?", asked.len());
    let mut said = String::new();
    eventually("every metric of the dashboards and the rules", async || {
        let names = ask(stack, "/api/v1/label/__name__/values").await;
        let names: BTreeSet<_> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let mut missing = Vec::new();
        for (place, expression) in &asked {
            for metric in expressions::metrics(expression) {
                // Prometheus' own series of what is pending or fires.
                if metric != "ALERTS" && !names.contains(metric.as_str()) && !later.contains(&metric) {
                    missing.push(format!("{place}: {metric}"));
                }
            }
        }
        say_once(&mut said, missing.join(", "));
        missing.is_empty().then_some(())
    })
    .await;
    for (place, expression) in asked {
        let expression = expression.replace("$__rate_interval", "1m").replace("$__range", "5m");
        let path = format!("/api/v1/query?query={}", encoded(&expression));
        let answer = http::get(stack.prometheus_port(), &path).await.unwrap();
        assert!(answer.status.is_success(), "{place}: {expression}: {}", answer.text());
    }
}

/// What is still missing, for whoever reads why the test failed; only when it changes.
fn say_once(said: &mut String, missing: String) {
    if *said != missing {
        eprintln!("not there yet: {missing}");
        *said = missing;
    }
}

/// Every expression of the dashboards, and of the rules as they are checked in, with where it stands.
fn asked_for() -> Vec<(String, String)> {
    let mut asked = Vec::new();
    for file in files("deploy/grafana/dashboards") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let dashboard: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                asked.push((format!("{name}: {}", panel["title"]), target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    for file in files("deploy/prometheus/rules") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(expression) = line.strip_prefix("        expr: ") else { continue };
            let mut expression = expression.trim_start_matches("|-").to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                expression.push(' ');
                expression.push_str(more.trim());
            }
            asked.push((name.clone(), expression.trim().trim_matches('\'').to_owned()));
        }
    }
    asked
}

async fn a_dead_letter_raises_its_alert_until_the_runbook_is_followed(stack: &Stack) {
    assert_eq!(firing(stack).await, Vec::<String>::new(), "nothing fires on a stack that is well");
    stack.put_into_queue("inventory", "this is no event").await.unwrap();
    eventually("the alert to fire", async || (firing(stack).await == ["DeadLetters inventory"]).then_some(())).await;

    let id = stack.run_sql("inventory", "select message_id from messaging.parked where state = 'dead';").await.unwrap();
    follow_the_runbook(stack, "retry", id.trim()).await;
    eventually("the letter to have been tried again", async || {
        let tries = "select jsonb_array_length(history) from messaging.parked;";
        let tries: u32 = stack.run_sql("inventory", tries).await.unwrap().trim().parse().unwrap();
        (tries >= 2).then_some(())
    })
    .await;
    // However it ended this time, it is a dead letter that nobody wants.
    let dead = "update messaging.parked set state = 'dead', lease = null, next_attempt_at = null, died_at = now();";
    stack.run_sql("inventory", dead).await.unwrap();
    follow_the_runbook(stack, "discard", id.trim()).await;
    eventually("the alert to be gone", async || firing(stack).await.is_empty().then_some(())).await;

    let log = "select string_agg(action || ' by ' || actor, ', ' order by id) from messaging.redrive_log;";
    assert_eq!(stack.run_sql("inventory", log).await.unwrap().trim(), "retry by somebody, discard by somebody");
    let left = "select count(*) from messaging.parked;";
    assert_eq!(stack.run_sql("inventory", left).await.unwrap().trim(), "0");
}

/// Types what the runbook says, with its variables set.
async fn follow_the_runbook(stack: &Stack, what: &str, message_id: &str) {
    let runbook = read("deploy/RUNBOOK.md");
    let start = format!("```sql\n-- {what}\n");
    let script = runbook.split(&start).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let script = format!("\\set message_id {message_id}\n\\set actor somebody\n{script}");
    stack.run_sql("inventory", &script).await.unwrap();
}

/// Alerts that fire, with the service that they name.
async fn firing(stack: &Stack) -> Vec<String> {
    let answer = ask(stack, "/api/v1/alerts").await;
    let alerts = answer["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
    let name = |alert: &Value, label: &str| alert["labels"][label].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<_> =
        alerts.map(|alert| format!("{} {}", name(alert, "alertname"), name(alert, "service"))).collect();
    names.sort();
    names
}

async fn ask(stack: &Stack, path: &str) -> Value {
    let answer = http::get_json(stack.prometheus_port(), path).await;
    answer.expect("Prometheus runs beside the stack: is Debian's package prometheus there?")["data"].take()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
