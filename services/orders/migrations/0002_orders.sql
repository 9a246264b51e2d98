-- One row per order, as it is now. How it came there is in `order_history`; what moves it is in `src/saga.rs`.
create table orders (
    -- UUIDv7, so that orders placed together lie together.
    id             uuid primary key,

    -- Whose order it is. Deliberately no foreign key: the token of the customer is proof enough.
    user_id        uuid not null,

    -- placed     waits for stock
    -- reserved   stock is held; waits for the payment
    -- paid       the payment is authorized; waits for the held stock to become the customer's
    -- confirmed  final: the customer has the goods, the shop has the money
    -- cancelled  final: nobody owes anybody anything
    state          text not null,

    -- Why it is cancelled.
    reason         text,

    -- The provider's name for the customer's means of payment.
    payment_method text not null,

    -- The sum of the lines, in the smallest unit of the currency. An order has one currency.
    total          bigint not null,
    currency       text not null,

    placed_at      timestamptz not null,
    -- When the last entry of its history was written.
    updated_at     timestamptz not null,

    -- The number of the last entry of its history: the ETag of its representation.
    version        bigint not null,

    constraint a_state_is_one_of_ours
        check (state in ('placed', 'reserved', 'paid', 'confirmed', 'cancelled')),
    constraint a_reason_is_one_of_ours
        check (reason in ('out_of_stock', 'unknown_product', 'payment_declined', 'cancelled_by_customer', 'expired')),
    constraint what_is_cancelled_says_why
        check ((state = 'cancelled') = (reason is not null)),
    constraint a_total_is_not_negative check (total >= 0)
);

-- A customer's own list, newest first.
create index orders_by_user on orders (user_id, placed_at desc, id desc);

-- The operators' lists, newest first.
create index orders_by_time on orders (placed_at desc, id desc);
create index orders_by_state on orders (state, placed_at desc, id desc);

-- What was ordered, as it was named and priced at that moment. Never changed.
create table order_lines (
    order_id uuid not null references orders (id),
    -- The place of the line in the order, from 1.
    position integer not null,
    sku      text not null,
    name     text not null,
    quantity integer not null,
    -- What one costs, in the order's currency: the price that is charged, whatever the product costs later.
    price    bigint not null,

    primary key (order_id, position),
    constraint a_sku_stands_in_one_line unique (order_id, sku),
    constraint a_quantity_is_sensible check (quantity between 1 and 1000),
    constraint a_price_is_not_negative check (price >= 0)
);

-- What happened to an order, in order. Append-only: a row is written by the transition that it tells of, and never changed.
create table order_history (
    order_id uuid not null references orders (id),
    -- Counts from 1 without gaps; the `id` of the event in the stream.
    seq      bigint not null,
    at       timestamptz not null,
    -- What happened, such as `stock_reserved`.
    event    text not null,
    -- The state that the order was in afterwards.
    state    text not null,
    -- More of it in words.
    detail   text,
    -- The trace in which it happened, 32 hexadecimal digits.
    trace_id text,

    primary key (order_id, seq)
);

-- A mistake in the code shall not rewrite what happened.
create function refuse_to_rewrite_history() returns trigger language plpgsql as $$
begin
    raise exception 'order_history is append-only';
end
$$;
create trigger order_history_is_append_only before update or delete on order_history
    for each row execute function refuse_to_rewrite_history();
