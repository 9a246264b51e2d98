//! The page of the stack: how everything is, and what became of the latest orders.

use dev::{http, stack::Stack};

use crate::eventually;

/// After the orders of the other parts.
pub(crate) async fn all(stack: &mut Stack) {
    let page = http::get(stack.page_port(), "/").await.unwrap().success().unwrap();
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let shown = page.text();
    assert!(shown.contains(">All ") && shown.contains(">orders-0</a>"), "{shown}");
    let orders = shown.split_once("Latest orders").unwrap().1;
    assert!(
        orders.contains("confirmed") && orders.contains(&format!("localhost:{}/trace/", stack.traces_port())),
        "{orders}"
    );

    stack.kill_service("payments").await.unwrap();
    assert!(live(stack).await.contains("not started"));
    stack.start_service("payments").await.unwrap();
    stack.wait_until_ready().await.unwrap();
    let ready = async || live(stack).await.contains(">All ").then_some(());
    eventually("a page on which all services are ready", ready).await;
}

/// The part that changes.
async fn live(stack: &Stack) -> String {
    http::get(stack.page_port(), "/live").await.unwrap().success().unwrap().text()
}
