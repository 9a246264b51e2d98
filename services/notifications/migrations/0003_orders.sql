-- Letters about orders, and letters to the people who run the shop.
alter table notifications
    -- Null: not to a person with an account, but to the address that the setting OPERATIONS_EMAIL names when it is sent.
    alter column user_id drop not null,

    -- What the letter tells that is no secret, such as the items of an order: it stays after the letter was sent, so that it
    -- can be sent again. No names and no addresses. Null if the letter has no such thing, and null once the account is deleted.
    add column details jsonb,

    -- Nothing was heard of the account yet: its registration comes from another service than the news, and may come later.
    -- The letter has no job until then. Says nothing once the letter is no longer pending.
    add column waits_for_address boolean not null default false,

    drop constraint a_template_is_one_of_ours,
    add constraint a_template_is_one_of_ours
        check (template in ('verify_email', 'reset_password', 'password_changed', 'account_exists',
                            'order_confirmed', 'order_cancelled', 'payment_refunded', 'stock_low')),
    add constraint who_has_no_account_runs_the_shop
        check ((user_id is null) = (template = 'stock_low')),
    add constraint only_people_are_waited_for
        check (user_id is not null or not waits_for_address);

-- What a registration sets free.
create index notifications_waiting_for_address on notifications (user_id) where waits_for_address;

-- What the clock ends, whether it has a job or not.
create index notifications_pending on notifications (expires_at) where state = 'pending';

-- What is old enough to be deleted.
create index notifications_over on notifications (updated_at) where state <> 'pending';
