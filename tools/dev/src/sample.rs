//! The sample registration that ends `cargo dev up`: somebody registers, the mail arrives, and the trace of it all is shown as a
//! tree.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    console::{self, Step},
    endpoint, files, http,
    stack::Stack,
};

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(crate) async fn show(stack: &Stack) -> Result<()> {
    console::heading("A registration, to see that it works");
    let email = format!("sample-{}@example.test", files::secret()?.get(..8).unwrap_or_default());
    let trace = register(stack, &email).await?;
    let mail = wait_for_mail(stack, &email).await?;
    show_mail(&mail);
    show_trace(stack, &trace).await
}

/// Registers, and answers with the id of the trace.
async fn register(stack: &Stack, email: &str) -> Result<String> {
    let step = Step::start("POST /users", email);
    let body = json!({ "email": email, "name": "Sample Person", "password": files::secret()? });
    let answer = http::post(stack.port("users")?, "/users", Some(&body)).await?;
    ensure!(answer.status == 202, "POST /users was answered with {}: {}", answer.status, answer.text());
    let traceparent = answer.headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let trace = traceparent.split('-').nth(1).context("the answer has no traceparent header")?.to_owned();
    step.done(format_args!("{email} → {}", answer.status));
    Ok(trace)
}

async fn wait_for_mail(stack: &Stack, email: &str) -> Result<Value> {
    let mut step = Step::start("mail", "waiting for it in the mailbox");
    let started = Instant::now();
    loop {
        let list = http::get_json(stack.mailbox_port(), "/api/v1/messages").await?;
        let to = |mail: &&Value| mail["To"].as_array().is_some_and(|to| to.iter().any(|to| to["Address"] == email));
        if let Some(id) =
            list["messages"].as_array().into_iter().flatten().find(to).and_then(|mail| mail["ID"].as_str())
        {
            let mail =
                http::get_json(stack.mailbox_port(), &format!("/api/v1/message/{}", endpoint::encode(id))).await?;
            step.done(format_args!("arrived at http://localhost:{}/view/{id}", stack.mailbox_port()));
            return Ok(mail);
        }
        if started.elapsed() > PATIENCE {
            step.failed("none arrived");
            bail!("no mail to {email} arrived in {} s; see {}", PATIENCE.as_secs(), stack.state.logs().display());
        }
        step.note("not there yet");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn show_mail(mail: &Value) {
    console::row("", format_args!("“{}”", mail["Subject"].as_str().unwrap_or_default()));
    let text = mail["Text"].as_str().unwrap_or_default();
    if let Some(link) = text.split_whitespace().find(|word| word.starts_with("http://") || word.starts_with("https://"))
    {
        console::row("", link);
    }
}

async fn show_trace(stack: &Stack, id: &str) -> Result<()> {
    let mut step = Step::start("trace", "waiting for its spans");
    let started = Instant::now();
    let mut seen = 0;
    let trace = loop {
        let answer = http::get(stack.traces_port(), &format!("/api/traces/{id}")).await?;
        let trace = if answer.status.is_success() { answer.json()?["data"][0].take() } else { Value::Null };
        let spans = trace["spans"].as_array().map_or(0, Vec::len);
        let services = trace["processes"].as_object().map_or(0, |processes| {
            let names: std::collections::BTreeSet<_> =
                processes.values().filter_map(|process| process["serviceName"].as_str()).collect();
            names.len()
        });
        // Spans come in batches: it is whole when both services are in it and a look later found nothing new.
        if services >= 2 && spans == seen {
            break trace;
        }
        if started.elapsed() > PATIENCE {
            step.failed(format_args!("{spans} spans of {services} services"));
            bail!("the trace {id} is not whole after {} s", PATIENCE.as_secs());
        }
        seen = spans;
        step.note(&format!("{spans} spans of {services} services so far"));
        tokio::time::sleep(LOOK_AGAIN * 5).await;
    };
    step.done(format_args!("http://localhost:{}/trace/{id}", stack.traces_port()));
    for line in tree(&trace) {
        console::row("", line);
    }
    Ok(())
}

/// A trace of Jaeger's JSON as an indented tree, children in the order in which they began.
fn tree(trace: &Value) -> Vec<String> {
    let spans: Vec<&Value> = trace["spans"].as_array().into_iter().flatten().collect();
    let parent = |span: &Value| {
        let references = span["references"].as_array().into_iter().flatten();
        let mut parents = references.filter(|reference| reference["refType"] == "CHILD_OF");
        parents.next().and_then(|parent| parent["spanID"].as_str()).map(str::to_owned)
    };
    let known = |id: &str| spans.iter().any(|span| span["spanID"] == id);
    let mut lines = Vec::new();
    let mut open: Vec<(&Value, usize)> = Vec::new();
    let begin = |span: &&Value| std::cmp::Reverse(span["startTime"].as_u64());
    let mut roots: Vec<_> = spans.iter().copied().filter(|span| parent(span).is_none_or(|id| !known(&id))).collect();
    roots.sort_by_key(begin);
    open.extend(roots.into_iter().map(|span| (span, 0)));
    while let Some((span, depth)) = open.pop() {
        let service =
            trace["processes"][span["processID"].as_str().unwrap_or_default()]["serviceName"].as_str().unwrap_or("?");
        let what = format!("{}{}", "  ".repeat(depth), span["operationName"].as_str().unwrap_or("?"));
        let duration = Duration::from_micros(span["duration"].as_u64().unwrap_or_default());
        lines.push(format!("{what:58} {service:14} {:>9.2} ms", duration.as_secs_f64() * 1000.0));
        let mut children: Vec<_> =
            spans.iter().copied().filter(|child| parent(child).as_deref() == span["spanID"].as_str()).collect();
        children.sort_by_key(begin);
        open.extend(children.into_iter().map(|child| (child, depth + 1)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_a_tree_in_the_order_of_time() {
        let span = |id: &str, parent: &str, name: &str, start: u64| {
            let references =
                if parent.is_empty() { json!([]) } else { json!([{ "refType": "CHILD_OF", "spanID": parent }]) };
            json!({ "spanID": id, "operationName": name, "references": references, "startTime": start, "duration": 1500, "processID": "p1" })
        };
        let trace = json!({
            "spans": [span("c", "a", "second", 30), span("d", "b", "inner", 25), span("a", "", "root", 10), span("b", "a", "first", 20)],
            "processes": { "p1": { "serviceName": "users" } },
        });
        let names: Vec<String> =
            tree(&trace).iter().map(|line| line.split("users").next().unwrap().trim_end().to_owned()).collect();
        assert_eq!(names, ["root", "  first", "    inner", "  second"]);
        assert!(tree(&trace)[0].ends_with("1.50 ms"));
    }
}
