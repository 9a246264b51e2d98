//! Orders that wait too long, because somebody is away or slow: they end, and nobody keeps goods or money of them. The deadlines are
//! short here.

use dev::{
    shop::{Entry, Person, Placed, Shop, Stock},
    stack::Stack,
};

use crate::{PASSWORD, PATIENCE, eventually};

const RECEIVED: u32 = 50;

struct Scene {
    shop: Shop,
    operator: Person,
    customer: Person,
}

pub(crate) async fn all(stack: &mut Stack) {
    let shop = stack.shop();
    let operator = shop.operator().await.unwrap();
    let customer = shop.new_customer("dora@example.test", "Dora Example", PASSWORD).await.unwrap();
    let scene = Scene { shop, operator, customer };
    for sku in ["SLOW", "NO-STOCK", "NO-PAYMENT", "NO-GOODS"] {
        scene.shop.new_product(&scene.operator, sku, RECEIVED).await.unwrap();
    }
    // Takes the longest, beside the others; payments is not away before it has been asked.
    let slow = scene.order("SLOW", "pm_slow").await;
    scene.until(&slow, "stock_reserved").await;
    eventually("the payment of the slow order", async || {
        let payment = scene.shop.payment(&scene.customer, &slow.order.id).await.unwrap();
        (!payment.is_null()).then_some(())
    })
    .await;
    without_inventory_an_order_ends(stack, &scene).await;
    scene.a_slow_payment_is_not_kept(&slow).await;
    without_payments_an_order_ends(stack, &scene).await;
    what_was_paid_for_goods_that_do_not_come_is_refunded(stack, &scene).await;
}

async fn without_inventory_an_order_ends(stack: &mut Stack, scene: &Scene) {
    stack.stop_service("inventory").await.unwrap();
    let placed = scene.order("NO-STOCK", "pm_ok").await;
    scene.expires(&placed, &["order_placed", "deadline_reached"]).await;
    stack.start_services().await.unwrap();
    // It hears of the order and of its end, in this order, and says so; nothing of it changes how the order ended.
    scene.until(&placed, "stock_released").await;
    scene.everything_is_free("NO-STOCK").await;
    assert_eq!(scene.shop.order(&scene.customer, &placed.order.id).await.unwrap().outcome(), "cancelled (expired)");
    assert!(scene.shop.payment(&scene.operator, &placed.order.id).await.unwrap().is_null(), "it was never due");
}

async fn without_payments_an_order_ends(stack: &mut Stack, scene: &Scene) {
    stack.stop_service("payments").await.unwrap();
    let placed = scene.order("NO-PAYMENT", "pm_ok").await;
    scene.expires(&placed, &["order_placed", "stock_reserved", "deadline_reached"]).await;
    scene.until(&placed, "stock_released").await;
    scene.everything_is_free("NO-PAYMENT").await;
    stack.start_services().await.unwrap();
    scene.no_money_is_held(&placed).await;
    assert_eq!(scene.shop.order(&scene.customer, &placed.order.id).await.unwrap().outcome(), "cancelled (expired)");
}

/// Inventory goes away between the reservation and the payment, which is slow, but not too slow.
async fn what_was_paid_for_goods_that_do_not_come_is_refunded(stack: &mut Stack, scene: &Scene) {
    let placed = scene.order("NO-GOODS", "pm_flaky").await;
    scene.until(&placed, "stock_reserved").await;
    stack.kill_service("inventory").await.unwrap();
    scene.until(&placed, "payment_authorized").await;
    scene.expires(&placed, &["order_placed", "stock_reserved", "payment_authorized", "deadline_reached"]).await;
    scene.until(&placed, "payment_refunded").await;
    let payment = scene.shop.payment(&scene.customer, &placed.order.id).await.unwrap();
    assert_eq!(payment["state"], "refunded", "{payment}");
    let mails = scene.shop.mails_about(&placed.order.id, &scene.customer.email, 2).await.unwrap();
    assert_eq!(mails.len(), 2, "one that it is cancelled, one that the money is back: {mails:?}");
    stack.start_services().await.unwrap();
    scene.everything_is_free("NO-GOODS").await;
}

impl Scene {
    async fn order(&self, sku: &str, method: &str) -> Placed {
        self.shop.place(&self.customer, sku, 2, method).await.unwrap()
    }

    /// Follows an order's stream to this event.
    async fn until(&self, placed: &Placed, event: &str) -> Vec<Entry> {
        let mut seen = Vec::new();
        let followed = self.shop.follow(&self.customer, &placed.order.id, PATIENCE, |entry| {
            seen.push(entry.clone());
            entry.event == event
        });
        followed.await.unwrap_or_else(|error| panic!("no {event}: {error:#}"));
        seen
    }

    /// The order expires, and its timeline begins with these events.
    async fn expires(&self, placed: &Placed, beginning: &[&str]) {
        let seen = self.until(placed, "deadline_reached").await;
        let events: Vec<&str> = seen.iter().map(|entry| entry.event.as_str()).collect();
        assert_eq!(events, beginning);
        assert_eq!(seen.last().unwrap().state, "cancelled");
        let order = self.shop.order(&self.customer, &placed.order.id).await.unwrap();
        assert_eq!(order.outcome(), "cancelled (expired)");
    }

    /// The deadline comes first; what the provider takes later goes back.
    async fn a_slow_payment_is_not_kept(&self, placed: &Placed) {
        let seen = self.until(placed, "stock_released").await;
        let states: Vec<String> = seen.iter().map(|entry| format!("{} {}", entry.event, entry.state)).collect();
        let wanted = ["order_placed placed", "stock_reserved reserved", "deadline_reached cancelled"];
        assert_eq!(states[..3], wanted, "{states:?}");
        self.until(placed, "payment_refunded").await;
        let payment = self.shop.payment(&self.customer, &placed.order.id).await.unwrap();
        assert_eq!(payment["state"], "refunded", "{payment}");
        self.everything_is_free("SLOW").await;
    }

    async fn no_money_is_held(&self, placed: &Placed) {
        eventually("the money to be nobody's", async || {
            let payment = self.shop.payment(&self.customer, &placed.order.id).await.unwrap();
            ["cancelled", "refunded"].contains(&payment["state"].as_str().unwrap_or_default()).then_some(())
        })
        .await;
    }

    async fn everything_is_free(&self, sku: &str) {
        let received = i64::from(RECEIVED);
        let free = Stock { available: received, reserved: 0, sold: 0, received };
        self.shop.stock_becomes(&self.operator, sku, free).await.unwrap();
    }
}
