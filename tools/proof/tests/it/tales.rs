//! Tales of orders: every end that an order can come to, drawn at random and played. Each run has one of each at least, so that
//! everything that can be changed is there.

use std::fmt;

use proof::{Run, ledger::Line, ledger::Request};
use proptest::prelude::*;

use crate::shop::{SKUS, Seen, Shop};

/// A run, which is far too large to be shown.
#[derive(Clone)]
pub(crate) struct Played(pub(crate) Run);

impl fmt::Debug for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (orders, lines) = (self.0.orders.len(), self.0.history.len());
        write!(f, "a run with {orders} orders and {lines} lines of history")
    }
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tale {
    Confirmed,
    OutOfStock,
    Declined,
    /// Before inventory heard of it.
    CancelledAtOnce,
    /// When its goods were held and its payment was under way.
    CancelledWhileReserved,
    /// When it was paid, and inventory had sold the goods already.
    CancelledAfterTheSale,
    /// The payment came too late, and went back.
    Expired,
    /// Nobody paid, and its goods went.
    Lapsed,
    Refused,
    Lost,
}

const TALES: [Tale; 10] = [
    Tale::Confirmed,
    Tale::OutOfStock,
    Tale::Declined,
    Tale::CancelledAtOnce,
    Tale::CancelledWhileReserved,
    Tale::CancelledAfterTheSale,
    Tale::Expired,
    Tale::Lapsed,
    Tale::Refused,
    Tale::Lost,
];

/// An order to be played.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    tale: Tale,
    quantities: [i64; 3],
    seen: Seen,
    twice: bool,
}

fn wanted(seen: impl Strategy<Value = Seen>, twice: impl Strategy<Value = bool>) -> impl Strategy<Value = Wanted> {
    let quantities = [0..9_i64, 0..9_i64, 1..9_i64];
    (prop::sample::select(&TALES[..]), quantities, seen, twice).prop_map(|(tale, quantities, seen, twice)| Wanted {
        tale,
        quantities,
        seen,
        twice,
    })
}

/// A run in which nothing is done to the shop.
pub(crate) fn quiet() -> impl Strategy<Value = Played> {
    prop::collection::vec(wanted(Just(Seen::AtOnce), Just(false)), 1..12).prop_map(|all| {
        let mut shop = Shop::open();
        play(&mut shop, &Wanted { tale: Tale::Confirmed, quantities: [1, 0, 2], seen: Seen::AtOnce, twice: false });
        for wanted in all.iter().filter(|wanted| wanted.tale != Tale::Lost) {
            play(&mut shop, wanted);
        }
        shop.run.plan.quiet = true;
        Played(shop.run)
    })
}

/// A run with everything: each tale, each way of learning of it, a fault, messages and a mail that came twice, and a
/// letter that came back.
pub(crate) fn rich() -> impl Strategy<Value = Played> {
    let seen = prop::sample::select(&[Seen::AtOnce, Seen::Again, Seen::Never][..]);
    let more = prop::collection::vec(wanted(seen, any::<bool>()), 0..10);
    let restocks = prop::collection::vec(1..50_i64, 0..4);
    (more, restocks).prop_map(|(more, restocks)| {
        let mut shop = Shop::open();
        for tale in TALES.into_iter().filter(|tale| *tale != Tale::Lost) {
            play(&mut shop, &Wanted { tale, quantities: [2, 0, 3], seen: Seen::AtOnce, twice: false });
        }
        shop.is_refused(&Request::Register { email: "nobody@".to_owned() });
        shop.is_refused(&Request::Restock { sku: SKUS[0].to_owned(), quantity: -1 });
        let confirmed = shop.run.orders[0].id.clone();
        shop.is_refused(&Request::Cancel { order_id: confirmed });

        let start_ms = shop.now();
        shop.registers("eve@example.test", Seen::Again);
        for seen in [Seen::Again, Seen::Never] {
            play(&mut shop, &Wanted { tale: Tale::Confirmed, quantities: [1, 1, 1], seen, twice: true });
            shop.restocks(SKUS[1], 11, seen);
        }
        play(&mut shop, &Wanted { tale: Tale::Lost, quantities: [1, 1, 1], seen: Seen::Never, twice: false });
        restocks.into_iter().for_each(|quantity| shop.restocks(SKUS[2], quantity, Seen::Again));
        more.iter().for_each(|wanted| play(&mut shop, wanted));
        play(&mut shop, &Wanted { tale: Tale::Confirmed, quantities: [1, 0, 0], seen: Seen::Again, twice: false });
        shop.is_sent_back();
        let again = shop.run.mails[1].clone();
        shop.run.mails.push(again);
        shop.was_hit(start_ms, 1);
        shop.run.faults[0].mails_refused = 1;

        let floors = &mut shop.run.plan.floors;
        (floors.confirmed, floors.recovered, floors.absorbed, floors.faults) = (3, 2, 2, 1);
        Played(shop.run)
    })
}

fn play(shop: &mut Shop, wanted: &Wanted) {
    let Wanted { tale, quantities, seen, twice } = wanted;
    let line = |(sku, quantity): (&str, i64)| Line { sku: sku.to_owned(), quantity };
    let lines: Vec<Line> = SKUS.into_iter().zip(*quantities).filter(|(_, quantity)| *quantity > 0).map(line).collect();
    let method = if *tale == Tale::Declined { "pm_declined" } else { "pm_ok" };
    match tale {
        Tale::Refused => return shop.is_refused(&shop.wish(&lines, method)),
        Tale::Lost => return shop.is_lost(&shop.wish(&lines, method)),
        _ => {}
    }
    let order = shop.places(lines, method, *seen, *twice);
    match tale {
        Tale::OutOfStock => {
            shop.reservation(&order, "rejected", Some("out_of_stock"));
            shop.publishes("inventory", "StockRejected", &order.id, order.twice);
            return shop.cancels(&order, "stock_rejected", "out_of_stock");
        }
        Tale::CancelledAtOnce => {
            shop.customer_cancels(&order, *seen);
            shop.shifts(&order, "reserve", [-1, 1, 0]);
            shop.reservation(&order, "held", None);
            shop.publishes("inventory", "StockReserved", &order.id, order.twice);
            shop.becomes(&order, "stock_reserved", "cancelled");
            return released(shop, &order, "release", [1, -1, 0], "cancelled");
        }
        _ => {}
    }
    shop.shifts(&order, "reserve", [-1, 1, 0]);
    shop.reservation(&order, "held", None);
    shop.publishes("inventory", "StockReserved", &order.id, order.twice);
    shop.becomes(&order, "stock_reserved", "reserved");
    shop.publishes("orders", "PaymentDue", &order.id, order.twice);
    match tale {
        Tale::Declined => {
            shop.payment(&order, "declined", "declined");
            shop.publishes("payments", "PaymentDeclined", &order.id, false);
            shop.cancels(&order, "payment_declined", "payment_declined");
            released(shop, &order, "release", [1, -1, 0], "cancelled");
        }
        Tale::CancelledWhileReserved => {
            shop.customer_cancels(&order, *seen);
            released(shop, &order, "release", [1, -1, 0], "cancelled");
            shop.payment(&order, "cancelled", "voided");
        }
        Tale::Lapsed => {
            shop.waits();
            released(shop, &order, "release", [1, -1, 0], "expired");
            shop.cancels(&order, "stock_released", "expired");
            shop.payment(&order, "cancelled", "voided");
        }
        Tale::Expired => {
            shop.waits();
            shop.cancels(&order, "deadline_reached", "expired");
            released(shop, &order, "release", [1, -1, 0], "cancelled");
            shop.payment(&order, "refunded", "refunded");
            shop.publishes("payments", "PaymentAuthorized", &order.id, false);
            shop.becomes(&order, "payment_authorized", "cancelled");
            shop.tells(&order, "payments", "PaymentRefunded", "payment_refunded", 1);
            shop.becomes(&order, "payment_refunded", "cancelled");
        }
        _ => paid(shop, &order, *tale, *seen),
    }
}

fn paid(shop: &mut Shop, order: &crate::shop::Playing, tale: Tale, seen: Seen) {
    shop.publishes("payments", "PaymentAuthorized", &order.id, order.twice);
    shop.becomes(order, "payment_authorized", "paid");
    shop.publishes("orders", "OrderPaid", &order.id, order.twice);
    shop.shifts(order, "commit", [0, -1, 1]);
    if tale == Tale::CancelledAfterTheSale {
        shop.customer_cancels(order, seen);
        shop.publishes("inventory", "StockCommitted", &order.id, false);
        shop.becomes(order, "stock_committed", "cancelled");
        released(shop, order, "take_back", [1, 0, -1], "cancelled");
        shop.payment(order, "refunded", "refunded");
        shop.tells(order, "payments", "PaymentRefunded", "payment_refunded", 1);
        return shop.becomes(order, "payment_refunded", "cancelled");
    }
    shop.reservation(order, "committed", None);
    shop.publishes("inventory", "StockCommitted", &order.id, order.twice);
    shop.payment(order, "authorized", "charged");
    shop.becomes(order, "stock_committed", "confirmed");
    shop.tells(order, "orders", "OrderConfirmed", "order_confirmed", 1);
}

/// Its goods are free again. An order that has ended notes that.
fn released(shop: &mut Shop, order: &crate::shop::Playing, cause: &str, signs: [i64; 3], reason: &str) {
    shop.shifts(order, cause, signs);
    shop.reservation(order, "released", Some(reason));
    shop.publishes("inventory", "StockReleased", &order.id, order.twice);
    if reason == "cancelled" {
        shop.becomes(order, "stock_released", "cancelled");
    }
}
