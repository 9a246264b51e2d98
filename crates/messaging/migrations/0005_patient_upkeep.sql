-- Making and dropping partitions needs a lock that nobody else may hold, and whoever comes later waits behind whoever waits for it. So it is
-- given up soon while somebody reads for long (a dump, a report), and tried again: there are days of partitions in store.
alter function messaging.maintain_partitions(integer, integer, integer) set lock_timeout = '500ms';
