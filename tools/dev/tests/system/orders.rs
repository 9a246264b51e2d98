//! An order: its one trace; and what becomes of it when services are away for a while, or come up in any order.

use dev::{
    shop::{Person, Placed, Shop, Trace},
    stack::Stack,
};

use crate::{PASSWORD, eventually};

const SKU: &str = "SYSTEM-01";

struct Scene {
    shop: Shop,
    customer: Person,
}

pub(crate) async fn all(stack: &mut Stack) {
    let shop = stack.shop();
    let operator = shop.operator().await.unwrap();
    shop.new_product(&operator, SKU, 1_000).await.unwrap();
    let customer = shop.new_customer("olga@example.test", "Olga Example", PASSWORD).await.unwrap();
    let scene = Scene { shop, customer };

    everything_about_an_order_is_one_connected_trace(&scene).await;
    what_is_tried_again_stays_in_the_trace(stack, &scene).await;
    an_order_waits_for_whoever_is_away(stack, &scene).await;
    a_crash_of_orders_loses_nothing(stack, &scene).await;
    services_may_come_up_in_any_order_and_the_broker_last(stack, &scene).await;
}

/// What the trace of an order that is paid at the third attempt consists of: a line for each span, indented under its parent, with the
/// service and the kind. Siblings are in the order of the alphabet.
const TREE: &str = include_str!("order_trace.txt");

async fn everything_about_an_order_is_one_connected_trace(scene: &Scene) {
    let placed = scene.order("pm_flaky").await;
    scene.is_confirmed(&placed).await;
    scene.has_trace(&placed, TREE.trim_end()).await;
}

/// A handler that fails twice: each try is a span of its own under the event that it reacts to, and what follows is under the one that worked.
async fn what_is_tried_again_stays_in_the_trace(stack: &Stack, scene: &Scene) {
    // A sequence goes on counting when a transaction is rolled back.
    let obstacle = "
        create sequence tries;
        create function fail_twice() returns trigger language plpgsql security definer as $$
        begin
            if nextval('tries') <= 2 then raise exception 'in its way, for a test'; end if;
            return new;
        end $$;
        create trigger fail_twice before insert on order_history
            for each row when (new.event = 'stock_reserved') execute function fail_twice();";
    stack.run_sql("orders", obstacle).await.unwrap();
    let placed = scene.order("pm_ok").await;
    scene.is_confirmed(&placed).await;
    stack.run_sql("orders", "drop function fail_twice cascade; drop sequence tries;").await.unwrap();

    let worked = "        process inventory.v1.StockReserved (orders consumer)";
    let failed = format!("{worked}\n").repeat(2);
    let charged =
        "              perform charge_payment (payments internal)\n                provider charge (payments client)";
    let wanted = TREE.trim_end().replace(worked, &format!("{failed}{worked}"));
    let wanted = wanted.replace(&format!("\n{charged}\n{charged}"), "");
    scene.has_trace(&placed, &wanted).await;
}

/// A trace without what differs from run to run.
fn outline(trace: &Trace) -> String {
    fn write(trace: &Trace, parent: Option<&str>, depth: usize) -> Vec<String> {
        let children = trace.spans.iter().filter(|span| span.parent.as_deref() == parent);
        let mut branches: Vec<String> = children
            .map(|span| {
                let kind = if span.kind.is_empty() { "internal" } else { &span.kind };
                let line = format!("{}{} ({} {kind})", "  ".repeat(depth), span.name, span.service);
                let below = write(trace, Some(&span.id), depth + 1);
                [line].into_iter().chain(below).collect::<Vec<_>>().join("\n")
            })
            .collect();
        branches.sort();
        branches
    }
    write(trace, None, 0).join("\n")
}

async fn an_order_waits_for_whoever_is_away(stack: &mut Stack, scene: &Scene) {
    for service in ["users", "inventory", "payments", "notifications"] {
        stack.stop_service(service).await.unwrap();
        let placed = scene.order("pm_ok").await;
        stack.start_services().await.unwrap();
        scene.is_confirmed(&placed).await;
    }
}

async fn a_crash_of_orders_loses_nothing(stack: &mut Stack, scene: &Scene) {
    let placed = scene.order("pm_ok").await;
    stack.kill_service("orders").await.unwrap();
    stack.start_services().await.unwrap();
    scene.is_confirmed(&placed).await;
}

async fn services_may_come_up_in_any_order_and_the_broker_last(stack: &mut Stack, scene: &Scene) {
    let all = ["users", "inventory", "payments", "orders", "notifications", "access-log"];
    for service in all {
        stack.stop_service(service).await.unwrap();
    }
    stack.stop_rabbitmq().await.unwrap();
    for service in all.into_iter().rev() {
        stack.start_service(service).await.unwrap();
    }
    stack.wait_until_ready().await.unwrap();
    // Taken and kept, with nobody to tell.
    let placed = scene.order("pm_ok").await;
    stack.start_rabbitmq().await.unwrap();
    scene.is_confirmed(&placed).await;
}

impl Scene {
    async fn order(&self, method: &str) -> Placed {
        self.shop.place(&self.customer, SKU, 1, method).await.unwrap()
    }

    /// The trace of the request that placed the order is this one, to the last edge.
    async fn has_trace(&self, placed: &Placed, wanted: &str) {
        let whole = self.shop.whole_trace(&placed.trace_id, |trace| outline(trace) == wanted).await;
        if whole.is_err() {
            let trace = self.shop.trace(&placed.trace_id).await.unwrap();
            panic!("the trace is\n\n{}\n\nand should be\n\n{wanted}\n\nAs it happened:\n\n{trace}", outline(&trace));
        }
    }

    /// The order is confirmed, and the customer is told once.
    async fn is_confirmed(&self, placed: &Placed) {
        let order = &placed.order.id;
        let outcome = eventually(&format!("the end of the order {order}"), async || {
            // Whoever takes orders may just be coming up.
            let order = self.shop.order(&self.customer, order).await.ok()?;
            ["confirmed", "cancelled"].contains(&order.state.as_str()).then(|| order.outcome())
        })
        .await;
        assert_eq!(outcome, "confirmed");
        let mails = self.shop.mails_about(order, &self.customer.email, 1).await.unwrap();
        assert_eq!(mails.len(), 1, "{mails:?}");
    }
}
