//! Stock under a rush: never more than there is, no two transactions that wait for each other, and books that cannot be falsified.

use events::inventory::v1::StockLow;
use futures_util::future::join_all;
use sqlx::AssertSqlSafe;
use testkit::eventually;

use crate::shop::{Order, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_orders_for_a_hundred_pieces_a_hundred_get_one() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 100).await;
    let orders: Vec<_> = (0..1000).map(|_| Order::new()).collect();
    shop.announce(&orders.iter().map(|order| order.placed(&[("MUG-01", 1)])).collect::<Vec<_>>()).await;
    eventually("all are decided", async || shop.count("select count(*) from reservations").await == 1000).await;
    assert_eq!(shop.stock("MUG-01").await, [0, 100, 0, 100]);
    let (held, rejected) = ("state = 'held'", "reason = 'out_of_stock'");
    for (which, expected) in [(held, 100), (rejected, 900)] {
        assert_eq!(shop.count(&format!("select count(*) from reservations where {which}")).await, expected, "{which}");
    }
    let told = async |n| shop.orders.log().iter().filter(|event| event.event_type.ends_with(n)).count();
    eventually("all are told", async || told("StockReserved").await + told("StockRejected").await == 1000).await;
    assert_eq!(told("StockReserved").await, 100);
    shop.close().await;
}

/// Orders want all of them, named in every order, or one, while more of each comes in: without an order of locks, and with more than one
/// order to a transaction, two of these soon wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn orders_and_restocks_of_the_same_products_never_wait_for_each_other_in_a_circle() {
    const SKUS: [&str; 3] = ["CUP-01", "MUG-01", "PAN-01"];
    let shop = Shop::open().await;
    for sku in SKUS {
        shop.product(sku, 1000).await;
    }
    let wishes: [&[(&str, u32)]; 6] = [
        &[("MUG-01", 1), ("CUP-01", 1), ("PAN-01", 1)],
        &[("PAN-01", 1)],
        &[("PAN-01", 1), ("MUG-01", 1), ("CUP-01", 1)],
        &[("CUP-01", 1)],
        &[("CUP-01", 1), ("PAN-01", 1), ("MUG-01", 1)],
        &[("MUG-01", 1)],
    ];
    let orders: Vec<_> = (0..360).map(|_| Order::new()).collect();
    let placed: Vec<_> = orders.iter().zip(wishes.iter().cycle()).map(|(order, lines)| order.placed(lines)).collect();
    shop.announce(&placed).await;
    // Of each six, the first three come to nothing and the last three are paid.
    let is_paid = |n: usize| n % 6 >= 3;
    let which =
        |paid: bool| orders.iter().enumerate().filter(move |(n, _)| is_paid(*n) == paid).map(|(_, order)| *order);
    shop.announce(&which(false).map(Order::cancelled).collect::<Vec<_>>()).await;
    shop.announce(&which(true).map(Order::paid).collect::<Vec<_>>()).await;
    let keys: Vec<_> = (0..60).map(|n| format!("k{n}")).collect();
    for some in keys.chunks(6) {
        let answers = join_all(some.iter().zip(SKUS.iter().cycle()).map(|(key, sku)| shop.restock(sku, 1, key))).await;
        assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    }
    let over = "select count(*) from reservations where state in ('committed', 'released')";
    eventually("all are decided", async || shop.count(over).await == 360).await;
    // Sixty of each wish; the paid ones want one of everything, a cup, or a mug.
    for (sku, sold) in [("CUP-01", 120), ("MUG-01", 120), ("PAN-01", 60)] {
        assert_eq!(shop.stock(sku).await, [1020 - sold, 0, sold, 1020], "{sku}");
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(shop.count(deadlocks).await, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn little_left_is_told_once_until_there_was_enough_again() {
    let shop = Shop::open_with(&["--low-stock-threshold=5"]).await;
    shop.product("MUG-01", 8).await;
    shop.product("CUP-01", 3).await;
    let told = || {
        let low = shop.notifications.heard::<StockLow>();
        low.into_iter().map(|event| (event.sku, event.available)).collect::<Vec<_>>()
    };
    let mug = |available| ("MUG-01".to_owned(), available);
    let order = async |quantity| {
        let order = Order::new();
        shop.tell(&order.placed(&[("MUG-01", quantity), ("CUP-01", 1)])).await;
        order
    };
    order(2).await; // 6 left
    let falls = order(1).await; // 5 left: told
    shop.notifications.wait_for::<StockLow>(1).await;
    order(1).await; // 4 left: known
    assert_eq!(told(), [mug(5)], "not at 6, not again at 4, and not of the cups, of which there never were enough");
    let event = shop.notifications.heard::<StockLow>().remove(0);
    assert_eq!((event.threshold, event.name.as_str()), (5, "Mug"));

    shop.tell(&falls.cancelled()).await; // 5 left
    shop.tell(&Order::new().placed(&[("MUG-01", 1)])).await; // 4 left: there were not enough in between
    shop.restock("MUG-01", 10, "more").await.expect(201); // 14 left
    shop.tell(&Order::new().placed(&[("MUG-01", 14)])).await; // 0 left: told
    shop.notifications.wait_for::<StockLow>(2).await;
    shop.tell(&Order::new().placed(&[("MUG-01", 1)])).await; // refused
    assert_eq!(told(), [mug(5), mug(0)]);
    assert_eq!(shop.count("select count(*) from messaging.journal where type = 'inventory.v1.StockLow'").await, 2);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_that_goes_up_and_down_is_told_of_once_a_day() {
    let shop = Shop::open_with(&["--low-stock-threshold=5"]).await;
    shop.product("MUG-01", 6).await;
    let there_and_back = async || {
        let order = Order::new();
        shop.tell(&order.placed(&[("MUG-01", 2)])).await; // 4 left
        shop.tell(&order.cancelled()).await; // 6 left
    };
    let told = async || shop.count("select count(*) from messaging.journal where type = 'inventory.v1.StockLow'").await;
    for _ in 0..3 {
        there_and_back().await;
    }
    assert_eq!(told().await, 1);
    shop.execute("update products set low_told_at = low_told_at - interval '1 day'").await;
    there_and_back().await;
    assert_eq!(told().await, 2, "a day later");
    there_and_back().await;
    assert_eq!(told().await, 2);
    shop.restock("MUG-01", 1, "more").await.expect(201); // 7 left
    there_and_back().await; // 5 left, and back
    assert_eq!(told().await, 3, "after a restock");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_numbers_that_do_not_add_up_and_books_that_are_changed() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 10).await;
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 1)])).await;
    for (statement, refused_by) in [
        ("update products set available = available - 1", "nothing_is_lost_or_invented"),
        ("update products set sold = sold + 1", "nothing_is_lost_or_invented"),
        ("update products set available = -1, sold = 10", "nothing_is_negative"),
        ("update products set price_minor_units = 0", "a_price_is_positive_and_bounded"),
        ("update stock_movements set available = 0", "never changed"),
        ("delete from stock_movements", "never changed"),
        ("truncate stock_movements", "never changed"),
        ("update reservations set state = 'released'", "a_reason_belongs_to_its_state"),
        ("update reservations set reason = 'expired'", "a_reason_belongs_to_its_state"),
        ("update reservations set expires_at = null", "what_was_held_had_an_end"),
        ("update reservations set missing_sku = 'MUG-01'", "what_is_rejected_says_what_was_missing"),
    ] {
        let refused = sqlx::query(AssertSqlSafe(statement)).execute(&shop.database.pool).await;
        let error = refused.expect_err(statement).to_string();
        assert!(error.contains(refused_by), "{statement}: {error}");
    }
    assert_eq!(shop.stock("MUG-01").await, [9, 1, 0, 10]);
    shop.close().await;
}
