-- Failed logins, counted here so that all replicas count together.
create table throttles (
    -- 'account' (the address that somebody tried, whether it is known or not) or 'client' (the network address of the caller).
    scope text not null check (scope in ('account', 'client')),
    -- SHA-256 of the e-mail address in lower case, or of the network address: enough to count by, and nothing to read.
    subject bytea not null check (octet_length(subject) = 32),
    failures integer not null check (failures > 0),
    -- Until then, attempts are refused without looking at the password.
    blocked_until timestamptz not null,
    -- From then on the failures are forgotten.
    expires_at timestamptz not null,
    primary key (scope, subject)
);

create index throttles_expires_at_idx on throttles (expires_at);
