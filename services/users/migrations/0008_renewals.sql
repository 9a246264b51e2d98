-- For the latest renewals of a session, of which so many are allowed within an hour. What needs the stronger lock comes first: a renewal that came
-- in between would wait for this, and this for it.
drop index refresh_tokens_session_id_idx;
create index refresh_tokens_session_idx on refresh_tokens (session_id, created_at);
