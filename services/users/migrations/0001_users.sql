-- An account: somebody who can log in.
create table users (
    -- UUIDv7, so ids are in the order of registration; the cursor of the list of accounts relies on it.
    id uuid primary key,
    -- As its owner wrote it, trimmed, with the domain in lower case. ASCII, at most 254 characters (RFC 5321 §4.5.3.1.3).
    email text not null check (octet_length(email) between 3 and 254),
    -- What to call the person; 1 to 100 characters, none of them a control character.
    name text not null check (char_length(name) between 1 and 100),
    -- Argon2id as a PHC string: algorithm, parameters and salt are inside it.
    password_hash text not null check (password_hash like '$argon2id$%'),
    role text not null default 'customer' check (role in ('customer', 'operator')),
    -- When the owner proved control of the address; null until then.
    verified_at timestamptz,
    -- Counts every change that the owner can see, and every new password. It is the ETag of the profile.
    version bigint not null default 1 check (version > 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- One account per address, however it is capitalised. Registration leans on this index, not on a look-up before it.
create unique index users_email_key on users (lower(email));

-- Who can administer: few rows, read at start and whenever a role changes.
create index users_operators_idx on users (id) where role = 'operator';
