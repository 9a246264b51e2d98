-- Making and dropping partitions needs a lock that nobody else may hold, and whoever comes later waits behind whoever waits for it: every line, while
-- somebody reads for long. So it is given up soon, and tried again: there are days of partitions in store. And one that cannot be dropped, because
-- somebody made a view on it, must not keep those of the next days from being made.
create or replace function maintain_access_log(retention_days integer, ahead_days integer) returns void
language plpgsql set lock_timeout = '500ms' as $$
declare
    today date := (now() at time zone 'utc')::date;
    day date;
begin
    -- One replica after the other; held to the end of the transaction.
    perform pg_advisory_xact_lock(hashtext('maintain_access_log'));

    for day in select generate_series(today - least(retention_days, 2), today + ahead_days, interval '1 day')::date loop
        if day not in (select access_log_days()) then
            execute format(
                'create table access_log_%s partition of access_log for values from (%L) to (%L)',
                to_char(day, 'YYYYMMDD'),
                day::timestamp at time zone 'utc',
                (day + 1)::timestamp at time zone 'utc');
        end if;
    end loop;

    for day in select known from access_log_days() as known where known < today - retention_days loop
        begin
            execute format('drop table access_log_%s', to_char(day, 'YYYYMMDD'));
        exception
            when lock_not_available then
                -- Whoever comes waits for what is locked here until the end.
                exit;
            when others then
                raise warning 'access_log_% is past its retention and cannot be dropped: %', to_char(day, 'YYYYMMDD'), sqlerrm;
        end;
    end loop;
end
$$;
