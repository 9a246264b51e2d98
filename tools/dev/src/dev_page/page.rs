//! The page of the stack as HTML: all of it, or only the part that changes.

use std::fmt::Write as _;

use hyper::StatusCode;

use super::{
    chart::chart,
    orders::{Order, Outcome},
    prometheus::{Alert, Graph, RANGES, Range},
    system::{Health, Place, Replica, Running},
};
use crate::{
    endpoint::encode,
    http_server::{Reply, escape, reply},
    look::{self, Page},
    stack::DEFAULT_NAME,
};

/// What was found.
pub(super) struct Live {
    pub(super) services: Vec<Running>,
    pub(super) places: Vec<Place>,
    pub(super) graphs: Result<Vec<Graph>, String>,
    pub(super) alerts: Result<Vec<Alert>, String>,
    pub(super) orders: Result<Vec<Order>, String>,
    pub(super) range: Range,
    /// Ports of what else there is to see.
    pub(super) traces: u16,
    pub(super) mailbox: u16,
    pub(super) docker: bool,
}

pub(super) fn whole(stack: &str, live: &Live) -> Reply {
    let title = format!("Stack {stack}");
    let name = if stack == DEFAULT_NAME { String::new() } else { format!(" --name {stack}") };
    let body = format!(
        "<h1>Stack {}</h1><p id=away class=\"note bad\" hidden>This page gets no answer any more: the stack was stopped, or is being \
         started anew.</p><div id=live>{}</div><h2>In a terminal</h2><p><code class=mono>cargo dev status{name}</code> shows who can log \
         in, and with which passwords. <code class=mono>cargo dev demo{name}</code> places orders with different ends. \
         <code class=mono>cargo dev down{name}</code> stops everything.</p>",
        escape(stack),
        sections(live),
        name = escape(&name),
    );
    let local = |port: u16, path: &str| format!("http://localhost:{port}{path}");
    let (traces, map, mailbox) = (local(live.traces, ""), local(live.traces, "/map"), local(live.mailbox, ""));
    let mut navigation = vec![("/", "This stack"), (traces.as_str(), "Traces")];
    // Jaeger has a page of its own for it, elsewhere.
    navigation.extend((!live.docker).then_some((map.as_str(), "Map of services")));
    navigation.push((mailbox.as_str(), "Mailbox"));
    Page { title: &title, navigation: &navigation, here: "/", scripts: &["dev_page.js"], body, ..Page::default() }
        .reply()
}

pub(super) fn part(live: &Live) -> Reply {
    reply(StatusCode::OK, "text/html; charset=utf-8", sections(live))
}

fn sections(live: &Live) -> String {
    format!(
        "{}{}<div class=columns><div><h2>Services</h2>{}</div><div><h2>Where everything is</h2>{}</div></div>\
         <h2>Graphs</h2>{}<h2>Latest orders</h2>{}",
        summary(live),
        alerts(live),
        services(&live.services),
        places(&live.places),
        graphs(live),
        orders(live),
    )
}

fn summary(live: &Live) -> String {
    let ready = |service: &&Running| {
        !service.replicas.is_empty()
            && service.replicas.iter().all(|replica| matches!(replica.health, Health::Ready(_)))
    };
    let (all, fine) = (live.services.len(), live.services.iter().filter(ready).count());
    let services = if fine == all {
        format!("<span class=\"good state\">All {all} services are ready.</span>")
    } else {
        format!("<span class=\"bad state unready\">{fine} of {all} services are ready.</span>")
    };
    let alerts = match &live.alerts {
        Err(_) => String::new(),
        Ok(alerts) => match alerts.iter().filter(|alert| alert.firing).count() {
            0 => " No alert fires.".to_owned(),
            firing => {
                format!(" <a class=bad href=\"#alerts\">{}.</a>", look::count(firing, "alert fires", "alerts fire"))
            }
        },
    };
    format!("<p role=status>{services}{alerts}</p>")
}

fn alerts(live: &Live) -> String {
    let Ok(alerts) = &live.alerts else { return String::new() };
    if alerts.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for alert in alerts {
        let (class, state) = if alert.firing { ("bad", "fires") } else { ("warn", "about to") };
        let runbook = if alert.runbook.starts_with("https://") || alert.runbook.starts_with("http://") {
            format!("<a href=\"{0}\">{0}</a>", escape(&alert.runbook))
        } else {
            format!("<span class=mono>{}</span>", escape(&alert.runbook))
        };
        let _ = write!(
            rows,
            "<tr><td><span class=\"tag {class}\">{state}</span></td><td>{} <span class=muted>{}</span></td><td>{}</td><td>{runbook}</td>\
             <td class=\"when muted\">{}</td></tr>",
            escape(&alert.name),
            escape(&alert.severity),
            escape(&alert.summary),
            escape(&alert.since),
        );
    }
    format!(
        "<h2 id=alerts>Alerts</h2><div class=wide><table><thead><tr><th></th><th>Alert</th><th>What</th><th>What to do</th>\
         <th>Since (UTC)</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn services(services: &[Running]) -> String {
    let mut rows = String::new();
    for service in services {
        let replicas: String = if service.replicas.is_empty() {
            "<span class=\"state gone bad\">not started</span>".to_owned()
        } else {
            service.replicas.iter().map(replica).collect()
        };
        let api = service.replicas.first().map_or_else(String::new, |replica| {
            format!(
                "<a href=\"http://localhost:{0}/docs\">API to try</a> · <a href=\"http://localhost:{0}/metrics\">metrics</a>",
                replica.port
            )
        });
        let _ = write!(
            rows,
            "<tr><th scope=row>{}</th><td>{replicas}</td><td class=when>{api}</td></tr>",
            escape(service.name)
        );
    }
    format!("<table class=services><tbody>{rows}</tbody></table>")
}

fn replica(replica: &Replica) -> String {
    let url = format!("http://localhost:{}/readyz", replica.port);
    let (class, word, reasons) = match &replica.health {
        Health::Ready(warnings) if warnings.is_empty() => ("good state", "ready", &[] as &[String]),
        Health::Ready(warnings) => ("warn state unready", "ready, but", warnings.as_slice()),
        Health::Unready(reasons) => ("bad state unready", "not ready", reasons.as_slice()),
        Health::Gone => ("bad state gone", "gone: it ended by itself, or was killed", &[] as &[String]),
    };
    let reasons: String =
        reasons.iter().map(|reason| format!("<span class=\"replica muted\">{}</span>", escape(reason))).collect();
    format!(
        "<span class=replica title=\"process {}\"><span class=\"{class}\">{word}</span> <a href=\"{url}\">{}</a> \
         <span class=muted>port {}</span>{reasons}</span>",
        escape(&replica.pid),
        escape(&replica.label),
        replica.port,
    )
}

fn places(places: &[Place]) -> String {
    let mut rows = String::new();
    for place in places {
        let address =
            place.url.as_ref().map_or_else(String::new, |url| format!("<a href=\"{0}\">{0}</a> ", escape(url)));
        let class = if place.works { "muted" } else { "bad" };
        let _ =
            write!(rows, "<dt>{}</dt><dd>{address}<span class={class}>{}</span></dd>", place.name, escape(&place.what));
    }
    format!("<dl class=places>{rows}</dl>")
}

fn graphs(live: &Live) -> String {
    let graphs = match &live.graphs {
        Ok(graphs) => graphs,
        Err(reason) => {
            return format!(
                "<p class=note>Prometheus does not answer ({}), so there are no graphs and no alerts. Everything else works without it; \
                 the numbers themselves are at <span class=mono>/metrics</span> of each service.</p>",
                escape(reason)
            );
        }
    };
    let ranges: String = RANGES
        .iter()
        .map(|range| {
            if *range == live.range {
                format!("<b aria-current=true>{}</b> ", range.name)
            } else {
                format!("<a href=\"/?range={}\">{}</a> ", encode(range.name), range.name)
            }
        })
        .collect();
    let charts: String = graphs.iter().map(chart).collect();
    format!("<p class=tools><span class=muted>The last</span> {ranges}</p><div class=charts>{charts}</div>")
}

fn orders(live: &Live) -> String {
    let orders = match &live.orders {
        Ok(orders) if orders.is_empty() => {
            return "<p class=note>Nobody has ordered anything in this stack yet.</p>".to_owned();
        }
        Ok(orders) => orders,
        Err(reason) => return format!("<p class=note>The traces do not answer ({}).</p>", escape(reason)),
    };
    let mut rows = String::new();
    for order in orders {
        let (class, outcome) = match order.outcome {
            Outcome::Confirmed => ("good", "confirmed".to_owned()),
            Outcome::Cancelled => ("warn", "cancelled".to_owned()),
            Outcome::Refused(status) => ("warn", format!("refused ({status})")),
            Outcome::UnderWay => ("muted", "under way".to_owned()),
        };
        let errors = if order.errors == 0 {
            "–".to_owned()
        } else {
            format!("<span class=\"tag bad\">{}</span>", look::count(order.errors, "error", "errors"))
        };
        let _ = write!(
            rows,
            "<tr><td class=\"when muted\">{}</td><td class={class}>{outcome}</td><td><a class=mono href=\"http://localhost:{}/trace/{}\">{}</a></td>\
             <td class=n>{}</td><td class=n>{errors}</td><td class=n>{}</td></tr>",
            look::time(order.began_us.saturating_mul(1_000)),
            live.traces,
            encode(&order.trace),
            escape(&order.trace),
            order.spans,
            look::duration(order.duration_us.saturating_mul(1_000)),
        );
    }
    format!(
        "<div class=wide><table><thead><tr><th>Placed (UTC)</th><th>What became of it</th><th>Trace</th><th class=n>Spans</th><th class=n>Errors</th>\
         <th class=n>Until its end</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(health: Health) -> Live {
        let [range, ..] = RANGES;
        let replica = Replica { label: "orders-0".to_owned(), port: 8082, pid: "42".to_owned(), health };
        Live {
            services: vec![Running { name: "orders", replicas: vec![replica] }],
            places: vec![],
            graphs: Err("Connection refused".to_owned()),
            alerts: Err("Connection refused".to_owned()),
            orders: Ok(vec![]),
            range,
            traces: 16686,
            mailbox: 8025,
            docker: false,
        }
    }

    #[test]
    fn without_prometheus_the_rest_is_shown_and_what_is_missing_is_said() {
        let shown = sections(&live(Health::Ready(vec![])));
        assert!(shown.contains("All 1 services are ready."), "{shown}");
        assert!(shown.contains("Prometheus does not answer (Connection refused)"), "{shown}");
        assert!(!shown.contains("No alert fires"), "nobody knows that: {shown}");
        assert!(shown.contains("Nobody has ordered anything"), "{shown}");
    }

    #[test]
    fn a_service_that_is_not_ready_says_why_and_reasons_are_text() {
        let shown = sections(&live(Health::Unready(vec!["database: <away>".to_owned()])));
        assert!(shown.contains("0 of 1 services are ready."), "{shown}");
        assert!(shown.contains("database: &lt;away&gt;"), "{shown}");
        let shown = sections(&live(Health::Gone));
        assert!(shown.contains("0 of 1 services are ready.") && shown.contains("gone: it ended"), "{shown}");
    }

    #[test]
    fn alerts_that_fire_are_counted_and_shown_with_what_to_do() {
        let alert = |name: &str, firing: bool| Alert {
            name: name.to_owned(),
            firing,
            severity: "critical".to_owned(),
            summary: "3 dead letters & more".to_owned(),
            runbook: "javascript:alert(1)".to_owned(),
            since: "2030-01-02 03:04:05".to_owned(),
        };
        let alerts = Ok(vec![alert("DeadLetters", true), alert("OldestPending", false)]);
        let shown = sections(&Live { alerts, graphs: Ok(vec![]), ..live(Health::Ready(vec![])) });
        assert!(shown.contains("1 alert fires."), "{shown}");
        assert!(shown.contains("3 dead letters &amp; more") && shown.contains("OldestPending"), "{shown}");
        assert!(!shown.contains("href=\"javascript"), "only what is an address is a link: {shown}");
    }
}
