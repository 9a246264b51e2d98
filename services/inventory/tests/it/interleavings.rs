//! Events in every order that the world can bring them in. One row decides, and each piece is given away once.

use events::{
    inventory::v1::{ReservationDue, StockReserved},
    orders::v1::{OrderCancelled, OrderPaid, OrderPlaced},
};
use messaging::Event;

use crate::shop::{Order, Shop};

const ONE_MUG: &[(&str, u32)] = &[("MUG-01", 1)];

async fn shop_with_mugs() -> Shop {
    let shop = Shop::open().await;
    shop.product("MUG-01", 10).await;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn goods_are_held_until_paid_and_then_the_customers() {
    let shop = shop_with_mugs().await;
    shop.product("CUP-01", 10).await;
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 3), ("CUP-01", 10)])).await;
    assert_eq!((shop.stock("MUG-01").await, shop.stock("CUP-01").await), ([7, 3, 0, 10], [0, 10, 0, 10]));
    shop.tell(&order.paid()).await;
    assert_eq!((shop.stock("MUG-01").await, shop.stock("CUP-01").await), ([7, 0, 3, 10], [0, 0, 10, 10]));
    assert_eq!(shop.heard(order).await, ["reserved", "committed"]);
    let told = shop.orders.heard::<StockReserved>()[0].expires_at.expect("a time");
    let stored = shop.reservation(order).await["expires_at"].as_str().expect("a time").to_owned();
    let stored = chrono::DateTime::parse_from_rfc3339(&stored).expect("a time");
    assert_eq!((told.seconds, i64::from(told.nanos)), (stored.timestamp(), i64::from(stored.timestamp_subsec_nanos())));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_gets_everything_or_nothing_and_the_first_missing_product_is_named() {
    let shop = shop_with_mugs().await;
    shop.product("CUP-01", 10).await;
    for (lines, expected) in [
        (&[("MUG-01", 11), ("CUP-01", 1)][..], "rejected out_of_stock MUG-01"),
        (&[("MUG-01", 1), ("CUP-01", 11)], "rejected out_of_stock CUP-01"),
        (&[("POT-01", 1), ("MUG-01", 1)], "rejected unknown_product POT-01"),
        // In the order of the SKUs: the pan comes before the pot.
        (&[("POT-01", 1), ("PAN-01", 1), ("CUP-01", 1)], "rejected unknown_product PAN-01"),
        (&[("POT-01", 1), ("MUG-01", u32::MAX)], "rejected out_of_stock MUG-01"),
    ] {
        let order = Order::new();
        shop.tell(&order.placed(lines)).await;
        assert_eq!(shop.heard(order).await, [expected]);
        assert_eq!(
            (shop.stock("MUG-01").await, shop.stock("CUP-01").await),
            ([10, 0, 0, 10], [10, 0, 0, 10]),
            "{lines:?}"
        );
        // The orders service answers like this; there is nothing to give back.
        shop.tell(&order.cancelled()).await;
        shop.tell(&order.paid()).await;
        assert_eq!(shop.heard(order).await, [expected]);
    }
    assert_eq!(shop.count("select count(*) from stock_movements where cause <> 'restock'").await, 0);
    assert_eq!(shop.count("select count(*) from messaging.scheduled").await, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_gives_back_what_was_held_for_it() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 4)])).await;
    shop.tell(&order.cancelled()).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "released cancelled"));
    // Neither the payment nor the alarm that come later find anything.
    shop.tell(&order.paid()).await;
    shop.time_passes(order).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "released cancelled"));
    assert_eq!(shop.heard(order).await, ["reserved", "released cancelled"]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_arrives_after_its_cancellation_gets_nothing() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.cancelled()).await;
    assert_eq!(shop.state(order).await, "cancelled");
    shop.tell(&order.placed(ONE_MUG)).await;
    shop.tell(&order.paid()).await;
    shop.tell(&order.cancelled()).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "cancelled"));
    assert_eq!(shop.heard(order).await, [""; 0]);
    assert_eq!(shop.count("select count(*) from messaging.scheduled").await, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_after_the_end_gets_nothing() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.placed(ONE_MUG)).await;
    shop.time_passes(order).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "released expired"));
    shop.tell(&order.paid()).await;
    shop.tell(&order.cancelled()).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "released expired"));
    assert_eq!(shop.heard(order).await, ["reserved", "released expired"]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_after_the_payment_takes_nothing_away() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.placed(ONE_MUG)).await;
    // Its time is over, but nobody else was faster.
    shop.execute("update reservations set expires_at = now()").await;
    shop.tell(&order.paid()).await;
    shop.time_passes(order).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([9, 0, 1, 10], "committed"));
    assert_eq!(shop.heard(order).await, ["reserved", "committed"]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_after_the_payment_brings_the_goods_back() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 4)])).await;
    shop.tell(&order.paid()).await;
    shop.tell(&order.cancelled()).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "released cancelled"));
    assert_eq!(shop.heard(order).await, ["reserved", "committed", "released cancelled"]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_rings_too_early_is_set_again() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.placed(ONE_MUG)).await;
    // The clock was set forward when the alarm rang, and back again before it was heard.
    shop.ring(order).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([9, 1, 0, 10], "held"));
    let set =
        "select count(*) from messaging.scheduled join reservations on order_id::text = key and due_at = expires_at";
    assert_eq!(shop.count(set).await, 1, "for the same time");
    shop.time_passes(order).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "released expired"));
    assert_eq!(shop.count("select count(*) from messaging.scheduled").await, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_held_when_nobody_pays() {
    let shop = Shop::open_with(&["--reservation-seconds=0.3"]).await;
    shop.product("MUG-01", 10).await;
    let orders: Vec<_> = (0..10).map(|_| Order::new()).collect();
    shop.announce(&orders.iter().map(|order| order.placed(ONE_MUG)).collect::<Vec<_>>()).await;
    for order in orders {
        testkit::eventually("it lapses by itself", async || shop.state(order).await == "released expired").await;
        assert_eq!(shop.heard(order).await, ["reserved", "released expired"]);
    }
    assert_eq!(shop.stock("MUG-01").await, [10, 0, 0, 10]);
    shop.close().await;
}

/// The same message again, and the same fact under a new id, in every state that an order can be in.
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_of_every_event_change_nothing() {
    let shop = shop_with_mugs().await;
    let (held, committed, lapsed, cancelled, refused, returned) =
        (Order::new(), Order::new(), Order::new(), Order::new(), Order::new(), Order::new());
    for order in [held, committed, lapsed, cancelled, returned] {
        shop.tell(&order.placed(ONE_MUG)).await;
    }
    shop.tell(&refused.placed(&[("MUG-01", 99)])).await;
    shop.tell(&committed.paid()).await;
    shop.tell(&returned.paid()).await;
    shop.tell(&returned.cancelled()).await;
    shop.tell(&cancelled.cancelled()).await;
    shop.time_passes(lapsed).await;
    let (stock, log) = (shop.stock("MUG-01").await, async |order| (shop.state(order).await, shop.heard(order).await));
    assert_eq!(stock, [8, 1, 1, 10]);
    let mut before = Vec::new();
    for order in [held, committed, lapsed, cancelled, refused, returned] {
        before.push((order, log(order).await));
    }
    let movements = shop.count("select count(*) from stock_movements").await;

    assert_eq!(shop.orders.repeat::<OrderPlaced>().await, 6);
    assert_eq!(shop.orders.repeat::<OrderPaid>().await, 2);
    assert_eq!(shop.orders.repeat::<OrderCancelled>().await, 2);
    // After the same ids, in the order of their keys, new ones: when these are handled, so are those. And the wish to have more is no wish.
    for order in [held, committed, lapsed, cancelled, refused, returned] {
        shop.tell(&order.placed(&[("MUG-01", 2)])).await;
    }
    for order in [committed, lapsed, cancelled, refused, returned] {
        shop.tell(&order.paid()).await;
    }
    for order in [lapsed, cancelled, refused, returned] {
        shop.tell(&order.cancelled()).await;
    }
    for order in [held, committed, lapsed, cancelled, refused, returned] {
        shop.tell_itself(&order.due()).await;
    }
    assert_eq!(shop.stock("MUG-01").await, stock);
    assert_eq!(shop.count("select count(*) from stock_movements").await, movements);
    for (order, expected) in before {
        assert_eq!(log(order).await, expected, "{order:?}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_cannot_be_right_are_put_aside_at_once_and_change_nothing() {
    let mut shop = shop_with_mugs().await;
    let order = Order::new();
    let mut nobody = order.placed(ONE_MUG);
    nobody.user_id = "ada".into();
    let mut nothing = order.placed(ONE_MUG);
    nothing.order_id = "7".into();
    let stranger = OrderCancelled { user_id: String::new(), ..order.cancelled() };
    for wrong in [
        order.placed(&[]),
        order.placed(&[("MUG-01", 0)]),
        order.placed(&[("MUG-01", 1), ("MUG-01", 1)]),
        order.placed(&[("MUG-01", 1), ("mug-01", 1)]),
        order.placed(&[("MUG\0", 1)]),
        nobody,
        nothing,
    ] {
        shop.tell(&wrong).await;
    }
    shop.tell(&stranger).await;
    shop.tell(&Order::new().paid()).await;
    shop.tell_itself(&Order::new().due()).await;
    assert_eq!(shop.count("select count(*) from messaging.parked where state = 'dead'").await, 10);
    assert_eq!(shop.count("select count(*) from reservations").await, 0);
    // Dead letters release their key: the order itself is taken.
    shop.tell(&order.placed(ONE_MUG)).await;
    assert_eq!((shop.stock("MUG-01").await, shop.heard(order).await), ([9, 1, 0, 10], vec!["reserved".to_owned()]));
    shop.expect_dead(10);
    shop.close().await;
}

/// Within one process the events of an order come one after the other. A redrive, or a process that is not quite dead yet, may be at the
/// same order at the same moment: the row's lock decides.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_waits_and_sees_what_the_first_one_did() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.placed(ONE_MUG)).await;
    // Another process ends the reservation, and is not done yet.
    let mut other = shop.database.pool.acquire().await.expect("a connection");
    for statement in [
        "begin",
        "select from reservations for update",
        "update products set available = available + 1, reserved = reserved - 1",
        "insert into stock_movements (sku, available, reserved, sold, received, cause, order_id)
         select 'MUG-01', 1, -1, 0, 0, 'release', order_id from reservations",
        "update reservations set state = 'released', reason = 'expired', version = version + 1",
    ] {
        sqlx::query(statement).execute(&mut *other).await.expect("the statement runs");
    }
    let paid = shop.orders.publish(&order.paid()).await;
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    testkit::eventually("the payment waits", async || shop.count(waiting).await > 0).await;
    sqlx::query("commit").execute(&mut *other).await.expect("the commit");
    shop.handled(paid).await;
    assert_eq!((shop.stock("MUG-01").await, shop.state(order).await.as_str()), ([10, 0, 0, 10], "released expired"));
    assert_eq!(shop.heard(order).await, ["reserved"], "and nobody is told that it was committed");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_travels_only_to_the_service_itself() {
    let shop = shop_with_mugs().await;
    let order = Order::new();
    shop.tell(&order.placed(ONE_MUG)).await;
    shop.time_passes(order).await;
    shop.heard(order).await;
    let due = shop.orders.log().into_iter().filter(|event| event.event_type == ReservationDue::TYPE).count();
    assert_eq!(due, 0);
    shop.close().await;
}
