-- The book of the stock: one row for each change of a product's numbers, written in the same transaction. For each SKU the sums of the
-- columns are the numbers in `products`. Rows are added, and never changed.
create table stock_movements (
    id         bigint      generated always as identity primary key,
    sku        text        collate "C" not null references products (sku),

    -- What was added to each number; negative if it was taken away.
    available  bigint      not null,
    reserved   bigint      not null,
    sold       bigint      not null,
    received   bigint      not null,

    -- restock   goods came in
    -- reserve   held for an order
    -- release   held no longer, free again
    -- commit    held no longer, the customer's now
    -- take_back was the customer's, free again
    cause      text        not null,

    -- The order it was for; none for a restock.
    order_id   uuid,

    -- The trace that it belongs to.
    trace_id   text,
    at         timestamptz not null default clock_timestamp(),

    constraint a_cause_is_one_of_ours check (cause in ('restock', 'reserve', 'release', 'commit', 'take_back')),
    constraint a_movement_moves_and_invents_nothing check (available + reserved + sold = received),
    constraint only_a_restock_is_for_no_order check ((cause = 'restock') = (order_id is null))
);

create index stock_movements_by_sku on stock_movements (sku, id);
create index stock_movements_by_order on stock_movements (order_id) where order_id is not null;

create function stock_movements_are_final() returns trigger language plpgsql as $$
begin
    raise exception 'rows of stock_movements are never changed; write another movement';
end
$$;

create trigger stock_movements_are_final before update or delete or truncate on stock_movements
    for each statement execute function stock_movements_are_final();
