//! What is there twice.

use proof::ledger::What;

use super::{GHOST, INVENTORY, Mutation, ORDERS, is_restock, pick, within};

#[rustfmt::skip]
pub(super) const REPEATED: &[Mutation] = &[
    ("a thing that was said of an order is noted twice", &["heard"], |run, index| {
        let place = pick(&run.order_history, index, |entry| entry.event.starts_with("payment_"));
        let entry = run.order_history[place].clone();
        let id = entry.order_id.clone();
        run.order_history.push(entry);
        id
    }),
    ("the line after a request is there twice", &["history"], |run, index| {
        let place = pick(&run.history, index, |entry| !matches!(entry.what, What::Invoke { .. }));
        let mut entry = run.history[place].clone();
        entry.monotonic_ms = run.history.last().unwrap().monotonic_ms;
        let op = entry.op;
        run.history.push(entry);
        format!("request {op}")
    }),
    ("a fault is there twice", &["floors"], repeat_one!(faults, id)),
    ("a mail comes more often than anything explains", &["copies"], |run, index| {
        let mail = index.get(&run.mails).clone();
        run.mails.extend([mail.clone(), mail.clone()]);
        mail.message_id
    }),
    ("an account is there twice", &["whole"], repeat_one!(users, id)),
    ("an order is there twice", &["whole"], repeat_one!(orders, id)),
    ("a line of an order is there twice", &["whole"], repeat_one!(order_lines, order_id)),
    ("an entry of an order's history is there twice", &["saga"], repeat_one!(order_history, order_id)),
    ("the answer to an order is there twice", &["one_per_key"], repeat_one!(order_answers, key)),
    ("the answer to a restock is there twice", &["one_per_key"], repeat_one!(restock_answers, key)),
    ("a product is there twice", &["stock"], repeat_one!(products, sku)),
    ("a movement of stock happens twice", &["stock"], |run, index| {
        let mut movement = index.get(&run.movements).clone();
        movement.id = run.movements.len() as i64 + 1;
        let sku = movement.sku.clone();
        run.movements.push(movement);
        sku
    }),
    ("goods are taken twice for one order, and the numbers agree", &["stock_of_orders"], |run, index| {
        let place = pick(&run.movements, index, |movement| movement.cause == "reserve");
        let mut movement = run.movements[place].clone();
        movement.id = run.movements.len() as i64 + 1;
        let product = run.products.iter_mut().find(|product| product.sku == movement.sku).unwrap();
        product.available += movement.available;
        product.reserved += movement.reserved;
        run.movements.push(movement.clone());
        movement.order_id.unwrap()
    }),
    ("a restock counts twice, and the numbers agree", &["stock"], |run, index| {
        let place = pick(&run.movements, index, is_restock);
        let mut movement = run.movements[place].clone();
        movement.id = run.movements.len() as i64 + 1;
        let product = run.products.iter_mut().find(|product| product.sku == movement.sku).unwrap();
        product.available += movement.available;
        product.received += movement.received;
        run.movements.push(movement);
        String::new()
    }),
    ("a reservation is there twice", &["stock_of_orders"], repeat_one!(reservations, order_id)),
    ("an order is charged twice", &["money"], |run, index| {
        let mut payment = index.get(&run.payments).clone();
        payment.id = GHOST.to_owned();
        run.payments.push(payment.clone());
        payment.order_id
    }),
    ("the provider charges twice under one key", &["money"], repeat_one!(book, key)),
    ("a letter is written twice", &["letters"], |run, index| {
        let mut letter = index.get(&run.notifications).clone();
        (letter.id, letter.message_id) = (GHOST.to_owned(), GHOST.to_owned());
        run.notifications.push(letter);
        let mut mail = run.mails[0].clone();
        mail.message_id = GHOST.to_owned();
        run.mails.push(mail);
        String::new()
    }),
    ("a message is in the journal twice", &["published"], of!(ORDERS, journal, |rows, index| {
        let row = index.get(rows).clone();
        rows.push(row.clone());
        row.message_id
    })),
    ("a message is handled twice", &["handled"], of!(INVENTORY, inbox, |rows, index| {
        let row = index.get(rows).clone();
        rows.push(row.clone());
        row.message_id
    })),
    ("a consumer has two heads of one key", &["ordered"], of!(INVENTORY, heads, |rows, index| {
        let row = index.get(rows).clone();
        rows.push(row.clone());
        row.key
    })),
    ("one key becomes two orders", &["one_per_key"], |run, index| {
        let place = pick(&run.order_history, index, |entry| entry.event == "order_placed");
        let mut entry = run.order_history[place].clone();
        entry.order_id = GHOST.to_owned();
        run.order_history.push(entry);
        String::new()
    }),
];
