//! Goods: none is lost, invented or sold twice, and each order has what it should have.

use std::collections::BTreeMap;

use crate::{
    dumps::{Movement, Order},
    index::{Index, only, rows, sorted},
    ledger::{Line, Request},
    operations::Known,
    verdict::{Finding, Look},
};

/// The four numbers of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    available: i64,
    reserved: i64,
    sold: i64,
    received: i64,
}

impl Numbers {
    fn plus(self, movement: &Movement) -> Self {
        Self {
            available: self.available + movement.available,
            reserved: self.reserved + movement.reserved,
            sold: self.sold + movement.sold,
            received: self.received + movement.received,
        }
    }

    fn add_up(self) -> bool {
        self.available + self.reserved + self.sold == self.received
    }

    fn negative(self) -> bool {
        self.available < 0 || self.reserved < 0 || self.sold < 0
    }
}

/// At every moment all that was received is in one place, nothing is below zero, and nothing came in that nobody brought.
pub(crate) fn conserved(index: &Index<'_>) -> Finding {
    let mut look = Look::new(
        "stock",
        "at every moment available + reserved + sold = received, none below 0, and the book ends at the numbers",
    );
    let mut book: BTreeMap<&str, Numbers> = BTreeMap::new();
    let mut movements: Vec<&Movement> = index.run.movements.iter().collect();
    movements.sort_by_key(|movement| movement.id);
    let mut last = 0;
    for movement in movements {
        let id = movement.id.to_string();
        look.expect(movement.id > last, &[&id], || "a movement is in the book twice".to_owned());
        last = movement.id;
        let numbers = book.entry(&movement.sku).or_default();
        *numbers = numbers.plus(movement);
        let (now, order) = (*numbers, movement.order_id.as_deref().unwrap_or_default());
        look.expect(now.add_up() && !now.negative(), &[&movement.sku, &id, order], || {
            format!("after {}: {now:?}", movement.cause)
        });
    }
    for product in &index.run.products {
        let of_the_book = book.remove(product.sku.as_str()).unwrap_or_default();
        let found = Numbers {
            available: product.available,
            reserved: product.reserved,
            sold: product.sold,
            received: product.received,
        };
        look.expect(found == of_the_book, &[&product.sku], || format!("{found:?}, and the book says {of_the_book:?}"));
    }
    for sku in book.into_keys() {
        look.expect(false, &[sku], || "in the book, and not a product".to_owned());
    }
    brought(&mut look, index);
    look.done()
}

/// What came in is what the ledger brought: all that was acknowledged, and of what is unclear all that is on record.
fn brought(look: &mut Look, index: &Index<'_>) {
    let mut expected = Vec::new();
    for operation in &index.operations {
        if let Request::Restock { sku, quantity } = operation.request {
            let on_record = operation.key.is_some_and(|key| !rows(&index.restock_answers, key).is_empty());
            if on_record || matches!(operation.known(), Known::Done(_)) {
                expected.push((sku.as_str(), *quantity));
            }
        }
    }
    let restocks = index.run.movements.iter().filter(|movement| movement.cause == "restock");
    let found = sorted(restocks.map(|movement| (movement.sku.as_str(), movement.received)).collect());
    let expected = sorted(expected);
    let odd = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    look.expect(found == expected, &[odd.map_or("", |(found, _)| found.0)], || {
        format!("{} restocks in the book, {} were brought; the first that differ: {odd:?}", found.len(), expected.len())
    });
}

/// A confirmed order has its goods, taken once; any other has nothing.
pub(crate) fn of_each_order(index: &Index<'_>) -> Finding {
    let mut look = Look::new(
        "stock_of_orders",
        "a confirmed order has its goods, held once and sold once; a cancelled one has nothing",
    );
    for order in &index.run.orders {
        let movements = rows(&index.movements, &order.id);
        let lines = index.lines_of(&order.id);
        for cause in ["reserve", "release", "commit", "take_back"] {
            let moved = moved(movements, cause);
            look.expect(moved.is_empty() || moved == lines, &[&order.id], || {
                format!("{cause}: {moved:?} of an order of {lines:?}")
            });
        }
        let did = ["reserve", "release", "commit", "take_back"].map(|cause| !moved(movements, cause).is_empty());
        let reservation = only(&index.reservations, &order.id);
        let state = reservation.map_or("", |reservation| reservation.state.as_str());
        let agrees = match did {
            [false, false, false, false] => matches!(state, "" | "rejected" | "cancelled"),
            [true, false, false, false] => state == "held",
            [true, false, true, false] => state == "committed",
            [true, true, false, false] | [true, false, true, true] => state == "released",
            _ => false,
        };
        look.expect(agrees, &[&order.id], || {
            format!("reserve, release, commit, take_back: {did:?}; the reservation is {state:?}")
        });
        look.expect(ends_well(order, state), &[&order.id], || {
            format!("the order is {:?}, its goods are {state:?}", order.state)
        });
    }
    for id in index.movements.keys().chain(index.reservations.keys()).filter(|id| !id.is_empty()) {
        look.expect(index.orders.contains_key(id), &[id], || {
            "goods were moved for an order that is not there".to_owned()
        });
    }
    look.done()
}

/// What a cause moved for an order, sorted.
fn moved(movements: &[&Movement], cause: &str) -> Vec<Line> {
    let those = movements.iter().filter(|movement| movement.cause == cause);
    let pieces = |movement: &Movement| movement.available.abs().max(movement.reserved.abs()).max(movement.sold.abs());
    sorted(those.map(|movement| Line { sku: movement.sku.clone(), quantity: pieces(movement) }).collect())
}

/// Whether an order and its goods can both be at their end like this.
fn ends_well(order: &Order, reservation: &str) -> bool {
    match (order.state.as_str(), order.reason.as_deref()) {
        ("confirmed", _) => reservation == "committed",
        ("cancelled", Some("out_of_stock" | "unknown_product")) => reservation == "rejected",
        // Cancelled before inventory heard of it, and never heard of it since.
        ("cancelled", _) => matches!(reservation, "released" | "rejected" | "cancelled"),
        // Not at its end: that is found elsewhere.
        _ => true,
    }
}
