-- The orders of a customer that are under way: counted before another one is taken, and cancelled with the account.
create index orders_open_by_user on orders (user_id) where state in ('placed', 'reserved', 'paid');
