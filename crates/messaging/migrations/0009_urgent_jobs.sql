-- A job that somebody waits for goes before the others of its task.
alter table messaging.job add column urgent boolean not null default false;
create index job_turn_idx on messaging.job (task, urgent desc, due_at);
drop index messaging.job_task_due_at_idx;
