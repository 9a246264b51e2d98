-- A job that somebody waits for goes before the others of its task.
alter table messaging.job add column urgent boolean not null default false;
create index job_urgent_idx on messaging.job (task, due_at) where urgent;
