-- Never forgotten: a dead letter that asks for the money can be redriven at any time.
drop index cancelled_orders_by_age;
