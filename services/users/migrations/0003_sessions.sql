-- A session: one login on one device. Only living sessions are here; to revoke one is to delete its row, so that there is
-- no flag that a query could forget.
create table sessions (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    -- Moves on with every renewal: a session that nobody renews ends by itself.
    expires_at timestamptz not null
);

create index sessions_user_id_idx on sessions (user_id);
create index sessions_expires_at_idx on sessions (expires_at);

-- The refresh tokens of a session, the current one and those that it replaced. The replaced ones are kept because seeing one
-- again means that two parties hold the session, and then it is ended (RFC 9700 §4.14.2).
create table refresh_tokens (
    -- SHA-256 of the token, see one_time_tokens.
    token_hash bytea primary key check (octet_length(token_hash) = 32),
    session_id uuid not null references sessions on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- When it was exchanged for its successor; null for the current one.
    used_at timestamptz
);

-- A session has one current token.
create unique index refresh_tokens_current_key on refresh_tokens (session_id) where used_at is null;

create index refresh_tokens_session_id_idx on refresh_tokens (session_id);
create index refresh_tokens_expires_at_idx on refresh_tokens (expires_at);
