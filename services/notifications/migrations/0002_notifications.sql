-- One row per mail that somebody should get. It is the intent first and the record of what became of it later.
create table notifications (
    -- Derived from the id of the event that asked for the mail, so the same event cannot ask twice.
    id           uuid primary key,

    -- Who gets it. Deliberately no foreign key: the mail about an account may be asked for after its address was forgotten.
    user_id      uuid not null,

    -- Which letter.
    template     text not null,

    -- pending    waits for its turn at the mail server, or for the next attempt
    -- sent       accepted by the mail server; the service does not look further
    -- bounced    refused for good (a 5xx reply)
    -- failed     given up: attempts exhausted, or nobody to send it to
    -- expired    no longer true or useful when its turn came, therefore not sent
    -- cancelled  the account was deleted before it was sent
    state        text not null default 'pending',

    -- Why it is bounced or failed: the reason that `EmailFailed` announced.
    failure      text,

    -- Sensitive: what only this letter knows, such as the token in its link. Null if the letter has no such thing, and
    -- null again as soon as the letter is sent, expired or cancelled.
    content      jsonb,

    -- After this moment the letter is not sent any more: the end of its token, or of the time in which its news is news.
    expires_at   timestamptz not null,

    -- Attempts that reached the mail server since the letter was last queued.
    attempts     integer not null default 0,

    -- What the mail server said last, without addresses and tokens.
    last_error   text,

    -- The Message-ID header. Every attempt carries the same one, so that a copy sent twice is recognised as one mail.
    message_id   text not null,

    -- The trace that asked for the mail.
    trace_id     text,

    -- When the event happened that the letter is about.
    occurred_at  timestamptz not null,

    -- When this row was made, when the letter was last queued (made or resent), last changed, and accepted.
    created_at   timestamptz not null default now(),
    queued_at    timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    sent_at      timestamptz,

    -- Counts the changes of this row: the ETag of its representation.
    version      integer not null default 1,

    constraint a_template_is_one_of_ours
        check (template in ('verify_email', 'reset_password', 'password_changed', 'account_exists')),
    constraint a_state_is_one_of_ours
        check (state in ('pending', 'sent', 'bounced', 'failed', 'expired', 'cancelled')),
    constraint a_failure_has_a_reason
        check ((state in ('bounced', 'failed')) = (failure is not null)),
    constraint a_failure_is_one_of_ours
        check (failure in ('bounced', 'exhausted', 'no_address')),
    constraint what_is_over_holds_no_secret
        check (state not in ('sent', 'expired', 'cancelled') or content is null),
    constraint what_is_sent_says_when
        check (state <> 'sent' or sent_at is not null)
);

-- A person's own list, newest first, and what a deletion has to erase.
create index notifications_by_user on notifications (user_id, created_at desc, id desc);

-- The operators' lists, newest first.
create index notifications_by_time on notifications (created_at desc, id desc);
create index notifications_by_state on notifications (state, created_at desc, id desc);

-- What the clock has to erase: few rows at any time, because most letters are sent at once.
create index notifications_holding_secrets on notifications (expires_at) where content is not null;
