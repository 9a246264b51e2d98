//! What is there in part, or otherwise.

use proof::ledger::What;

use super::{GHOST, INVENTORY, Mutation, ORDERS, changed, pick, whichever, within};

#[rustfmt::skip]
pub(super) const PARTIAL: &[Mutation] = &[
    ("a done request is written down as refused", &["refused"], |run, index| {
        let place = pick(&run.history, index, |entry| {
            entry.attempt == 1 && matches!(&entry.what, What::Ok { order: Some(order), .. } if order.state == "placed")
        });
        run.history[place].what = What::Fail { status: 422, problem: "no".to_owned() };
        format!("request {}", run.history[place].op)
    }),
    ("a refused request is written down as done", &["acknowledged"], |run, index| {
        let place = pick(&run.history, index, |entry| entry.op > 10 && matches!(entry.what, What::Fail { .. }));
        let op = run.history[place].op;
        let order = proof::ledger::OrderAnswer { id: GHOST.to_owned(), user_id: String::new(), state: "placed".to_owned(), lines: Vec::new(), total: 0 };
        let asked = run.history.iter().find_map(|entry| match &entry.what {
            What::Invoke { request, .. } if entry.op == op => Some(request.clone()),
            _ => None,
        });
        let about_an_order = matches!(asked, Some(proof::ledger::Request::Order { .. } | proof::ledger::Request::Cancel { .. }));
        run.history[place].what = What::Ok { status: 202, order: about_an_order.then_some(order) };
        format!("request {op}")
    }),
    ("an entry of another run", &["history"], |run, index| {
        let place = index.index(run.history.len());
        run.history[place].seed += 1;
        format!("request {} attempt {}", run.history[place].op, run.history[place].attempt)
    }),
    ("an order costs something else", &["whole"], change_one!(orders, whichever, id, |row| row.total += 1)),
    ("an order is somebody else's", &["asked_for"], change_one!(orders, whichever, id, |row| row.user_id = GHOST.to_owned())),
    ("an order is of something else", &["asked_for"], change_one!(order_lines, whichever, order_id, |row| {
        row.price *= row.quantity;
        row.quantity = 1;
        row.sku = GHOST.to_owned();
    })),
    ("an order is in another state than its history says", &["saga"], change_one!(orders, whichever, id, |row| row.state = "reserved".to_owned())),
    ("an order never ended", &["settled"], change_one!(orders, whichever, id, |row| row.state = "paid".to_owned())),
    ("an order is cancelled for no reason", &["saga"], change_one!(orders, |row| row.state == "cancelled", id, |row| row.reason = None)),
    ("a stored answer names another order", &["asked_for"], |run, index| {
        let place = index.index(run.order_answers.len());
        let id = run.order_answers[place].body["id"].as_str().unwrap().to_owned();
        run.order_answers[place].body["id"] = GHOST.into();
        id
    }),
    ("a product has more than its book says", &["stock"], change_one!(products, whichever, sku, |row| row.available += 1)),
    ("more is sold than there was", &["stock"], |run, index| {
        let place = pick(&run.movements, index, |movement| movement.cause == "reserve");
        run.movements[place].available -= 100_000;
        run.movements[place].reserved += 100_000;
        run.movements[place].order_id.clone().unwrap()
    }),
    ("only a part of the goods is moved", &["stock_of_orders"], |run, index| {
        let place = pick(&run.movements, index, |movement| movement.cause == "reserve");
        run.movements[place].available += 1;
        run.movements[place].reserved -= 1;
        run.movements[place].order_id.clone().unwrap()
    }),
    ("a confirmed order has no goods", &["stock_of_orders"], change_one!(reservations, |row| row.state == "committed", order_id, |row| row.state = "released".to_owned())),
    ("the goods of a cancelled order are kept", &["stock_of_orders"], |run, index| {
        let place = pick(&run.movements, index, |movement| movement.cause == "take_back");
        let order = run.movements[place].order_id.clone().unwrap();
        run.movements.retain(|movement| movement.cause != "take_back" || movement.order_id.as_ref() != Some(&order));
        run.reservations.iter_mut().find(|row| row.order_id == order).unwrap().state = "committed".to_owned();
        order
    }),
    ("goods are held for ever", &["settled"], change_one!(reservations, whichever, order_id, |row| row.state = "held".to_owned())),
    ("the payment is of another amount", &["money"], change_one!(payments, whichever, id, |row| row.minor_units += 1)),
    ("the provider took another amount", &["money"], change_one!(book, |row| row.state == "charged", key, |row| row.minor_units = Some(1))),
    ("a confirmed order was not charged", &["money"], change_one!(book, |row| row.state == "charged", key, |row| row.state = "voided".to_owned())),
    ("the money of a cancelled order is kept", &["money"], change_one!(book, |row| row.state == "refunded", key, |row| row.state = "charged".to_owned())),
    ("a payment is under way for ever", &["settled"], change_one!(payments, whichever, id, |row| row.state = "pending".to_owned())),
    ("a letter was given up", &["letters"], change_one!(notifications, whichever, id, |row| row.state = "failed".to_owned())),
    ("a letter came back that was not refused", &["letters"], change_one!(notifications, |row| row.state == "sent", id, |row| row.state = "bounced".to_owned())),
    ("a letter was never sent", &["settled"], change_one!(notifications, whichever, id, |row| row.state = "pending".to_owned())),
    ("a mail goes to somebody else", &["letters"], |run, index| {
        let place = index.index(run.mails.len());
        run.mails[place].recipient = GHOST.to_owned();
        run.mails[place].message_id.split('@').next().unwrap().to_owned()
    }),
    ("a mail is about another order", &["letters"], |run, index| {
        let place = pick(&run.mails, index, |mail| mail.order_id.is_some());
        run.mails[place].order_id = Some(GHOST.to_owned());
        run.mails[place].message_id.split('@').next().unwrap().to_owned()
    }),
    ("a message is published about something else", &["published"], change_one!(tap, whichever, message_id, |row| row.key = GHOST.to_owned())),
    ("a message takes the way of another type", &["published"], change_one!(tap, whichever, message_id, |row| row.routing_key = GHOST.to_owned())),
    ("a step of an order was never announced", &["announced"], of!(ORDERS, journal, |rows, index| {
        let place = pick(rows, index, |row| row.kind == "orders.v1.PaymentDue");
        rows.remove(place).key
    })),
    ("what became of the goods was never announced", &["announced"], of!(INVENTORY, journal, |rows, index| {
        let place = pick(rows, index, |row| row.kind != "inventory.v1.ProductChanged");
        rows.remove(place).key
    })),
    ("a consumer stopped before the last message of a key", &["ordered"], of!(ORDERS, heads, |rows, index| {
        let place = index.index(rows.len());
        rows[place].seq -= 1;
        rows[place].key.clone()
    })),
    ("orders knows a product that does not exist yet", &["ordered"], change_one!(known_products, whichever, sku, |row| row.version += 1_000)),
    ("a message was never published", &["drained"], |run, index| {
        let place = index.index(run.messaging[ORDERS].journal.len());
        let event = run.messaging[ORDERS].journal.remove(place);
        run.messaging[ORDERS].outbox.push(event.clone());
        event.message_id
    }),
    ("work was never done", &["drained"], |run, _| {
        run.messaging[ORDERS].jobs.push(proof::dumps::Job { task: "send_email".to_owned(), id: GHOST.to_owned() });
        GHOST.to_owned()
    }),
    ("a queue is not empty", &["drained"], change_one!(queues, whichever, name, |queue| queue.messages = 1)),
    ("the shop never came to rest", &["drained"], |run, _| { run.end.stuck = Some("orders".to_owned()); String::new() }),
    ("the shop came to rest too late", &["drained"], |run, _| { run.end.drained_after_ms = run.end.bound_ms + 1; String::new() }),
    ("a confirmed order's history is in another trace", &["one_trace"], |run, index| {
        let place = pick(&run.order_history, index, |entry| entry.state == "confirmed");
        run.order_history[place].trace_id = Some(GHOST.to_owned());
        run.order_history[place].order_id.clone()
    }),
    ("a confirmed order's payment has no trace", &["one_trace"], change_one!(payments, |row| row.state == "authorized", order_id, |row| row.trace_id = None)),
    ("a fault did not bite", &["floors"], |run, _| { run.faults[0].evidence.count = 0; "fault 1".to_owned() }),
    ("too few orders were confirmed", &["floors"], |run, _| { run.plan.floors.confirmed = 1_000; String::new() }),
    ("too little was recovered", &["floors"], |run, _| { run.plan.floors.recovered = 1_000; String::new() }),
    ("too little was absorbed", &["floors"], |run, _| { run.plan.floors.absorbed = 1_000; String::new() }),
    ("too little was answered at once", &["floors"], |run, _| { run.plan.floors.acknowledged = 1.1; String::new() }),
    ("a run with faults calls itself quiet", &["undisturbed"], |run, _| { run.plan.quiet = true; String::new() }),
];
