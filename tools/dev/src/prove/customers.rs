//! The customers of a run: they register, order, change their minds, and ask again until they are told. What an answer means is decided
//! here once: an answer that was not read whole, or is no clear yes or no, may have been one or not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use proof::ledger::{Line, OrderAnswer, Request, What};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use super::{
    ledger::Ledger,
    plan::{CUSTOMERS, NO_PRODUCT, PRODUCTS, Plan, QUIET_PACE, Wish},
};
use crate::{
    http::{self, Answer, Method, StatusCode},
    shop::{Money, PATIENCE, Person, Shop, eventually},
    stack::Stack,
};

const PASSWORD: &str = "quiet-otter-sings-42";
/// An access token is good for 15 minutes; what was asked with it may take some of them.
const LOG_IN_AGAIN: Duration = Duration::from_secs(5 * 60);
/// Between two attempts at one request.
const ASK_AGAIN: Duration = Duration::from_millis(400);
/// After so many attempts nobody asks any more; the request stays unclear then.
const MAX_ATTEMPTS: u32 = 200;
/// Refusals of an attempt, not of the request: it is still in hand, there were too many, or it was too slow to arrive.
const NOT_NOW: [StatusCode; 3] = [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];

/// All of them, and where they go.
#[derive(Clone)]
pub(super) struct Customers {
    shop: Shop,
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    people: Arc<[Person]>,
    operator: Person,
    /// Of each replica.
    orders: Arc<[u16]>,
    inventory: Arc<[u16]>,
    users: Arc<[u16]>,
    logged_in: Instant,
    /// The number of the next order that was not planned.
    beyond: Arc<AtomicU64>,
}

fn email(customer: u64) -> String {
    format!("customer-{customer}@example.test")
}

/// A request, and how it is sent.
struct Asking<'a> {
    request: Request,
    keyed: bool,
    ports: &'a [u16],
    /// The replica that is asked first.
    replica: u16,
    /// Asked twice at once, of two replicas.
    impatient: bool,
    /// Asked once more after a yes, of another replica.
    doubtful: bool,
    path: String,
    token: Option<&'a str>,
    body: Option<Value>,
}

impl Customers {
    /// Registers them, and fills the shop.
    pub(super) async fn gather(stack: &Stack, plan: &Arc<Plan>, ledger: &Arc<Ledger>) -> Result<Self> {
        let ports = |service: &str| -> Result<Arc<[u16]>> {
            (0..plan.replicas).map(|replica| stack.port_of_replica(service, replica)).collect()
        };
        let shop = stack.shop();
        let operator = shop.operator().await.context("the operator cannot log in")?;
        let mut all = Self {
            shop,
            plan: Arc::clone(plan),
            ledger: Arc::clone(ledger),
            people: Arc::new([]),
            operator,
            orders: ports("orders")?,
            inventory: ports("inventory")?,
            users: ports("users")?,
            logged_in: Instant::now(),
            beyond: Arc::new(AtomicU64::new(plan.orders.into())),
        };
        let mut people = Vec::new();
        for number in 0..CUSTOMERS {
            let email = email(number);
            all.register(&email).await?;
            all.shop.verify(&email).await?;
            people.push(all.shop.log_in(&email, PASSWORD).await?.context("a customer cannot log in")?);
        }
        all.people = people.into();
        for (sku, quantity) in PRODUCTS {
            all.shop.add_product(&all.operator, sku, &format!("Product {sku}"), &Money::cents(1_999)).await?;
            all.restock(0, &Line { sku: sku.to_owned(), quantity: quantity.into() }).await?;
        }
        all.are_known().await?;
        Ok(all)
    }

    /// Logs everybody in again before their tokens are over; who cannot now does it the next time.
    pub(super) async fn renew(&mut self) -> Result<()> {
        if self.logged_in.elapsed() < LOG_IN_AGAIN {
            return Ok(());
        }
        let mut people = Vec::new();
        for number in 0..CUSTOMERS {
            people.push(self.shop.log_in(&email(number), PASSWORD).await?.context("a customer cannot log in")?);
        }
        self.operator = self.shop.operator().await.context("the operator cannot log in")?;
        self.people = people.into();
        self.logged_in = Instant::now();
        Ok(())
    }

    /// Waits until orders knows the products and the customers: an order that comes earlier is refused. Nothing is ordered: a request that
    /// wants something that is no product, too, is refused for that reason alone once all others are known.
    async fn are_known(&self) -> Result<()> {
        let all = PRODUCTS.iter().map(|(sku, _)| *sku).chain([NO_PRODUCT]);
        let lines: Vec<Value> = all.map(|sku| json!({ "sku": sku, "quantity": 1 })).collect();
        let body = json!({ "lines": lines, "payment_method": "pm_ok" });
        for person in self.people.iter() {
            eventually("orders to know products and customers", PATIENCE, async || {
                let key = [("idempotency-key", "never-an-order")];
                let port = *self.orders.first().context("there are replicas")?;
                let token = Some(person.token.as_str());
                let answer = http::send(port, Method::POST, "/orders", token, &key, Some(&body)).await?;
                let text = answer.text();
                let others = PRODUCTS.iter().enumerate().any(|(place, _)| text.contains(&format!("/lines/{place}/")));
                Ok((answer.status == StatusCode::UNPROCESSABLE_ENTITY && !others).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Begins with the orders of an episode, at its pace; whoever has to ask again goes on for longer.
    pub(super) async fn order(&self, episode: usize, under_way: &mut JoinSet<Result<()>>) -> Result<()> {
        let mut pace = tokio::time::interval(self.plan.pace(episode));
        for number in self.plan.orders_of(episode) {
            pace.tick().await;
            self.begin(number, under_way)?;
        }
        Ok(())
    }

    /// Goes on ordering beyond the plan, as long as what is done to the shop waits for something to hit; until nobody can want that any more.
    pub(super) async fn order_while_wanted(
        &self,
        mut wanted: watch::Receiver<bool>,
        under_way: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        let mut pace = tokio::time::interval(QUIET_PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while wanted.wait_for(|wanted| *wanted).await.is_ok() {
            pace.tick().await;
            self.begin(self.beyond.fetch_add(1, Ordering::Relaxed), under_way)?;
        }
        Ok(())
    }

    /// Begins with one order, and sees what came of others.
    fn begin(&self, number: u64, under_way: &mut JoinSet<Result<()>>) -> Result<()> {
        let this = self.clone();
        under_way.spawn(async move { this.wish(number).await });
        while let Some(done) = under_way.try_join_next() {
            done.context("a customer gave up")??;
        }
        Ok(())
    }

    /// Waits until everybody has been told.
    pub(super) async fn are_told(mut under_way: JoinSet<Result<()>>) -> Result<()> {
        while let Some(done) = under_way.join_next().await {
            done.context("a customer gave up")??;
        }
        Ok(())
    }

    async fn wish(&self, number: u64) -> Result<()> {
        let Wish {
            customer,
            replica,
            lines,
            payment_method,
            cancel_after_ms,
            registers,
            restocks,
            impatient,
            doubtful,
        } = self.plan.wish(number);
        if registers {
            self.register(&format!("newcomer-{number}@example.test")).await?;
        }
        if let Some(line) = restocks {
            self.restock(replica, &line).await?;
        }
        let person = self.people.get(customer).context("there are customers")?;
        let placed = self
            .ask(Asking {
                body: Some(json!({ "lines": lines, "payment_method": payment_method })),
                request: Request::Order {
                    user_id: person.id.clone(),
                    lines,
                    payment_method: payment_method.to_owned(),
                },
                keyed: true,
                ports: &self.orders,
                replica,
                impatient,
                doubtful,
                path: "/orders".to_owned(),
                token: Some(&person.token),
            })
            .await?;
        if let (What::Ok { order: Some(order), .. }, Some(wait)) = (placed, cancel_after_ms) {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            self.ask(Asking {
                path: format!("/orders/{}/cancellation", order.id),
                request: Request::Cancel { order_id: order.id },
                keyed: false,
                ports: &self.orders,
                replica,
                impatient: false,
                doubtful: false,
                token: Some(&person.token),
                body: None,
            })
            .await?;
        }
        Ok(())
    }

    async fn register(&self, email: &str) -> Result<()> {
        let asked = self.ask(Asking {
            request: Request::Register { email: email.to_owned() },
            keyed: false,
            ports: &self.users,
            replica: 0,
            impatient: false,
            doubtful: false,
            path: "/users".to_owned(),
            token: None,
            body: Some(json!({ "email": email, "name": "Ann Example", "password": PASSWORD })),
        });
        asked.await.map(drop)
    }

    async fn restock(&self, replica: u16, line: &Line) -> Result<()> {
        let asked = self.ask(Asking {
            request: Request::Restock { sku: line.sku.clone(), quantity: line.quantity },
            keyed: true,
            ports: &self.inventory,
            replica,
            impatient: false,
            doubtful: false,
            path: format!("/products/{}/restocks", line.sku),
            token: Some(&self.operator.token),
            body: Some(json!({ "quantity": line.quantity })),
        });
        asked.await.map(drop)
    }

    /// Asks until there is a clear answer; each time at the next replica.
    async fn ask(&self, asking: Asking<'_>) -> Result<What> {
        let op = self.ledger.operation();
        let mut attempt = 0;
        loop {
            let told = if asking.impatient && attempt == 0 {
                attempt = 2;
                let (first, second) = tokio::try_join!(self.attempt(&asking, op, 1), self.attempt(&asking, op, 2))?;
                if matches!(first.what, What::Ok { .. }) { first } else { second }
            } else {
                attempt += 1;
                self.attempt(&asking, op, attempt).await?
            };
            if asking.doubtful && matches!(told.what, What::Ok { .. }) {
                self.attempt(&asking, op, attempt + 1).await?;
            }
            if told.is_final || attempt >= MAX_ATTEMPTS {
                return Ok(told.what);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn attempt(&self, asking: &Asking<'_>, op: u64, attempt: u32) -> Result<Told> {
        let key = asking.keyed.then(|| format!("{}-{op}", self.plan.seed));
        self.ledger.write(op, attempt, What::Invoke { key: key.clone(), request: asking.request.clone() })?;
        let place = (usize::from(asking.replica) + attempt as usize - 1) % asking.ports.len().max(1);
        let port = *asking.ports.get(place).context("there are replicas")?;
        let traceparent = format!("00-{}-{op:016x}-01", self.ledger.trace_id(op, attempt));
        let mut headers = vec![("traceparent", traceparent.as_str())];
        headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
        let sent = http::send(port, Method::POST, &asking.path, asking.token, &headers, asking.body.as_ref()).await;
        let status = sent.as_ref().ok().map(|answer| answer.status);
        let what = meaning(&asking.request, sent);
        self.ledger.write(op, attempt, what.clone())?;
        let conflict_is_final = matches!(asking.request, Request::Cancel { .. });
        let is_final = match what {
            What::Ok { .. } => true,
            What::Fail { .. } => conflict_is_final || !status.is_some_and(|status| NOT_NOW.contains(&status)),
            What::Invoke { .. } | What::Info { .. } => false,
        };
        Ok(Told { what, is_final })
    }
}

/// What came of an attempt, and whether it makes asking again useless.
struct Told {
    what: What,
    is_final: bool,
}

/// What an answer says of its request.
fn meaning(request: &Request, sent: Result<Answer>) -> What {
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => return What::Info { status: None, why: format!("{error:#}") },
    };
    let status = answer.status.as_u16();
    let unclear = |why: String| What::Info { status: Some(status), why };
    if answer.status.is_success() {
        if !matches!(request, Request::Order { .. } | Request::Cancel { .. }) {
            return What::Ok { status, order: None };
        }
        return match answer.json().ok().as_ref().and_then(order) {
            Some(order) => What::Ok { status, order: Some(order) },
            None => unclear(format!("no order in the answer: {}", answer.text())),
        };
    }
    let problem = answer.json().ok().filter(|_| answer.header("content-type").starts_with("application/problem+json"));
    let title = problem.as_ref().and_then(|problem| problem["title"].as_str().or(problem["detail"].as_str()));
    match title {
        Some(title) if answer.status.is_client_error() => What::Fail { status, problem: title.to_owned() },
        _ => unclear(answer.text().chars().take(200).collect()),
    }
}

fn order(body: &Value) -> Option<OrderAnswer> {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    Some(OrderAnswer {
        id: text("id")?,
        user_id: text("user_id")?,
        state: text("state")?,
        lines: serde_json::from_value(body["lines"].clone()).ok()?,
        total: body["total"]["minor_units"].as_i64()?,
    })
}

#[cfg(test)]
mod tests {
    use hyper::{body::Bytes, header::HeaderMap};

    use super::*;

    fn answer(status: u16, kind: &str, body: &Value) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse()?);
        Ok(Answer { status: StatusCode::from_u16(status)?, headers, body: Bytes::from(body.to_string()) })
    }

    #[test]
    fn only_a_whole_yes_is_a_yes_and_only_a_well_formed_refusal_is_a_no() {
        let request = Request::Cancel { order_id: "1".to_owned() };
        let (order, problem) = (
            json!({ "id": "1", "user_id": "u", "state": "cancelled", "lines": [], "total": { "minor_units": 5 } }),
            json!({ "title": "no" }),
        );
        let seen = |status, kind, body| meaning(&request, answer(status, kind, body));
        assert!(matches!(seen(202, "application/json", &order), What::Ok { order: Some(_), .. }));
        assert!(matches!(seen(202, "application/json", &problem), What::Info { .. }));
        assert!(matches!(seen(409, "application/problem+json", &problem), What::Fail { status: 409, .. }));
        assert!(matches!(seen(409, "text/html", &problem), What::Info { .. }));
        assert!(matches!(seen(503, "application/problem+json", &problem), What::Info { .. }));
        assert!(matches!(meaning(&request, Err(anyhow::anyhow!("reset"))), What::Info { status: None, .. }));
    }
}
