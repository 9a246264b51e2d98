//! Orders: placing, cancelling, and watching what becomes of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LOOK_AGAIN, PATIENCE, Person, Shop, products::Money};
use crate::{
    files,
    http::{self, Events, Method, StatusCode},
};

/// Answers after which the same request may go through: not known yet, still under way, at its limit.
const LATER: [StatusCode; 3] =
    [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE];

/// So many of a product.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The product.
    pub sku: String,
    /// How many.
    pub quantity: u32,
}

/// An order as its customer sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// How far it has come.
    pub state: String,
    /// Why it was cancelled.
    #[serde(default)]
    pub reason: Option<String>,
    /// What it costs.
    pub total: Money,
}

impl Order {
    /// `confirmed`, or `cancelled (out_of_stock)`.
    #[must_use]
    pub fn outcome(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})"));
        format!("{}{}", self.state, reason.unwrap_or_default())
    }
}

/// An order that was taken.
#[derive(Clone, Debug)]
pub struct Placed {
    /// As it was answered.
    pub order: Order,
    /// The trace that everything about it is part of.
    pub trace_id: String,
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Its place in the order's history.
    pub seq: i64,
    /// When, as RFC 3339.
    pub at: String,
    /// What.
    pub event: String,
    /// The state that the order had then.
    pub state: String,
    /// More about it.
    #[serde(default)]
    pub detail: Value,
    /// The trace that it is part of.
    #[serde(default)]
    pub trace_id: Option<String>,
}

impl Entry {
    /// The detail as text; empty when there is none.
    #[must_use]
    pub fn detail(&self) -> String {
        match &self.detail {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl Shop {
    /// Places an order of one product. A product or customer that is new becomes known to orders a moment later: that is waited for.
    /// So is a service that is at its limit or gives no answer; the idempotency key makes asking again harmless.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn place(&self, customer: &Person, sku: &str, quantity: u32, method: &str) -> Result<Placed> {
        let line = Line { sku: sku.to_owned(), quantity };
        self.place_lines(customer, &[line], method).await
    }

    /// The same for several products.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn place_lines(&self, customer: &Person, lines: &[Line], method: &str) -> Result<Placed> {
        let body = json!({ "lines": lines, "payment_method": method });
        let key = files::secret()?;
        let headers = [("idempotency-key", key.as_str())];
        let started = Instant::now();
        loop {
            let token = Some(customer.token.as_str());
            let asked = http::send(self.orders, Method::POST, "/orders", token, &headers, Some(&body)).await;
            let refusal = match asked {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    return Ok(Placed { trace_id: answer.trace_id()?, order: serde_json::from_value(answer.json()?)? });
                }
                Ok(answer) => {
                    let refusal = format!("POST /orders was answered with {}: {}", answer.status, answer.text());
                    ensure!(LATER.contains(&answer.status), refusal);
                    refusal
                }
                Err(error) => format!("{error:#}"),
            };
            ensure!(started.elapsed() < PATIENCE, refusal);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Asks for an order to be cancelled.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn cancel(&self, customer: &Person, order: &str) -> Result<()> {
        let path = format!("/orders/{order}/cancellation");
        let answer = http::send(self.orders, Method::POST, &path, Some(&customer.token), &[], None).await?;
        ensure!(answer.status == 202, "POST {path} was answered with {}: {}", answer.status, answer.text());
        Ok(())
    }

    /// An order.
    ///
    /// # Errors
    /// When it is not shown.
    pub async fn order(&self, customer: &Person, order: &str) -> Result<Order> {
        Ok(serde_json::from_value(self.see(self.orders, customer, &format!("/orders/{order}")).await?)?)
    }

    /// All that happened to an order so far.
    ///
    /// # Errors
    /// When it is not shown.
    pub async fn timeline(&self, customer: &Person, order: &str) -> Result<Vec<Entry>> {
        let entries = self.see(self.orders, customer, &format!("/orders/{order}/timeline")).await?;
        serde_json::from_value(entries).context("a timeline is a list of entries")
    }

    /// How the payment of an order stands; `null` when payments has not heard of it.
    ///
    /// # Errors
    /// When the service does not say.
    pub async fn payment(&self, person: &Person, order: &str) -> Result<Value> {
        let answer = http::get_as(self.payments, &format!("/payments/{order}"), &person.token).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Value::Null);
        }
        answer.success()?.json()
    }

    /// Orders of a customer in one state, by id.
    ///
    /// # Errors
    /// When they are not listed.
    pub async fn orders_in(&self, customer: &Person, state: &str) -> Result<BTreeMap<String, Order>> {
        let mut found = BTreeMap::new();
        let mut next = Some(format!("/orders?state={state}&limit=100"));
        while let Some(path) = next {
            let answer = http::get_as(self.orders, &path, &customer.token).await?.success().with_context(|| path)?;
            next = next_page(answer.header("link"));
            let body = answer.json()?;
            let page: Vec<Order> = serde_json::from_value(body.get("items").cloned().unwrap_or(body))?;
            found.extend(page.into_iter().map(|order| (order.id.clone(), order)));
        }
        Ok(found)
    }

    /// Follows the order's stream from its beginning until `done` says so of an entry. A stream ends with the order; what happens after
    /// that is asked for again and again.
    ///
    /// # Errors
    /// When that entry does not come within `patience`.
    pub async fn follow(
        &self,
        customer: &Person,
        order: &str,
        patience: Duration,
        mut done: impl FnMut(&Entry) -> bool,
    ) -> Result<()> {
        let (path, mut last) = (format!("/orders/{order}/stream"), None::<String>);
        let following = async {
            loop {
                let opened = Events::open(self.orders, &path, &customer.token, last.as_deref()).await?;
                if let Some(mut stream) = opened {
                    while let Some(event) = stream.next().await? {
                        let entry: Entry = serde_json::from_str(&event.data)
                            .with_context(|| format!("not an entry of a timeline: {event:?}"))?;
                        last = Some(event.id);
                        if done(&entry) {
                            return anyhow::Ok(());
                        }
                    }
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(patience, following).await {
            Ok(followed) => followed.with_context(|| format!("GET {path}")),
            Err(_) => bail!("the order {order} did not come further within {} s", patience.as_secs()),
        }
    }

    async fn see(&self, port: u16, person: &Person, path: &str) -> Result<Value> {
        http::get_as(port, path, &person.token).await?.success().with_context(|| format!("GET {path}"))?.json()
    }
}

/// The path behind `rel="next"` of a `Link` header (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\"") || part.contains("rel=next"))?;
    let target = next.split_once('<')?.1.split_once('>')?.0;
    let path = target.split_once("://").map_or(target, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
    Some(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_the_link() {
        assert_eq!(next_page("</orders?after=x&limit=2>; rel=\"next\"").as_deref(), Some("/orders?after=x&limit=2"));
        assert_eq!(next_page("<http://localhost:1/a?b>; rel=\"next\"").as_deref(), Some("/a?b"));
        assert_eq!(next_page(""), None);
    }
}
