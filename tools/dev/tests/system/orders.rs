//! An order: what becomes of it when services are away for a while, or come up in any order.

use dev::stack::Stack;

use crate::scene::Scene;

pub(crate) async fn all(stack: &mut Stack) {
    let scene = Scene::set(stack, "olga@example.test").await;
    // A service that has been asked knows the keys of access tokens, and needs users no more.
    scene.is_confirmed(&scene.order("pm_ok").await).await;

    an_order_waits_for_whoever_is_away(stack, &scene).await;
    a_crash_of_orders_loses_nothing(stack, &scene).await;
    services_may_come_up_in_any_order_and_the_broker_last(stack, &scene).await;
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
