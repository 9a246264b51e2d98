-- What `POST /orders` says to its database, statement by statement, as a script of pgbench: `services/orders/src/http/placing.rs` and what it
-- calls there, in `crates/idempotency` and in `crates/messaging`. An order has one line, as those that are placed beside it.
--
-- :customers and :sku are there already, and each client is one of the customers; :first is beyond all numbers of earlier runs, and each client counts on from it.
\set n :n + 1
\set order (:first + :n) * 64 + :client_id
\set who :client_id % :count + 1
begin;
select pg_try_advisory_xact_lock(hashtextextended('idempotency ' || (:customers::uuid[])[:who::int]::text || :order::bigint, 0));
select fingerprint, status, headers, body from idempotency.answers where owner = (:customers::uuid[])[:who::int] and key = (:order::bigint)::text;
select verified_at is not null, deleted_at is not null,
       (select count(*) from (
            select from orders
            where orders.user_id = customers.user_id and state in ('placed', 'reserved', 'paid') limit 0
        ) open),
       (select extract(epoch from placed_at + interval '1 hour' - now())::float8 from orders
        where orders.user_id = customers.user_id
        order by placed_at desc, id desc offset 0 limit 1) as pause
from customers where user_id = (:customers::uuid[])[:who::int] for share;
select sku, name, price, currency from products where sku = any(array[:sku::text]);
with placed as (
    insert into orders (id, user_id, state, payment_method, total, currency, placed_at, updated_at, version)
    select lpad(to_hex(:order::bigint), 32, '0')::uuid, (:customers::uuid[])[:who::int], 'placed', 'pm_ok', 1000, 'EUR', now, now, 1
    from clock_timestamp() as now
    returning placed_at, version
), lines as (
    insert into order_lines (order_id, position, sku, name, quantity, price)
    select lpad(to_hex(:order::bigint), 32, '0')::uuid, position, sku, name, quantity, price
    from unnest(array[:sku::text], array['A product'], array[1], array[1000::bigint]) with ordinality
         as line (sku, name, quantity, price, position)
)
insert into order_history (order_id, seq, at, event, state, trace_id)
select lpad(to_hex(:order::bigint), 32, '0')::uuid, version, placed_at, 'order_placed', 'placed', '4bf92f3577b34da6a3ce929d0e0e4736'
from placed
returning at;
insert into idempotency.answers (owner, key, fingerprint, status, headers, body)
values ((:customers::uuid[])[:who::int], (:order::bigint)::text, sha256('a request'), 202,
        '[["location", "/orders/01a20fd0-1213-77d4-93e7-37032ff9a7d4"], ["etag", "\"1\""]]', repeat('x', 400)::bytea);
with head as (
    insert into messaging.stream_head as head (key, seq) values (lpad(to_hex(:order::bigint), 32, '0')::uuid::text, 1)
    on conflict (key) do update set seq = head.seq + 1, updated_at = now()
    returning seq
), scheduled as (
    insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
    values (('1' || lpad(to_hex(:order::bigint), 31, '0'))::uuid, now() + interval '1 hour', 'orders.v1.OrderDeadlineReached',
            lpad(to_hex(:order::bigint), 32, '0')::uuid::text, repeat('x', 40)::bytea,
            '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}', true, false)
)
insert into messaging.outbox
    (lane, position, message_id, type, key, seq, payload, context, required, sensitive, deadline, occurred_at)
select (:order::bigint % 16)::smallint, nextval('messaging.outbox_position'), ('2' || lpad(to_hex(:order::bigint), 31, '0'))::uuid,
       'orders.v1.OrderPlaced', lpad(to_hex(:order::bigint), 32, '0')::uuid::text, head.seq, repeat('x', 92)::bytea,
       '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}', true, false, false, now()
from head;
commit;
