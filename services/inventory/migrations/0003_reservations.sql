-- What became of each order here: one row per order. Whoever changes an order's stock locks this row first, so it alone decides
-- between a payment and the end of the waiting time.
create table reservations (
    order_id    uuid        primary key,

    -- Whose order it is: they may look.
    user_id     uuid        not null,

    -- held       its goods are kept for it until expires_at
    -- committed  its goods are the customer's
    -- released   its goods are free again
    -- rejected   nothing was ever held, because something was missing
    -- cancelled  was cancelled before it was heard of: should it still arrive, nothing happens
    state       text        not null,

    -- Why it is released (expired, cancelled) or rejected (out_of_stock, unknown_product).
    reason      text,

    -- The first product that was missing, if it is rejected.
    missing_sku text,

    -- When what is, or was, held may go to somebody else.
    expires_at  timestamptz,

    -- The trace of the order.
    trace_id    text,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),

    -- Counts the changes of this row: the ETag of its representation.
    version     bigint      not null default 1,

    constraint a_state_is_one_of_ours
        check (state in ('held', 'committed', 'released', 'rejected', 'cancelled')),
    constraint a_reason_belongs_to_its_state
        check (case state
                   when 'released' then reason is not null and reason in ('expired', 'cancelled')
                   when 'rejected' then reason is not null and reason in ('out_of_stock', 'unknown_product')
                   else reason is null
               end),
    constraint what_is_rejected_says_what_was_missing
        check ((state = 'rejected') = (missing_sku is not null)),
    constraint what_was_held_had_an_end
        check ((state in ('held', 'committed', 'released')) = (expires_at is not null))
);

-- What waits for its end: few rows at any time. Tells an operator whether something is held for longer than it should be.
create index reservations_held on reservations (expires_at) where state = 'held';

-- What an order wanted. Written once.
create table reservation_lines (
    order_id uuid   not null references reservations (order_id),
    -- Deliberately no foreign key: a rejected order may have wanted what does not exist.
    sku      text   collate "C" not null,
    quantity bigint not null,

    primary key (order_id, sku),
    constraint a_line_wants_something check (quantity >= 1)
);
