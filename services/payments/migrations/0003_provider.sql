-- The book of the simulated payment provider. A stranger to this service: nothing here refers to the service's tables or the other
-- way round, and no transaction touches both.
create schema provider;

create table provider.book (
    -- The idempotency key that the shop chose. Whatever is asked under one key happens once.
    key            uuid primary key,

    -- What is to be taken, and from what. Null where a refund came before any charge.
    minor_units    bigint,
    currency       text,
    method         text,

    -- open      no decision yet
    -- charged   the money is taken
    -- declined  it will never be taken
    -- refunded  it was taken, and went back
    -- voided    nothing was taken, and a charge that is still on its way is refused
    state          text not null default 'open',

    -- Calls of `charge` under this key.
    attempts       integer not null default 0,

    -- Before this moment there is no decision.
    ready_at       timestamptz,

    decline_reason text,
    charged_at     timestamptz,
    refunded_at    timestamptz,

    constraint a_state_is_one_of_the_provider check (state in ('open', 'charged', 'declined', 'refunded', 'voided')),
    constraint only_a_voided_key_may_know_no_amount
        check (state = 'voided' or num_nonnulls(minor_units, currency, method) = 3),
    constraint money_that_was_taken_says_when check ((state in ('charged', 'refunded')) = (charged_at is not null)),
    constraint money_that_went_back_says_when check ((state = 'refunded') = (refunded_at is not null)),
    constraint a_decline_says_why check ((state = 'declined') = (decline_reason is not null))
);
