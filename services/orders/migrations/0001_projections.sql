-- What can be ordered, and at which price: this service's own copy of what `inventory` announced.
create table products (
    -- What the shop calls the product.
    sku        text primary key,

    -- The name that a new order line gets.
    name       text not null,

    -- What one costs, in the smallest unit of the currency (ISO 4217).
    price      bigint not null,
    currency   text not null,

    -- The version that `inventory` gave the product. An older one that arrives late never overwrites a newer one.
    version    bigint not null,

    updated_at timestamptz not null default now(),

    constraint a_price_is_not_negative check (price >= 0),
    constraint a_currency_has_three_letters check (currency ~ '^[A-Z]{3}$')
);

-- Who may order: this service's own copy of what `users` announced. It holds nothing personal.
create table customers (
    -- The account, as `users` names it.
    user_id     uuid primary key,

    -- When its address was proven. A token can know that earlier than this row.
    verified_at timestamptz,

    -- When the account was deleted. The row stays, so that a token that is still valid places no order any more.
    deleted_at  timestamptz
);
