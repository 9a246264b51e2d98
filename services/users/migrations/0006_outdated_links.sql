-- A link for a new password does nothing any more once the password was changed in another way: whoever asked for it may not be who changed it.
alter table one_time_tokens drop constraint one_time_tokens_closed_by_check;
alter table one_time_tokens add constraint one_time_tokens_closed_by_check
    check (closed_by in ('use', 'newer_token', 'new_password'));
