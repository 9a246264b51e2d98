-- For the latest renewals of a session, of which so many are allowed within an hour.
create index refresh_tokens_session_idx on refresh_tokens (session_id, created_at);
drop index refresh_tokens_session_id_idx;
