-- What business there is, the same on both sides.
create table thing (
    n bigint generated always as identity primary key,
    id text not null,
    number bigint not null,
    -- When the row was written; on the limit's side of `latency`, too.
    at timestamptz not null default clock_timestamp()
);
create index on thing (id);

-- An order as the shop's `orders` keeps it, and what its transaction looks at.
create table customers (user_id uuid primary key, verified_at timestamptz, deleted_at timestamptz);
insert into customers select lpad(to_hex(n), 32, '0')::uuid, now() from generate_series(0, 4095) as n;
create table products (sku text primary key, name text not null, price bigint not null, currency text not null);
insert into products select 'SKU-' || n, 'Product ' || n, 100 + n, 'EUR' from generate_series(1, 100) as n;
create table orders (
    id uuid primary key,
    user_id uuid not null,
    state text not null check (state in ('placed', 'reserved', 'paid', 'confirmed', 'cancelled')),
    reason text,
    payment_method text not null,
    total bigint not null check (total >= 0),
    currency text not null,
    placed_at timestamptz not null,
    updated_at timestamptz not null,
    version bigint not null
);
create index on orders (user_id, placed_at desc, id desc);
create index on orders (placed_at desc, id desc);
create index on orders (state, placed_at desc, id desc);
create index on orders (user_id) where state in ('placed', 'reserved', 'paid');
create table order_lines (
    order_id uuid not null references orders (id),
    position integer not null,
    sku text not null,
    name text not null,
    quantity integer not null check (quantity between 1 and 1000),
    price bigint not null check (price >= 0),
    primary key (order_id, position),
    unique (order_id, sku)
);
create table order_history (
    order_id uuid not null references orders (id),
    seq bigint not null,
    at timestamptz not null,
    event text not null,
    state text not null,
    detail text,
    primary key (order_id, seq)
);
create table answers (
    owner uuid not null,
    key text not null,
    fingerprint bytea not null,
    status integer not null,
    headers jsonb not null,
    body bytea not null,
    answered_at timestamptz not null default now(),
    primary key (owner, key)
);

-- A mail that is wanted for an order.
create table letters (order_id uuid primary key, sent_at timestamptz);

-- The least that somebody would have who does it by hand.
create table bare_outbox (
    position bigint generated always as identity primary key,
    message_id uuid not null,
    key text not null,
    seq bigint not null,
    payload bytea not null
);
create table bare_inbox (message_id uuid primary key);
create table deadlines (id uuid primary key, due_at timestamptz not null, order_id uuid not null);
