//! What the entries of an order's timeline mean, for people who see them for the first time.

use crate::shop::Entry;

/// What an event did, in one line.
pub(crate) fn explain(entry: &Entry) -> &'static str {
    let cancelled = entry.state == "cancelled";
    match entry.event.as_str() {
        "order_placed" => "orders wrote the order and OrderPlaced in one commit; inventory is to hold the goods",
        "stock_reserved" if cancelled => "the goods were held too late; inventory gives them back",
        "stock_reserved" => "inventory holds the goods, for a while; orders announced PaymentDue",
        "stock_rejected" => "inventory has too little and held nothing; nobody was asked for money",
        "payment_authorized" if cancelled => "the provider took the money too late; payments gives it back",
        "payment_authorized" => "payments has the money; orders announced OrderPaid",
        "payment_declined" => "the provider will not pay; OrderCancelled lets inventory give the goods back",
        "stock_committed" => "inventory made the held goods the customer's: only now it is confirmed",
        "stock_released" => "inventory gave back what it held for the order",
        "deadline_reached" => "a message for later, written with the order, came when its time was over",
        "cancellation_requested" => "the customer does not want it; OrderCancelled tells inventory and payments",
        "customer_deleted" => "the account is gone, and its open orders with it",
        "payment_refunded" => "payments gave the money back",
        _ => "",
    }
}

/// One line of a timeline. `at` is where it stands in time, such as `+1.2 s`.
pub(crate) fn line(entry: &Entry, at: &str) -> String {
    let what = format!("{} → {}", entry.event, entry.state);
    let detail = entry.detail();
    let detail = if detail.is_empty() { detail } else { format!(" [{detail}]") };
    format!("{at:>8}  {what:36} {}{detail}", explain(entry))
}
