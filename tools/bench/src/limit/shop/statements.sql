-- What the services of the shop say to their databases for one order that is confirmed, statement by statement, without what `messaging` adds:
-- `services/*/src`, transaction by transaction in the order in which it goes. `-- @` begins one, and names its database; several of one database
-- in a row are done by the same worker, and between two databases goes a message. A lone statement is no transaction.
--
-- :order, :sku and :customer are parameters.

-- @ orders
select pg_try_advisory_xact_lock(hashtextextended('idempotency ' || :customer::uuid::text || :order::uuid::text, 0));
select fingerprint, status, headers, body from idempotency.answers where owner = :customer::uuid and key = :order::uuid::text;
select verified_at is not null, deleted_at is not null,
       (select count(*) from (
            select from orders
            where orders.user_id = customers.user_id and state in ('placed', 'reserved', 'paid') limit 0
        ) open),
       (select extract(epoch from placed_at + interval '1 hour' - now())::float8 from orders
        where orders.user_id = customers.user_id
        order by placed_at desc, id desc offset 0 limit 1) as pause
from customers where user_id = :customer::uuid for share;
select sku, name, price, currency from products where sku = any(array[:sku::text]);
with placed as (
    insert into orders (id, user_id, state, payment_method, total, currency, placed_at, updated_at, version)
    select :order::uuid, :customer::uuid, 'placed', 'pm_ok', 1000, 'EUR', now, now, 1 from clock_timestamp() as now
    returning placed_at, version
), lines as (
    insert into order_lines (order_id, position, sku, name, quantity, price)
    select :order::uuid, position, sku, name, quantity, price
    from unnest(array[:sku::text], array['A product'], array[1], array[1000::bigint]) with ordinality
         as line (sku, name, quantity, price, position)
)
insert into order_history (order_id, seq, at, event, state, trace_id)
select :order::uuid, version, placed_at, 'order_placed', 'placed', '4bf92f3577b34da6a3ce929d0e0e4736' from placed
returning at;
insert into idempotency.answers (owner, key, fingerprint, status, headers, body)
values (:customer::uuid, :order::uuid::text, sha256('a request'), 202,
        '[["location", "/orders/01a20fd0-1213-77d4-93e7-37032ff9a7d4"], ["etag", "\"1\""]]', repeat('x', 400)::bytea);
insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
select * from unnest(array[md5(:order::uuid::text || '1')::uuid], array[now() + interval '1 hour'], array['orders.v1.OrderDeadlineReached'],
                     array[:order::uuid::text], array[repeat('x', 40)::bytea], array['{}'::jsonb], array[true], array[false]);

-- @ inventory
select state, expires_at, coalesce(expires_at <= clock_timestamp(), false) from reservations where order_id = :order::uuid for update;
savepoint lines;
update products
set available = available - 1, reserved = reserved + 1, version = version + 1, updated_at = clock_timestamp()
where sku = :sku::text and available >= 1
returning name, available;
insert into stock_movements (sku, available, reserved, sold, received, cause, order_id, trace_id)
select sku, -1 * quantity, 1 * quantity, 0 * quantity, 0, 'reserve', :order::uuid, '4bf92f3577b34da6a3ce929d0e0e4736'
from unnest(array[:sku::text], array[1::bigint]) with ordinality as line (sku, quantity, n) order by n;
release savepoint lines;
with held as (
    insert into reservations (order_id, user_id, state, expires_at, trace_id)
    values (:order::uuid, :customer::uuid, 'held', clock_timestamp() + make_interval(secs => 7200), '4bf92f3577b34da6a3ce929d0e0e4736')
    returning expires_at
), lines as (
    insert into reservation_lines (order_id, sku, quantity)
    select :order::uuid, sku, quantity from unnest(array[:sku::text], array[1::bigint]) as line (sku, quantity)
)
select expires_at from held;
insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
select * from unnest(array[:order::uuid], array[now() + interval '2 hours'], array['inventory.v1.ReservationDue'],
                     array[:order::uuid::text], array[repeat('x', 38)::bytea], array['{}'::jsonb], array[true], array[false]);

-- @ orders
select id, user_id, state, reason,
       (select jsonb_agg(jsonb_build_object('sku', sku, 'name', name, 'quantity', quantity, 'price', price) order by position)
        from order_lines where order_id = id),
       total, currency, payment_method, placed_at, updated_at, version
from orders where id = :order::uuid for update;
with moved as (
    update orders
    set state = 'reserved', reason = null, version = version + 1, updated_at = greatest(updated_at, clock_timestamp())
    where id = :order::uuid
    returning id, version, updated_at, state
)
insert into order_history (order_id, seq, at, event, state, detail, trace_id)
select id, version, updated_at, 'stock_reserved', state, 'held until 2026-11-23T09:40:11Z', '4bf92f3577b34da6a3ce929d0e0e4736' from moved
returning seq, at;
insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
select * from unnest(array[md5(:order::uuid::text || '2')::uuid], array[now() + interval '1 hour'], array['orders.v1.OrderDeadlineReached'],
                     array[:order::uuid::text], array[repeat('x', 40)::bytea], array['{}'::jsonb], array[true], array[false]);

-- @ payments
select pg_advisory_xact_lock(hashtextextended(:order::uuid::text, 0));
select from cancelled_orders where order_id = :order::uuid;
insert into payments (id, order_id, user_id, minor_units, currency, payment_method, trace_id)
values (:order::uuid, :order::uuid, :customer::uuid, 1000, 'EUR', 'pm_ok', '4bf92f3577b34da6a3ce929d0e0e4736')
on conflict (order_id) do nothing;
insert into messaging.job (task, id, context, urgent)
select * from unnest(array['charge_payment'], array[:order::uuid], array['{}'::jsonb], array[false]) as input (task, id, context, urgent)
order by task, id, urgent desc
on conflict do nothing;

-- @ payments
update messaging.job
set attempts = attempts + 1, lease = :order::uuid, due_at = now() + make_interval(secs => 30)
where task = 'charge_payment' and id = :order::uuid
returning id, attempts, context;

-- @ payments
select id, order_id, user_id, minor_units, currency, payment_method, state, decline_reason, refund_reason, trace_id, created_at, updated_at,
       version
from payments where id = :order::uuid;

-- @ payments
insert into provider.book (key, minor_units, currency, method, ready_at) values (:order::uuid, 1000, 'EUR', 'pm_ok', now() + make_interval(secs => null))
on conflict (key) do nothing;
select minor_units, currency, method, state, attempts, decline_reason, coalesce(extract(epoch from ready_at - now()), 0)::float8
from provider.book where key = :order::uuid for update;
update provider.book
set attempts = attempts + 1, state = coalesce('charged', state), decline_reason = coalesce(null, decline_reason),
    charged_at = case when 'charged' = 'charged' then coalesce(charged_at, now()) else charged_at end
where key = :order::uuid;

-- @ payments
delete from messaging.job where task = 'charge_payment' and id = :order::uuid and lease = :order::uuid;
select id, order_id, user_id, minor_units, currency, payment_method, state, decline_reason, refund_reason, trace_id, created_at, updated_at,
       version
from payments where id = :order::uuid for update;
update payments
set state = 'authorized', decline_reason = null, updated_at = now(), version = version + 1
where id = :order::uuid
returning updated_at, version;

-- @ orders
select id, user_id, state, reason,
       (select jsonb_agg(jsonb_build_object('sku', sku, 'name', name, 'quantity', quantity, 'price', price) order by position)
        from order_lines where order_id = id),
       total, currency, payment_method, placed_at, updated_at, version
from orders where id = :order::uuid for update;
with moved as (
    update orders
    set state = 'paid', reason = null, version = version + 1, updated_at = greatest(updated_at, clock_timestamp())
    where id = :order::uuid
    returning id, version, updated_at, state
)
insert into order_history (order_id, seq, at, event, state, detail, trace_id)
select id, version, updated_at, 'payment_authorized', state, null, '4bf92f3577b34da6a3ce929d0e0e4736' from moved
returning seq, at;
insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
select * from unnest(array[md5(:order::uuid::text || '3')::uuid], array[now() + interval '1 hour'], array['orders.v1.OrderDeadlineReached'],
                     array[:order::uuid::text], array[repeat('x', 40)::bytea], array['{}'::jsonb], array[true], array[false]);

-- @ inventory
select state, expires_at, coalesce(expires_at <= clock_timestamp(), false) from reservations where order_id = :order::uuid for update;
select sku, quantity from reservation_lines where order_id = :order::uuid;
update products
set available = available + 0, reserved = reserved - 1, sold = sold + 1, version = version + 1, updated_at = clock_timestamp()
where sku = :sku::text;
insert into stock_movements (sku, available, reserved, sold, received, cause, order_id, trace_id)
select sku, 0 * quantity, -1 * quantity, 1 * quantity, 0, 'commit', :order::uuid, '4bf92f3577b34da6a3ce929d0e0e4736'
from unnest(array[:sku::text], array[1::bigint]) with ordinality as line (sku, quantity, n) order by n;
update reservations set state = 'committed', reason = null, version = version + 1, updated_at = clock_timestamp()
where order_id = :order::uuid;

-- @ orders
select id, user_id, state, reason,
       (select jsonb_agg(jsonb_build_object('sku', sku, 'name', name, 'quantity', quantity, 'price', price) order by position)
        from order_lines where order_id = id),
       total, currency, payment_method, placed_at, updated_at, version
from orders where id = :order::uuid for update;
with moved as (
    update orders
    set state = 'confirmed', reason = null, version = version + 1, updated_at = greatest(updated_at, clock_timestamp())
    where id = :order::uuid
    returning id, version, updated_at, state
)
insert into order_history (order_id, seq, at, event, state, detail, trace_id)
select id, version, updated_at, 'stock_committed', state, null, '4bf92f3577b34da6a3ce929d0e0e4736' from moved
returning seq, at;

-- @ notifications
select from recipients where user_id = :customer::uuid;
insert into notifications
    (id, user_id, template, content, details, waits_for_address, expires_at, occurred_at, message_id, trace_id, created_at)
values (:order::uuid, :customer::uuid, 'order_confirmed', null, '{"lines": [{"name": "A product", "quantity": 1}], "total": "10.00 EUR"}', false,
        now() + interval '7 days', now(), '<' || :order::uuid::text || '@shop.test>', '4bf92f3577b34da6a3ce929d0e0e4736', clock_timestamp())
on conflict (id) do nothing;
insert into messaging.job (task, id, context, urgent)
select * from unnest(array['send_email'], array[:order::uuid], array['{}'::jsonb], array[false]) as input (task, id, context, urgent)
order by task, id, urgent desc
on conflict do nothing;

-- @ notifications
update messaging.job
set attempts = attempts + 1, lease = :order::uuid, due_at = now() + make_interval(secs => 30)
where task = 'send_email' and id = :order::uuid
returning id, attempts, context;

-- @ notifications
select id, user_id, template, state, failure, content, details, waits_for_address, expires_at, expires_at <= now(), attempts, last_error,
       message_id, trace_id, occurred_at, created_at, queued_at, updated_at, sent_at, version
from notifications where id = :order::uuid;

-- @ notifications
select email, coalesce(name, ''), verified_at is not null from recipients where user_id = :customer::uuid;

-- @ notifications
delete from messaging.job where task = 'send_email' and id = :order::uuid and lease = :order::uuid;
update notifications
set state = 'sent', failure = null, content = null, last_error = null, attempts = 1, sent_at = now(), updated_at = now(), version = version + 1
where id = :order::uuid;
