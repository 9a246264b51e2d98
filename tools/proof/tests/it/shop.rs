//! A correct shop, played: what it would have left behind, written down step by step. It shares nothing with the checker but the format.

use std::collections::BTreeMap;

use proof::{
    Run,
    dumps::{
        Answer, BookEntry, Event, Handled, Head, HistoryEntry, KnownProduct, Messaging, Movement, Notification, Order,
        OrderLine, Payment, Product, Reservation, SERVICES, User,
    },
    ledger::{
        Binding, End, Entry, Evidence, Fault, Line, Mail, OrderAnswer, ProcessSample, Queue, Request, Sample, Tapped,
        What,
    },
    plan::{Floors, Patience, Plan},
};
use serde_json::json;

pub(crate) const SEED: u64 = 7;
pub(crate) const SKUS: [&str; 3] = ["A-1", "B-2", "C-3"];
const PRICE: i64 = 250;
/// How long an order waits in each state. Most things take 5 ms.
const PATIENCE_MS: u64 = 60_000;

const BINDINGS: [(&str, &str); 18] = [
    ("orders", "inventory.v1.ProductChanged"),
    ("orders", "inventory.v1.StockReserved"),
    ("orders", "inventory.v1.StockRejected"),
    ("orders", "inventory.v1.StockReleased"),
    ("orders", "inventory.v1.StockCommitted"),
    ("orders", "payments.v1.PaymentAuthorized"),
    ("orders", "payments.v1.PaymentDeclined"),
    ("orders", "payments.v1.PaymentRefunded"),
    ("inventory", "orders.v1.OrderPlaced"),
    ("inventory", "orders.v1.OrderPaid"),
    ("inventory", "orders.v1.OrderCancelled"),
    ("payments", "orders.v1.PaymentDue"),
    ("payments", "orders.v1.OrderCancelled"),
    ("notifications", "users.v1.UserRegistered"),
    ("notifications", "users.v1.EmailVerificationRequested"),
    ("notifications", "orders.v1.OrderConfirmed"),
    ("notifications", "orders.v1.OrderCancelled"),
    ("notifications", "payments.v1.PaymentRefunded"),
];

/// How the driver learns what came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// By the first answer.
    AtOnce,
    /// The first answer is lost, the second comes.
    Again,
    /// No answer ever comes.
    Never,
}

/// A run that is being played.
pub(crate) struct Shop {
    pub(crate) run: Run,
    clock_ms: u64,
    ops: u64,
    ids: u64,
    numbers: BTreeMap<(usize, String), i64>,
    customer: (String, String),
}

/// An order that is being played.
pub(crate) struct Playing {
    pub(crate) id: String,
    trace: String,
    lines: Vec<Line>,
    method: String,
    /// Its message may come twice.
    pub(crate) twice: bool,
}

fn service(name: &str) -> usize {
    SERVICES.iter().position(|known| *known == name).unwrap()
}

impl Shop {
    /// With one customer and a stock of everything.
    pub(crate) fn open() -> Self {
        let run = Run {
            plan: Plan {
                seed: SEED,
                accounts: Vec::new(),
                poisons: Vec::new(),
                floors: Floors { acknowledged: 0.9, confirmed: 0, recovered: 0, absorbed: 0, faults: 0 },
                quiet: false,
                patience: Some(Patience {
                    placed_ms: PATIENCE_MS,
                    reserved_ms: PATIENCE_MS,
                    paid_ms: PATIENCE_MS,
                    slack_ms: Some(1_000),
                }),
            },
            end: End { drained_after_ms: 1200, bound_ms: 60_000, stuck: None, redelivered: 0 },
            history: Vec::new(),
            faults: Vec::new(),
            samples: samples(),
            tap: Vec::new(),
            mails: Vec::new(),
            bindings: BINDINGS
                .map(|(consumer, kind)| Binding { consumer: consumer.to_owned(), kind: kind.to_owned() })
                .into(),
            queues: SERVICES.map(|name| Queue { name: name.to_owned(), messages: 0 }).into(),
            users: Vec::new(),
            orders: Vec::new(),
            order_lines: Vec::new(),
            order_history: Vec::new(),
            known_products: Vec::new(),
            order_answers: Vec::new(),
            products: Vec::new(),
            movements: Vec::new(),
            reservations: Vec::new(),
            restock_answers: Vec::new(),
            payments: Vec::new(),
            book: Vec::new(),
            notifications: Vec::new(),
            messaging: Default::default(),
        };
        let customer = (String::new(), String::new());
        let mut shop = Self { run, clock_ms: 10_000, ops: 0, ids: 0, numbers: BTreeMap::new(), customer };
        shop.customer = shop.registers("ada@example.test", Seen::AtOnce);
        for sku in SKUS {
            let (sku, version) = (sku.to_owned(), 1);
            shop.run.known_products.push(KnownProduct { sku: sku.clone(), version });
            shop.run.products.push(Product {
                sku: sku.clone(),
                available: 0,
                reserved: 0,
                sold: 0,
                received: 0,
                version,
            });
            shop.publishes("inventory", "ProductChanged", &sku, false);
            shop.restocks(&sku, 10_000, Seen::AtOnce);
        }
        shop
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("id-{:04}", self.ids)
    }

    pub(crate) fn now(&mut self) -> u64 {
        self.clock_ms += 5;
        self.clock_ms
    }

    fn writes(&mut self, op: u64, attempt: u32, what: What) {
        let monotonic_ms = self.now();
        let trace_id = trace(op, attempt);
        self.run.history.push(Entry {
            seed: SEED,
            op,
            attempt,
            monotonic_ms,
            wall_ms: 1_000_000 + monotonic_ms,
            trace_id,
            what,
        });
    }

    /// A request, up to the attempt in which it is done. Answers with its key, and the trace in which it was done.
    fn asks(&mut self, request: &Request, keyed: bool, seen: Seen) -> (u64, Option<String>, String) {
        self.ops += 1;
        let op = self.ops;
        let key = keyed.then(|| format!("key-{op}"));
        self.writes(op, 1, What::Invoke { key: key.clone(), request: request.clone() });
        if seen != Seen::AtOnce {
            self.writes(op, 1, What::Info { status: None, why: "connection reset".to_owned() });
        }
        if seen == Seen::Again {
            self.writes(op, 2, What::Invoke { key: key.clone(), request: request.clone() });
        }
        (op, key, trace(op, 1))
    }

    fn is_told(&mut self, op: u64, seen: Seen, what: What) {
        match seen {
            Seen::AtOnce => self.writes(op, 1, what),
            Seen::Again => self.writes(op, 2, what),
            Seen::Never => {}
        }
    }

    /// A message, with the effects that it has on whoever hears it.
    pub(crate) fn publishes(&mut self, by: &str, name: &str, key: &str, twice: bool) -> String {
        let producer = service(by);
        let kind = format!("{by}.v1.{name}");
        let seq = self.numbers.entry((producer, key.to_owned())).or_insert(0);
        *seq += 1;
        let seq = *seq;
        let message_id = self.id();
        let journal = &mut self.run.messaging[producer].journal;
        let position = journal.len() as i64 + 1;
        journal.push(Event { message_id: message_id.clone(), kind: kind.clone(), key: key.to_owned(), seq, position });
        let routing_key = format!("{kind}.{}", key.len() % 16);
        let tapped =
            Tapped { message_id: message_id.clone(), kind: kind.clone(), key: key.to_owned(), seq, routing_key };
        self.run.tap.extend(std::iter::repeat_n(tapped, if twice { 2 } else { 1 }));
        for (consumer, _) in BINDINGS.into_iter().filter(|(_, heard)| *heard == kind) {
            let Messaging { inbox, heads, .. } = &mut self.run.messaging[service(consumer)];
            inbox.push(Handled { message_id: message_id.clone(), consumer: consumer.to_owned() });
            match heads.iter_mut().find(|head| head.producer == by && head.key == key) {
                Some(head) => head.seq = seq,
                None => heads.push(Head {
                    consumer: consumer.to_owned(),
                    producer: by.to_owned(),
                    key: key.to_owned(),
                    seq,
                }),
            }
        }
        message_id
    }

    fn mails(&mut self, template: &str, order: Option<&Playing>, copies: usize) {
        let id = self.id();
        let message_id = format!("{id}@shop.test");
        self.run.notifications.push(Notification {
            id,
            user_id: Some(self.customer.0.clone()),
            template: template.to_owned(),
            state: "sent".to_owned(),
            message_id: format!("<{message_id}>"),
            details: order.map(|order| json!({ "order_id": order.id })),
            trace_id: order.map(|order| order.trace.clone()),
        });
        let mail = Mail {
            message_id,
            recipient: self.customer.1.clone(),
            subject: template.to_owned(),
            order_id: order.map(|order| order.id.clone()),
        };
        self.run.mails.extend(std::iter::repeat_n(mail, copies));
    }

    /// Somebody opens an account.
    pub(crate) fn registers(&mut self, email: &str, seen: Seen) -> (String, String) {
        let (op, _, _) = self.asks(&Request::Register { email: email.to_owned() }, false, seen);
        let id = self.id();
        let account = (id.clone(), email.to_owned());
        self.run.users.push(User { id: id.clone(), email: email.to_owned() });
        self.publishes("users", "UserRegistered", &id, false);
        self.publishes("users", "EmailVerificationRequested", &id, false);
        let customer = std::mem::replace(&mut self.customer, account.clone());
        self.mails("verify_email", None, 1);
        if !customer.0.is_empty() {
            self.customer = customer;
        }
        self.is_told(op, seen, What::Ok { status: 202, order: None });
        account
    }

    /// Goods come in.
    pub(crate) fn restocks(&mut self, sku: &str, quantity: i64, seen: Seen) {
        let (op, key, trace) = self.asks(&Request::Restock { sku: sku.to_owned(), quantity }, true, seen);
        self.moves(sku, [quantity, 0, 0, quantity], "restock", None, &trace);
        let body = json!({ "sku": sku });
        self.run.restock_answers.push(Answer { owner: "operator".to_owned(), key: key.unwrap(), status: 201, body });
        self.is_told(op, seen, What::Ok { status: 201, order: None });
    }

    fn moves(&mut self, sku: &str, by: [i64; 4], cause: &str, order: Option<&str>, trace: &str) {
        let at_ms = self.now();
        let [available, reserved, sold, received] = by;
        let product = self.run.products.iter_mut().find(|product| product.sku == sku).unwrap();
        product.available += available;
        product.reserved += reserved;
        product.sold += sold;
        product.received += received;
        product.version += 1;
        self.run.movements.push(Movement {
            id: self.run.movements.len() as i64 + 1,
            sku: sku.to_owned(),
            available,
            reserved,
            sold,
            received,
            cause: cause.to_owned(),
            order_id: order.map(str::to_owned),
            trace_id: Some(trace.to_owned()),
            at_ms: Some(at_ms),
        });
    }

    /// A request that is refused for good.
    pub(crate) fn is_refused(&mut self, request: &Request) {
        let (op, ..) =
            self.asks(request, !matches!(request, Request::Cancel { .. } | Request::Register { .. }), Seen::AtOnce);
        self.writes(op, 1, What::Fail { status: 422, problem: "cannot be".to_owned() });
    }

    /// A request that never arrives.
    pub(crate) fn is_lost(&mut self, request: &Request) {
        self.asks(request, true, Seen::Never);
    }

    pub(crate) fn wish(&self, lines: &[Line], method: &str) -> Request {
        Request::Order { user_id: self.customer.0.clone(), lines: lines.to_vec(), payment_method: method.to_owned() }
    }

    /// An order begins.
    pub(crate) fn places(&mut self, lines: Vec<Line>, method: &str, seen: Seen, twice: bool) -> Playing {
        let (op, key, trace) = self.asks(&self.wish(&lines, method), true, seen);
        let id = self.id();
        let total = lines.iter().map(|line| line.quantity * PRICE).sum();
        let user_id = self.customer.0.clone();
        self.run.orders.push(Order {
            id: id.clone(),
            user_id: user_id.clone(),
            state: String::new(),
            reason: None,
            payment_method: method.to_owned(),
            total,
            currency: "EUR".to_owned(),
            version: 0,
        });
        self.run.order_lines.extend(lines.iter().map(|line| OrderLine {
            order_id: id.clone(),
            sku: line.sku.clone(),
            quantity: line.quantity,
            price: PRICE,
        }));
        let body = json!({ "id": id });
        self.run.order_answers.push(Answer { owner: user_id.clone(), key: key.unwrap(), status: 202, body });
        let order = Playing { id: id.clone(), trace, lines: lines.clone(), method: method.to_owned(), twice };
        self.becomes(&order, "order_placed", "placed");
        self.publishes("orders", "OrderPlaced", &id, twice);
        let state = "placed".to_owned();
        self.is_told(op, seen, What::Ok { status: 202, order: Some(OrderAnswer { id, user_id, state, lines, total }) });
        order
    }

    /// Something happens to an order. In the same state: it is noted.
    pub(crate) fn becomes(&mut self, order: &Playing, event: &str, state: &str) {
        let at_ms = self.now();
        let row = self.run.orders.iter_mut().find(|row| row.id == order.id).unwrap();
        row.state = state.to_owned();
        row.version += 1;
        self.run.order_history.push(HistoryEntry {
            order_id: order.id.clone(),
            seq: row.version,
            event: event.to_owned(),
            state: state.to_owned(),
            trace_id: Some(order.trace.clone()),
            at_ms: Some(at_ms),
        });
    }

    /// Nothing happens until a deadline is over.
    pub(crate) fn waits(&mut self) {
        self.clock_ms += PATIENCE_MS;
    }

    /// What the goods of an order do: available, reserved, sold for each piece.
    pub(crate) fn shifts(&mut self, order: &Playing, cause: &str, signs: [i64; 3]) {
        for line in &order.lines {
            let [available, reserved, sold] = signs.map(|sign| sign * line.quantity);
            self.moves(&line.sku, [available, reserved, sold, 0], cause, Some(&order.id), &order.trace);
        }
    }

    pub(crate) fn reservation(&mut self, order: &Playing, state: &str, reason: Option<&str>) {
        let known = self.run.reservations.iter().position(|row| row.order_id == order.id);
        let known = known.map(|place| self.run.reservations.remove(place));
        let expires_ms = known.map_or(self.now() + PATIENCE_MS, |row| row.expires_ms.unwrap());
        self.run.reservations.push(Reservation {
            order_id: order.id.clone(),
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            expires_ms: Some(expires_ms),
        });
    }

    pub(crate) fn payment(&mut self, order: &Playing, state: &str, written: &str) {
        let total = order.lines.iter().map(|line| line.quantity * PRICE).sum();
        let id = format!("pay-{}", order.id);
        self.run.payments.retain(|row| row.id != id);
        self.run.book.retain(|row| row.key != id);
        self.run.book.push(BookEntry {
            key: id.clone(),
            minor_units: Some(total),
            currency: Some("EUR".to_owned()),
            state: written.to_owned(),
        });
        self.run.payments.push(Payment {
            id,
            order_id: order.id.clone(),
            minor_units: total,
            currency: "EUR".to_owned(),
            payment_method: order.method.clone(),
            state: state.to_owned(),
            trace_id: Some(order.trace.clone()),
        });
    }

    /// The order's end is announced, and its customer told.
    pub(crate) fn tells(&mut self, order: &Playing, by: &str, name: &str, template: &str, copies: usize) {
        self.publishes(by, name, &order.id, order.twice);
        self.mails(template, Some(order), copies);
    }

    /// The last mail was refused for good: it did not arrive, and that is said.
    pub(crate) fn is_sent_back(&mut self) {
        self.run.mails.pop();
        let letter = self.run.notifications.last_mut().unwrap();
        letter.state = "bounced".to_owned();
        let id = letter.id.clone();
        self.publishes("notifications", "EmailFailed", &id, false);
    }

    /// The order is cancelled.
    pub(crate) fn cancels(&mut self, order: &Playing, event: &str, reason: &str) {
        self.becomes(order, event, "cancelled");
        let row = self.run.orders.iter_mut().find(|row| row.id == order.id).unwrap();
        row.reason = Some(reason.to_owned());
        self.tells(order, "orders", "OrderCancelled", "order_cancelled", 1);
    }

    /// The customer asks for the cancellation, and is told that it is done.
    pub(crate) fn customer_cancels(&mut self, order: &Playing, seen: Seen) {
        let (op, ..) = self.asks(&Request::Cancel { order_id: order.id.clone() }, false, seen);
        self.cancels(order, "cancellation_requested", "cancelled_by_customer");
        let answer = OrderAnswer {
            id: order.id.clone(),
            user_id: self.customer.0.clone(),
            state: "cancelled".to_owned(),
            lines: order.lines.clone(),
            total: 0,
        };
        self.is_told(op, seen, What::Ok { status: 202, order: Some(answer) });
    }

    /// Something was done to the shop from a moment on until now.
    pub(crate) fn was_hit(&mut self, start_ms: u64, mails_in_hand: u64) {
        let id = self.run.faults.len() as u64 + 1;
        let end_ms = self.now();
        self.run.faults.push(Fault {
            id,
            kind: "kill".to_owned(),
            target: "notifications-0".to_owned(),
            start_ms,
            end_ms,
            evidence: Evidence { count: 1, text: "a process ended".to_owned() },
            mails_in_hand,
            mails_refused: 0,
            poisons: Vec::new(),
        });
    }
}

/// Two processes for five minutes, as a sane one looks: some noise, and a restart in the middle.
fn samples() -> Vec<Sample> {
    let process = |name: &str, second: u64| ProcessSample {
        name: name.to_owned(),
        pid: if second < 150 { 100 } else { 101 },
        resident_bytes: (40 + second % 7) << 20,
        files: 60 + second % 5,
    };
    let sample = |second| Sample {
        at_ms: second * 1000,
        processes: vec![process("orders-0", second), process("orders-1", second + 1)],
        connections: Some(24),
        queued: Some(second % 3),
        sessions: (second % 50 != 0).then_some(120 + second % 9),
    };
    (0..300).map(sample).collect()
}

fn trace(op: u64, attempt: u32) -> String {
    format!("{:032x}", op * 100 + u64::from(attempt))
}
