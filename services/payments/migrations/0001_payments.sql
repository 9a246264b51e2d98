-- One row per order whose money was asked for. Kept for ever: it is the shop's record of money.
create table payments (
    -- Derived from the order's id, and the key under which the provider knows the payment: even a database that was
    -- restored from a backup charges an order once.
    id             uuid primary key,

    order_id       uuid not null unique,

    -- Whose order it is. Nothing else is known here of the person.
    user_id        uuid not null,

    -- The amount, in the smallest unit of the currency (ISO 4217).
    minor_units    bigint not null,
    currency       text not null,

    -- The provider's name for the customer's means of payment.
    payment_method text not null,

    -- pending     the provider is asked for the money
    -- authorized  the provider has taken the money
    -- declined    the provider will not take it; final
    -- giving_up   no decision could be had from the provider: whatever it took goes back, then it counts as declined
    -- cancelling  the order was cancelled before there was a decision: whatever was taken goes back
    -- cancelled   nothing was taken, and nothing can be taken any more; final
    -- refunding   the money goes back
    -- refunded    the money went back; final
    state          text not null default 'pending',

    -- Why it is declined, or was to be: also set of what was given up and then turned out to have been taken.
    decline_reason text,

    -- What the operator who had it refunded wrote, and who it was.
    refund_reason  text,
    refunded_by    uuid,

    -- The trace that asked for the money.
    trace_id       text,

    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),

    -- Counts the changes of this row: the ETag of its representation.
    version        bigint not null default 1,

    constraint an_amount_is_not_negative check (minor_units >= 0),
    constraint a_currency_has_three_letters check (currency ~ '^[A-Z]{3}$'),
    constraint a_state_is_one_of_ours
        check (state in ('pending', 'authorized', 'declined', 'giving_up', 'cancelling', 'cancelled', 'refunding', 'refunded')),
    constraint a_decline_has_a_reason check (state <> 'declined' or decline_reason is not null),
    constraint a_reason_is_one_of_ours
        check (decline_reason in ('card_declined', 'insufficient_funds', 'unknown_method', 'given_up'))
);

-- What somebody still waits for: few rows at any time, looked at for the metrics.
create index payments_unsettled on payments (created_at) where state in ('pending', 'giving_up', 'cancelling', 'refunding');
