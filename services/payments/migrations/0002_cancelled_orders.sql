-- Orders that were cancelled before their payment was due. A payment that is asked for later (a redrive, a replay) is
-- not taken. Forgotten when no message that asks for it can be handled any more.
create table cancelled_orders (
    order_id     uuid primary key,
    cancelled_at timestamptz not null default now()
);

create index cancelled_orders_by_age on cancelled_orders (cancelled_at);
