-- Answers that were given, so that the same request gets the same one again. Written in the transaction of the effect: there is an
-- answer if and only if there was an effect.
create table idempotency.answers (
    -- Whose key it is: two people may choose the same.
    owner       uuid        not null,
    key         text        not null,
    -- SHA-256 of the request.
    fingerprint bytea       not null check (octet_length(fingerprint) = 32),
    status      int         not null check (status between 200 and 299),
    headers     jsonb       not null,
    body        bytea       not null,
    answered_at timestamptz not null default now(),
    primary key (owner, key)
);

create index answers_by_age on idempotency.answers (answered_at);
