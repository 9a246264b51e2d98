-- Making and dropping partitions needs a lock that nobody else may hold, and whoever comes later waits behind whoever waits for it: every line, while
-- somebody reads for long. So it is given up soon, and tried again: there are days of partitions in store.
alter function maintain_access_log(integer, integer) set lock_timeout = '500ms';
