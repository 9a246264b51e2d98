//! What is lost.

use proof::ledger::What;

use super::{INVENTORY, Mutation, NOTIFICATIONS, ORDERS, is_restock, pick, whichever, within};

#[rustfmt::skip]
pub(super) const LOST: &[Mutation] = &[
    ("the line before a request is lost", &["history"], |run, index| {
        let place = pick(&run.history, index, |entry| matches!(entry.what, What::Invoke { .. }));
        format!("request {}", run.history.remove(place).op)
    }),
    ("the line after a request is lost", &["history"], |run, index| {
        let place = pick(&run.history, index, |entry| !matches!(entry.what, What::Invoke { .. }));
        format!("request {}", run.history.remove(place).op)
    }),
    ("a fault is lost", &["floors"], |run, _| { run.faults.clear(); String::new() }),
    ("a published message is not heard", &["published"], |run, index| {
        let copies = |id: &str| run.tap.iter().filter(|other| other.message_id == id).count();
        let place = pick(&run.tap, index, |message| copies(&message.message_id) == 1);
        run.tap.remove(place).message_id
    }),
    ("a mail is lost", &["letters"], |run, index| {
        let twice = run.mails.last().unwrap().message_id.clone();
        let place = pick(&run.mails, index, |mail| mail.message_id != twice);
        let id = run.mails.remove(place).message_id;
        id.split('@').next().unwrap().to_owned()
    }),
    ("a binding is lost", &["handled"], drop_one!(bindings, whichever, consumer)),
    ("a queue is gone", &["drained"], drop_one!(queues, |queue| !["users"].contains(&queue.name.as_str()), name)),
    ("an account is lost", &["whole"], drop_one!(users, whichever, id)),
    ("an order is lost", &["whole", "acknowledged"], drop_one!(orders, whichever, id)),
    ("an acknowledged order is lost with everything", &["acknowledged"], |run, index| {
        let place = pick(&run.history, index, |entry| matches!(&entry.what, What::Ok { order: Some(order), .. } if order.state == "placed"));
        let What::Ok { order: Some(order), .. } = run.history[place].what.clone() else { unreachable!("just looked for") };
        let id = order.id;
        run.orders.retain(|row| row.id != id);
        run.order_lines.retain(|row| row.order_id != id);
        run.order_history.retain(|row| row.order_id != id);
        run.order_answers.retain(|row| row.body["id"] != id.as_str());
        id
    }),
    ("a thing that was noted of an order is lost", &["heard"], |run, index| {
        let place = pick(&run.order_history, index, |entry| entry.event != "order_placed" && entry.event.starts_with("stock_"));
        run.order_history.remove(place).order_id
    }),
    ("a payment that was asked for is not there", &["ordered"], drop_one!(payments, whichever, order_id)),
    ("a line of an order is lost", &["whole"], drop_one!(order_lines, whichever, order_id)),
    ("an entry of an order's history is lost", &["saga"], drop_one!(order_history, whichever, order_id)),
    ("orders does not know a product", &["ordered"], drop_one!(known_products, whichever, sku)),
    ("the answer to an order is lost", &["asked_for"], |run, index| {
        let place = pick(&run.order_answers, index, whichever);
        run.order_answers.remove(place).body["id"].as_str().unwrap().to_owned()
    }),
    ("the answer to a restock is lost", &["acknowledged", "stock"], |run, index| {
        let place = pick(&run.restock_answers, index, whichever);
        run.restock_answers.remove(place);
        String::new()
    }),
    ("a product is lost", &["stock"], drop_one!(products, whichever, sku)),
    ("a movement of stock is lost", &["stock"], drop_one!(movements, whichever, sku)),
    ("a movement for an order is lost", &["stock_of_orders"], |run, index| {
        let place = pick(&run.movements, index, |movement| !is_restock(movement));
        run.movements.remove(place).order_id.unwrap()
    }),
    ("a reservation is lost", &["stock_of_orders"], drop_one!(reservations, whichever, order_id)),
    ("a payment is lost", &["money"], |run, index| {
        let place = pick(&run.payments, index, whichever);
        run.payments.remove(place).id
    }),
    ("an entry of the provider's book is lost", &["money"], drop_one!(book, whichever, key)),
    ("a letter is lost", &["letters"], |run, index| {
        let place = pick(&run.notifications, index, |letter| letter.state == "sent");
        run.notifications.remove(place).message_id.trim_matches(['<', '>']).to_owned()
    }),
    ("a published message is not in the journal", &["published"], of!(ORDERS, journal, |rows, index| {
        let place = pick(rows, index, whichever);
        rows.remove(place).message_id
    })),
    ("a message was never handled", &["handled"], of!(INVENTORY, inbox, |rows, index| {
        let place = pick(rows, index, whichever);
        rows.remove(place).message_id
    })),
    ("a consumer has forgotten how far it is", &["ordered"], of!(ORDERS, heads, |rows, index| {
        let place = pick(rows, index, whichever);
        rows.remove(place).key
    })),
    ("nobody says that a letter came back", &["letters"], of!(NOTIFICATIONS, journal, |rows, index| {
        let place = pick(rows, index, |row| row.kind == "notifications.v1.EmailFailed");
        rows.remove(place).key
    })),
];
