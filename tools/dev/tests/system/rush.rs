//! Far more orders than goods, at the same time, through two replicas.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dev::{
    shop::{Person, Placed, Shop, Stock},
    stack::Stack,
};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::PASSWORD;

const ORDERS: usize = 1_000;
const GOODS: usize = 100;
const CUSTOMERS: usize = 4;
/// Requests under way.
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(240);
const SKU: &str = "LAST-100";

pub(crate) async fn a_thousand_orders_for_a_hundred_goods(stack: &Stack) {
    let shop = stack.shop();
    let operator = shop.operator().await.unwrap();
    shop.new_product(&operator, SKU, GOODS as u32).await.unwrap();
    let mut customers = Vec::new();
    for number in 0..CUSTOMERS {
        let email = format!("rush-{number}@example.test");
        customers.push(shop.new_customer(&email, "Ann Example", PASSWORD).await.unwrap());
    }

    let placed = place_all(stack, &customers).await;
    assert_eq!(placed.len(), ORDERS);
    let outcomes = outcomes(&shop, &customers).await;
    let count = |outcome: &str| outcomes.values().filter(|found| found.as_str() == outcome).count();
    assert_eq!((count("confirmed"), count("cancelled (out_of_stock)")), (GOODS, ORDERS - GOODS), "{outcomes:?}");

    let goods = GOODS as i64;
    let sold = Stock { available: 0, reserved: 0, sold: goods, received: goods };
    assert_eq!(shop.stock(&operator, SKU).await.unwrap(), sold);
    each_confirmed_order_is_paid_and_no_other(&shop, &operator, &outcomes).await;
    each_order_has_one_mail(&shop, &customers, &outcomes).await;
}

/// Through both replicas in turn.
async fn place_all(stack: &Stack, customers: &[Person]) -> Vec<Placed> {
    let replicas = [0, 1].map(|replica| stack.shop().with_orders_at(stack.port_of_replica("orders", replica).unwrap()));
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut requests = JoinSet::new();
    for number in 0..ORDERS {
        let customer = customers[number / 2 % customers.len()].clone();
        let (replica, at_once) = (replicas[number % 2].clone(), Arc::clone(&at_once));
        requests.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            replica.place(&customer, SKU, 1, "pm_ok").await.unwrap()
        });
    }
    requests.join_all().await
}

/// How each order ended, by id.
async fn outcomes(shop: &Shop, customers: &[Person]) -> BTreeMap<String, String> {
    dev::shop::eventually("the end of all orders", PATIENCE, async || {
        let mut outcomes = BTreeMap::new();
        for customer in customers {
            for state in ["confirmed", "cancelled"] {
                let orders = shop.orders_in(customer, state).await?;
                outcomes.extend(orders.into_values().map(|order| (order.id.clone(), order.outcome())));
            }
        }
        if outcomes.len() < ORDERS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(None);
        }
        Ok(Some(outcomes))
    })
    .await
    .unwrap()
}

async fn each_confirmed_order_is_paid_and_no_other(
    shop: &Shop,
    operator: &Person,
    outcomes: &BTreeMap<String, String>,
) {
    for (order, outcome) in outcomes {
        let payment = shop.payment(operator, order).await.unwrap();
        if outcome == "confirmed" {
            assert_eq!(payment["state"], "authorized", "{order}: {payment}");
        } else {
            assert!(payment.is_null(), "nobody is asked for money for what is not there: {order}: {payment}");
        }
    }
}

async fn each_order_has_one_mail(shop: &Shop, customers: &[Person], outcomes: &BTreeMap<String, String>) {
    let mut mails = Vec::new();
    dev::shop::eventually("a mail for every order", PATIENCE, async || {
        mails.clear();
        for customer in customers {
            mails.extend(shop.mails_to(&customer.email).await?);
        }
        // Each customer has one of the registration.
        if mails.len() < ORDERS + CUSTOMERS {
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Ok(None);
        }
        Ok(Some(()))
    })
    .await
    .unwrap();
    let mut about: BTreeMap<&str, usize> = outcomes.keys().map(|order| (order.as_str(), 0)).collect();
    for mail in &mails {
        let order = mail.text.split(|c: char| !c.is_ascii_hexdigit() && c != '-').find(|word| about.contains_key(word));
        if let Some(count) = order.and_then(|order| about.get_mut(order)) {
            *count += 1;
        }
    }
    about.retain(|_, count| *count != 1);
    assert!(about.is_empty(), "orders with another number of mails than one: {about:?}");
}
