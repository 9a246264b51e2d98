-- What a service has heard, and what it could not take in yet.

-- The moment that a UUIDv7 carries begins with this id (RFC 9562 §5.7: 48 bits of Unix milliseconds first).
create function messaging.uuid_at(moment timestamptz) returns uuid
language sql immutable strict parallel safe as $$
    select encode(
        substring(int8send(floor(extract(epoch from moment) * 1000)::bigint) from 3 for 6)
            || '\x70008000000000000000'::bytea,
        'hex')::uuid
$$;

-- One row per message and consumer whose effect is committed: written in the effect's own transaction, which is
-- what makes the effect happen once. Partitioned by the time in the id. A message from outside the partitions that
-- exist is refused visibly, never handled twice.
create table messaging.inbox (
    message_id uuid not null,
    consumer text not null,
    handled_at timestamptz not null default now(),
    primary key (message_id, consumer)
)
partition by range (message_id);

-- The last event of each key that had its effect, by the service that announced it. What comes with a lower number is late.
create table messaging.consumer_head (
    consumer text not null,
    producer text not null,
    key text not null,
    seq bigint not null,
    updated_at timestamptz not null default now(),
    primary key (consumer, producer, key)
)
with (fillfactor = 70);

-- Messages that failed, those that wait behind them, and dead letters.
create table messaging.parked (
    id bigint generated always as identity primary key,
    consumer text not null,
    message_id uuid not null,
    producer text not null,
    type text not null,
    key text not null,
    seq bigint not null,
    payload bytea not null,
    context jsonb not null,
    -- The rest of the envelope.
    deadline boolean not null,
    occurred_at timestamptz not null,
    -- waiting: will be tried again, or waits behind an earlier message of its key. dead: somebody must decide.
    state text not null check (state in ('waiting', 'dead')),
    attempts integer not null default 0,
    -- When the next attempt is due. Null behind an earlier message, and for dead ones.
    next_attempt_at timestamptz,
    -- Whoever tries it now, until when: an attempt that dies with its process is taken over then.
    lease uuid,
    lease_until timestamptz,
    -- The last failure, in one line, for grouping.
    reason text,
    -- [{"at": …, "attempt": …, "error": …}], the latest last, bounded.
    history jsonb not null default '[]',
    parked_at timestamptz not null default now(),
    died_at timestamptz,
    -- The trace of the message, for a look at what happened.
    trace_id text generated always as (split_part(context ->> 'traceparent', '-', 2)) stored,
    unique (consumer, message_id)
);
create index on messaging.parked (consumer, next_attempt_at) where state = 'waiting' and next_attempt_at is not null;
create index on messaging.parked (consumer, producer, key, seq) where state = 'waiting';
create index on messaging.parked (consumer, died_at) where state = 'dead';

-- Redelivered messages that a process has in hand, one at a time: whoever finds a row of another process knows that
-- it died over this message.
create table messaging.in_hand (
    consumer text not null,
    message_id uuid not null,
    process uuid not null,
    -- How many processes have died with it in hand.
    deaths integer not null default 0,
    since timestamptz not null default now(),
    primary key (consumer, message_id)
);

-- Who did what to which dead letter.
create table messaging.redrive_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null check (action in ('retry', 'edit', 'discard')),
    consumer text not null,
    message_id uuid not null,
    type text not null,
    reason text
);
create index on messaging.redrive_log (at);

-- Work outside Postgres that a transaction has decided on: done by leased workers.
create table messaging.job (
    task text not null,
    -- Of the thing that the work is about.
    id uuid not null,
    context jsonb not null,
    attempts integer not null default 0,
    due_at timestamptz not null default now(),
    lease uuid,
    lease_until timestamptz,
    last_error text,
    enqueued_at timestamptz not null default now(),
    primary key (task, id)
);
create index on messaging.job (task, due_at);
