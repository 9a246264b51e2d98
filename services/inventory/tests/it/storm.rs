//! Many orders, and everything that can happen to them, in random order: whatever happens, the books balance and nothing stays held.

use std::collections::BTreeMap;

use events::orders::v1::{OrderCancelled, OrderPaid, OrderPlaced};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use testkit::eventually;

use crate::shop::{Order, Shop};

const SKUS: [&str; 5] = ["CUP-01", "JAR-01", "MUG-01", "PAN-01", "POT-01"];
const ORDERS: usize = 250;

/// What the orders service announces.
enum Fact {
    Placed(OrderPlaced),
    Paid(OrderPaid),
    Cancelled(OrderCancelled),
}

/// The life of one order: placed first or, after a redrive, after its cancellation; then anything, also twice.
fn life(random: &mut StdRng, order: Order) -> Vec<Fact> {
    let mut lines = BTreeMap::new();
    for _ in 0..random.random_range(1..=4) {
        // One in a hundred is not sold here.
        let sku = if random.random_bool(0.01) { "NOPE" } else { SKUS.choose(random).expect("some") };
        lines.insert(sku, random.random_range(1..=5));
    }
    let lines: Vec<_> = lines.into_iter().collect();
    let mut life = Vec::new();
    if random.random_bool(0.1) {
        life.push(Fact::Cancelled(order.cancelled()));
    }
    life.push(Fact::Placed(order.placed(&lines)));
    for _ in 0..random.random_range(0..=4) {
        life.push(match random.random_range(0..10) {
            0..=1 => Fact::Placed(order.placed(&lines)),
            2..=6 => Fact::Paid(order.paid()),
            _ => Fact::Cancelled(order.cancelled()),
        });
    }
    life
}

/// Takes lives apart and mixes them; the order within each life stays.
fn mixed(random: &mut StdRng, mut lives: Vec<Vec<Fact>>) -> Vec<Fact> {
    let mut facts = Vec::new();
    lives.iter_mut().for_each(|life| life.reverse());
    while !lives.is_empty() {
        let which = random.random_range(0..lives.len());
        match lives[which].pop() {
            Some(fact) => facts.push(fact),
            None => drop(lives.swap_remove(which)),
        }
    }
    facts
}

async fn storm(seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    // So short that many lapse while their payment is on its way.
    let shop = Shop::open_with(&["--reservation-seconds=0.4"]).await;
    for sku in SKUS {
        shop.product(sku, random.random_range(20..200)).await;
    }
    let orders: Vec<_> = (0..ORDERS).map(|_| Order::new()).collect();
    let lives = orders.iter().map(|order| life(random, *order)).collect();
    let facts = mixed(random, lives);
    let restocks: Vec<_> = (0..20).map(|n| (SKUS[n % 5], random.random_range(1..20), format!("k{n}"))).collect();
    let cuts: Vec<_> = (0..2).map(|_| random.random_range(0..facts.len())).collect();

    let tell = async {
        for (n, fact) in facts.iter().enumerate() {
            match fact {
                Fact::Placed(event) => shop.orders.publish(event).await,
                Fact::Paid(event) => shop.orders.publish(event).await,
                Fact::Cancelled(event) => shop.orders.publish(event).await,
            };
            if cuts.contains(&n) {
                shop.cut_broker_connections().await;
            }
        }
    };
    let restock = async {
        for (sku, quantity, key) in &restocks {
            shop.restock(sku, *quantity, key).await.expect(201);
            shop.balance().await;
        }
    };
    tokio::join!(tell, restock);
    shop.orders.settled().await;
    let unknown = format!("select {ORDERS} - count(*) from reservations");
    eventually("every order is known", async || shop.count(&unknown).await == 0).await;
    let handled = i64::try_from(facts.len()).expect("a count");
    let seen = "select count(*) from messaging.consumer_head join reservations on key = order_id::text where producer = 'orders'";
    eventually("every order is handled", async || shop.count(seen).await == i64::try_from(ORDERS).expect("a count"))
        .await;
    let inbox = "select count(*) from messaging.inbox";
    eventually("every event is handled", async || shop.count(inbox).await >= handled).await;
    let held = "select count(*) from reservations where state = 'held'";
    eventually("nothing stays held", async || shop.count(held).await == 0).await;
    eventually("every alarm has rung", async || shop.count("select count(*) from messaging.scheduled").await == 0)
        .await;

    for sku in SKUS {
        let [available, reserved, sold, received] = shop.stock(sku).await;
        assert_eq!((reserved, available + sold), (0, received), "{sku}");
    }
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for order in orders {
        let (state, told) = (shop.state(order).await, shop.heard(order).await.join(", "));
        let expected: &[&str] = match state.as_str() {
            "committed" => &["reserved, committed"],
            "released expired" => &["reserved, released expired"],
            "released cancelled" => &["reserved, released cancelled", "reserved, committed, released cancelled"],
            "cancelled" => &[""],
            state if state.starts_with("rejected") => &[],
            other => panic!("{order:?} is {other}"),
        };
        if expected.is_empty() {
            assert!(told.starts_with(&state) && !told.contains(','), "{order:?} is {state}, and told was {told}");
        } else {
            assert!(expected.contains(&told.as_str()), "{order:?} is {state}, and told was {told}");
        }
        *ways.entry(state).or_default() += 1;
    }
    assert!(ways.len() >= 5, "the storm brings everything about: {ways:?}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_books_balance_and_nothing_stays_held_1() {
    storm(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_books_balance_and_nothing_stays_held_2() {
    storm(2).await;
}
