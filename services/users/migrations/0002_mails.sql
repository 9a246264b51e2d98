-- When each kind of mail was last asked for, per address: nobody's mailbox can be flooded through this service. An address without an account
-- has rows here too: requests for known and unknown addresses must do the same work.
create table mails (
    -- SHA-256 of the address in lower case: enough to count by, and nothing to read.
    address bytea not null check (octet_length(address) = 32),
    kind text not null check (kind in ('verify_email', 'reset_password', 'account_exists')),
    requested_at timestamptz not null default now(),
    primary key (address, kind)
);

-- Rows mean something for a minute, and are then deleted by this index.
create index mails_requested_at_idx on mails (requested_at);

-- Tokens that are mailed as links. The token itself is stored nowhere; whoever reads this table cannot follow a link.
create table one_time_tokens (
    -- SHA-256 of the token. The token has 256 random bits, so neither salt nor stretching would add anything.
    token_hash bytea primary key check (octet_length(token_hash) = 32),
    user_id uuid not null references users on delete cascade,
    purpose text not null check (purpose in ('verify_email', 'reset_password')),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- Set once: a closed token never opens again.
    closed_at timestamptz,
    closed_by text check (closed_by in ('use', 'newer_token')),
    check ((closed_at is null) = (closed_by is null))
);

-- A newer token closes the older ones of its purpose: at most one is open.
create unique index one_time_tokens_open_key on one_time_tokens (user_id, purpose) where closed_at is null;

-- Tokens are kept for a while after their end, to say "expired" rather than "unknown", and then deleted by this index.
create index one_time_tokens_expires_at_idx on one_time_tokens (expires_at);
