-- What a service has decided to announce and the broker has not confirmed yet, and what it has announced.

-- Where each key's stream of events stands. The publishing transaction locks the head until it commits, so the
-- order of sequence numbers is the order of commits for each key. Pruned when a key has been silent for long.
create table messaging.stream_head (
    key text primary key,
    -- The number of the last event of this key; the first has 1.
    seq bigint not null,
    updated_at timestamptz not null default now()
)
with (fillfactor = 70);

-- Drawn after the head's lock is held: within a key, positions rise in commit order. Across keys they may not.
create sequence messaging.outbox_position cache 1;

-- Pending events. A row leaves when the broker has confirmed it and has not returned it.
create table messaging.outbox (
    -- 0 to 15, a stable hash of the key: what a relay holds a lease on.
    lane smallint not null,
    position bigint not null,
    -- UUIDv7. The same however often the event is sent: the consumer's inbox knows it by this.
    message_id uuid not null,
    -- The full protobuf name, such as users.v1.UserRegistered.
    type text not null,
    key text not null,
    seq bigint not null,
    -- protobuf
    payload bytea not null,
    -- W3C traceparent, tracestate and baggage, as a JSON object of strings.
    context jsonb not null,
    -- Must somebody be listening? An event that must be heard and is not is held with the reason.
    required boolean not null,
    -- Short journal retention.
    sensitive boolean not null,
    -- A scheduled event that has come due: it does not wait behind parked messages of its key.
    deadline boolean not null,
    occurred_at timestamptz not null,
    primary key (lane, position)
)
with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- A key whose next event the broker refused (nack) or could not route. Its events stay in the outbox, in order, until
-- retry_at, when the refused one is tried again: a full queue drains, and a missing binding appears.
create table messaging.outbox_hold (
    lane smallint not null,
    key text not null,
    -- The event that was refused.
    message_id uuid not null,
    type text not null,
    reason text not null check (reason in ('nacked', 'unroutable')),
    attempts integer not null,
    retry_at timestamptz not null,
    held_since timestamptz not null default now(),
    primary key (lane, key)
);

-- Who works which lane. The clock is the database's.
create table messaging.relay_lane (
    lane smallint primary key check (lane between 0 and 15),
    -- A relay's own random token; a new one each time the process starts.
    holder uuid,
    expires_at timestamptz not null default '-infinity'
);
insert into messaging.relay_lane (lane) select generate_series(0, 15);

-- The relays that are alive, so that each takes its fair share of the lanes.
create table messaging.relay (
    id uuid primary key,
    seen_at timestamptz not null
);

-- Everything that was published, in days. Feeds audit and replay; the settling statement moves rows here.
create table messaging.journal (
    published_at timestamptz not null default now(),
    position bigint not null,
    message_id uuid not null,
    lane smallint not null,
    type text not null,
    key text not null,
    seq bigint not null,
    -- Null once erased: the fact stays, its content is gone.
    payload bytea,
    context jsonb not null,
    sensitive boolean not null,
    deadline boolean not null,
    occurred_at timestamptz not null
)
partition by range (published_at);
create index on messaging.journal (key, seq);
create index on messaging.journal (position);
create index on messaging.journal (published_at) where sensitive and payload is not null;

-- Events with a time: promoted into the outbox when they are due, and numbered only then.
create table messaging.scheduled (
    message_id uuid primary key,
    due_at timestamptz not null,
    type text not null,
    key text not null,
    payload bytea not null,
    context jsonb not null,
    required boolean not null,
    sensitive boolean not null,
    scheduled_at timestamptz not null default now()
);
create index on messaging.scheduled (due_at);
create index on messaging.scheduled (key);
