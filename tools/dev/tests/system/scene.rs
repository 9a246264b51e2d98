//! A customer and a product that there is enough of.

use dev::{
    shop::{Person, Placed, Shop},
    stack::Stack,
};

use crate::{PASSWORD, eventually};

const SKU: &str = "SYSTEM-01";

pub(crate) struct Scene {
    pub(crate) shop: Shop,
    pub(crate) customer: Person,
}

impl Scene {
    pub(crate) async fn set(stack: &Stack, customer: &str) -> Self {
        let shop = stack.shop();
        let operator = shop.operator().await.unwrap();
        shop.new_product(&operator, SKU, 1_000).await.unwrap();
        let customer = shop.new_customer(customer, "Olga Example", PASSWORD).await.unwrap();
        Self { shop, customer }
    }

    pub(crate) async fn order(&self, method: &str) -> Placed {
        self.shop.place(&self.customer, SKU, 1, method).await.unwrap()
    }

    /// The order ends like this, and the customer is told once.
    pub(crate) async fn ends(&self, placed: &Placed, wanted: &str) {
        let order = &placed.order.id;
        let outcome = eventually(&format!("the end of the order {order}"), async || {
            // Whoever takes orders may just be coming up.
            let order = self.shop.order(&self.customer, order).await.ok()?;
            ["confirmed", "cancelled"].contains(&order.state.as_str()).then(|| order.outcome())
        })
        .await;
        assert_eq!(outcome, wanted);
        let mails = self.shop.mails_about(order, &self.customer.email, 1).await.unwrap();
        assert_eq!(mails.len(), 1, "{mails:?}");
    }

    pub(crate) async fn is_confirmed(&self, placed: &Placed) {
        self.ends(placed, "confirmed").await;
    }
}
