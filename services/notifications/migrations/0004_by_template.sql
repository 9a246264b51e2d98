-- The operators' list of one kind of letter, newest first.
create index notifications_by_template on notifications (template, created_at desc, id desc);
