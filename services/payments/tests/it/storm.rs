//! Everything at once, by a seed: orders with every method, cancelled at any moment or not, told twice, refunded, while the provider loses
//! calls and goes away, and the service is stopped and started. In the end the books have to agree, to the cent.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use events::orders::v1::{OrderCancelled, PaymentDue};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::sleep;

use crate::{
    faulty::Faults,
    shop::{Order, Shop},
};

const METHODS: [&str; 6] = ["pm_ok", "pm_ok", "pm_declined", "pm_slow", "pm_flaky", "pm_made_up"];
const STEPS: usize = 160;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_every_order_has_its_money_where_it_belongs() {
    for seed in [1, 2, 3] {
        storm(seed).await;
    }
}

async fn storm(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut shop = Shop::open().await;
    shop.stop_service().await;
    shop.faults = Faults::new(seed);
    shop.faults.lost_percent.store(30, Ordering::SeqCst);
    shop.start().await;

    let (mut orders, mut cancelled) = (Vec::new(), BTreeSet::new());
    for _ in 0..STEPS {
        let known = orders.choose(&mut random).copied();
        match (random.random_range(0..100), known) {
            (0..45, _) | (_, None) => {
                let order = Order { minor_units: random.random_range(0..1_000_000), ..Order::new() };
                let method = METHODS.choose(&mut random).expect("a method");
                // Some are cancelled before their money is asked for.
                if random.random_ratio(1, 8) {
                    shop.orders.publish(&order.cancelled()).await;
                    cancelled.insert(order);
                }
                shop.orders.publish(&order.due(method)).await;
                orders.push(order);
            }
            (45..65, Some(order)) => {
                shop.orders.publish(&order.cancelled()).await;
                cancelled.insert(order);
            }
            (65..75, Some(order)) => {
                let status = shop.refund(order).await.status.as_u16();
                assert!([202, 404, 409].contains(&status), "seed {seed}: {status}");
            }
            (75..80, Some(order)) => drop(shop.orders.publish(&order.due("pm_ok")).await),
            (80..84, Some(_)) => shop.faults.set_down(random.random_ratio(1, 4)),
            (84..86, Some(_)) => {
                shop.stop_service().await;
                shop.start().await;
            }
            _ => sleep(Duration::from_millis(random.random_range(0..30))).await,
        }
    }
    shop.faults.set_down(false);
    shop.orders.repeat::<PaymentDue>().await;
    shop.orders.repeat::<OrderCancelled>().await;
    shop.audit().await;

    let books = shop.books().await;
    let mut taken = 0;
    for order in &orders {
        let row = books.iter().find(|row| row.order_id == order.id);
        let held = row.filter(|row| row.booked.as_deref() == Some("charged")).and_then(|row| row.booked_amount);
        if cancelled.contains(order) {
            assert_eq!(held, None, "seed {seed}: a cancelled order holds money: {row:?}");
        } else if row.is_some_and(|row| row.state == "authorized") {
            assert_eq!(held, Some(order.minor_units), "seed {seed}: {row:?}");
            taken += 1;
        } else {
            assert_eq!(held, None, "seed {seed}: money that nobody knows of: {row:?}");
            assert!(row.is_some(), "seed {seed}: an order was forgotten");
        }
    }
    assert!(
        taken > 5 && cancelled.len() > 5,
        "seed {seed}: the storm was a calm: {taken} taken, {} cancelled",
        cancelled.len()
    );
    shop.close().await;
}
