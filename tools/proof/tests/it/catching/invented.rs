//! What nobody asked for.

use proof::{Run, ledger::Sample};

use super::{GHOST, Mutation, ORDERS, changed, is_restock, within};

#[rustfmt::skip]
pub(super) const INVENTED: &[Mutation] = &[
    ("an order that nobody asked for", &["asked_for"], invent_one!(orders, id, |row| row.id = GHOST.to_owned())),
    ("an account that nobody asked for", &["asked_for"], invent_one!(users, id, |row| {
        row.id = GHOST.to_owned();
        row.email = GHOST.to_owned();
    })),
    ("an answer under a key that was never sent", &["asked_for"], invent_one!(order_answers, key, |row| row.key = GHOST.to_owned())),
    ("a message that nobody announced", &["published"], invent_one!(tap, message_id, |row| row.message_id = GHOST.to_owned())),
    ("a mail that nobody wrote", &["letters"], invent_one!(mails, message_id, |row| row.message_id = GHOST.to_owned())),
    ("a restock that nobody brought", &["stock"], |run, index| {
        let product = &mut run.products[index.index(3)];
        product.available += 5;
        product.received += 5;
        let mut movement = run.movements.iter().find(|movement| is_restock(movement)).unwrap().clone();
        movement.id = run.movements.len() as i64 + 1;
        (movement.sku, movement.available, movement.received) = (product.sku.clone(), 5, 5);
        run.movements.push(movement);
        String::new()
    }),
    ("goods for an order that is not there", &["stock_of_orders"], invent_one!(reservations, order_id, |row| row.order_id = GHOST.to_owned())),
    ("a payment of an order that is not there", &["money"], invent_one!(payments, id, |row| {
        row.id = GHOST.to_owned();
        row.order_id = GHOST.to_owned();
    })),
    ("the provider charges what was never asked for", &["money"], invent_one!(book, key, |row| row.key = GHOST.to_owned())),
    ("a zombie in the journal", &["published"], of!(ORDERS, journal, |rows, index| {
        let mut row = index.get(rows).clone();
        row.message_id = GHOST.to_owned();
        rows.push(row);
        GHOST.to_owned()
    })),
    ("something was handled that was never published", &["handled"], of!(ORDERS, inbox, |rows, index| {
        let mut row = index.get(rows).clone();
        row.message_id = GHOST.to_owned();
        rows.push(row);
        GHOST.to_owned()
    })),
    ("something handled by somebody who does not hear it", &["handled"], of!(ORDERS, inbox, |rows, index| {
        let mut row = index.get(rows).clone();
        row.consumer = GHOST.to_owned();
        rows.push(row);
        GHOST.to_owned()
    })),
    ("a message is parked that was not made to fail", &["parked"], |run, index| {
        let message_id = index.get(&run.tap).message_id.clone();
        let parked = proof::dumps::Parked { message_id: message_id.clone(), consumer: "orders".to_owned(), state: "dead".to_owned(), reason: None };
        run.messaging[ORDERS].parked.push(parked);
        message_id
    }),
    ("a poison that was not parked", &["parked"], |run, _| { run.plan.poisons.push(GHOST.to_owned()); GHOST.to_owned() }),
    ("a process that takes more and more memory", &["flat"], |run, index| {
        let leak = 1 + index.index(4) as u64;
        grow(run, |second, sample| sample.processes[1].resident_bytes += (second * leak) << 20);
        "orders-1".to_owned()
    }),
    ("a process that does not close what it opens", &["flat"], |run, _| {
        grow(run, |second, sample| sample.processes[0].files += second);
        "orders-0".to_owned()
    }),
    ("more and more connections", &["flat"], |run, _| {
        grow(run, |second, sample| sample.connections = sample.connections.map(|count| count + second / 4));
        String::new()
    }),
    ("more and more sessions", &["flat"], |run, _| {
        grow(run, |second, sample| sample.sessions = sample.sessions.map(|count| count + second));
        String::new()
    }),
];

fn grow(run: &mut Run, more: impl Fn(u64, &mut Sample)) {
    (0..).zip(&mut run.samples).for_each(|(second, sample)| more(second, sample));
}
