-- An event whose content was erased while it was still to be published: it is published, and only the fact of it goes into the journal.
alter table messaging.outbox add column erased boolean not null default false;
