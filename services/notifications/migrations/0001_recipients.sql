-- Where a person's mail goes: this service's own copy of what `users` announced.
-- The only place here that holds an e-mail address or a name.
create table recipients (
    -- The account, as `users` names it.
    user_id      uuid primary key,

    -- The address and the name given at registration. Both null once the account is gone.
    email        text,
    name         text,

    -- When the owner of the address proved that it is theirs. Until then the name may be anybody's words, so no mail
    -- repeats it.
    verified_at  timestamptz,

    -- When the account was deleted. The row stays without anything personal, so that a registration that is replayed or
    -- redriven later cannot bring the address back.
    forgotten_at timestamptz,

    updated_at   timestamptz not null default now(),

    constraint a_recipient_has_an_address_or_is_forgotten
        check (num_nonnulls(email, forgotten_at) = 1),
    constraint a_forgotten_recipient_has_no_name
        check (forgotten_at is null or name is null)
);
