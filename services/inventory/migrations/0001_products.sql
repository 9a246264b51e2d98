-- What the shop sells, what it costs, and how much of it there is.
create table products (
    -- The shop's own name for it. Compared byte by byte, here as in the code: rows are locked in this order.
    sku               text        collate "C" primary key,
    name              text        not null,

    -- What one costs, in the smallest unit of the currency. The currency never changes: orders in two currencies cannot be added up.
    price_minor_units bigint      not null,
    currency          text        not null,

    -- Every piece that was ever received is in exactly one place: free to be sold, held for an order, or a customer's.
    available         bigint      not null default 0,
    reserved          bigint      not null default 0,
    sold              bigint      not null default 0,
    received          bigint      not null default 0,

    -- Counts the changes of this row, those of the stock too: the ETag of its representations.
    version           bigint      not null default 1,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),

    constraint a_sku_is_short_and_plain check (sku ~ '^[A-Z0-9][A-Z0-9-]{0,31}$'),
    constraint a_name_is_not_empty_and_not_long check (char_length(name) between 1 and 200),
    constraint a_price_is_positive_and_bounded check (price_minor_units between 1 and 1000000000000),
    constraint a_currency_is_a_code check (currency ~ '^[A-Z]{3}$'),
    constraint nothing_is_lost_or_invented check (available + reserved + sold = received),
    constraint nothing_is_negative check (available >= 0 and reserved >= 0 and sold >= 0),
    -- 2^53 - 1: the largest number that every reader of JSON understands.
    constraint what_was_received_can_be_told check (received <= 9007199254740991)
)
-- Updated far more often than inserted, and never in its key: room for new versions on the same page.
with (fillfactor = 70);
