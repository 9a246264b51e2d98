-- The Ed25519 keys that sign access tokens. All replicas share them; whichever starts first makes the first one, and
-- a new one follows before the last grows old.
--
-- The private key is stored as it is. Encrypting it would need another secret beside every replica, with the same reach as the
-- database password that is there already; what protects it is that only the role of this service can connect to this
-- database. Treat a backup of it accordingly. A leaked key ends with one statement: set not_after = now() on its row.
create table signing_keys (
    -- RFC 7638 thumbprint of the public key; the `kid` of tokens and of the published key.
    kid text primary key,
    -- PKCS#8 (RFC 8410), 48 bytes.
    private_key bytea not null check (octet_length(private_key) = 48),
    created_at timestamptz not null default now(),
    -- Signs from then on, until a younger key does. A new key is published before it signs, so that verifiers know it.
    active_from timestamptz not null,
    -- Published until then. Null for the newest key; an older one stays until the last token that it signed has expired.
    not_after timestamptz
);
