-- A partition that cannot be dropped (somebody made a view on it, or reads it for long) must not keep those of the next days from being made: without
-- its day's partition in the inbox, a message has no place. It is tried again every hour.
create or replace function messaging.maintain_partitions(journal_days integer, inbox_days integer, ahead_days integer)
returns void
language plpgsql set lock_timeout = '500ms' as $$
declare
    today date := (now() at time zone 'utc')::date;
    day date;
    partition record;
begin
    -- Serialises the replicas; held to the end of the transaction.
    perform pg_advisory_xact_lock(hashtext('messaging.maintain_partitions'));

    for day in select generate_series(today - inbox_days, today + ahead_days, interval '1 day')::date loop
        if to_regclass(format('messaging.inbox_%s', to_char(day, 'YYYYMMDD'))) is null then
            execute format(
                'create table messaging.inbox_%s partition of messaging.inbox for values from (%L) to (%L)',
                to_char(day, 'YYYYMMDD'),
                messaging.uuid_at(day::timestamp at time zone 'utc'),
                messaging.uuid_at((day + 1)::timestamp at time zone 'utc'));
        end if;
        if day >= today and to_regclass(format('messaging.journal_%s', to_char(day, 'YYYYMMDD'))) is null then
            execute format(
                'create table messaging.journal_%s partition of messaging.journal for values from (%L) to (%L)',
                to_char(day, 'YYYYMMDD'),
                day::timestamp at time zone 'utc',
                (day + 1)::timestamp at time zone 'utc');
        end if;
    end loop;

    for partition in
        -- Only our own names have a day in them.
        with known as materialized (
            select child.relname, parent.relname as parent
            from pg_inherits
            join pg_class child on child.oid = inhrelid
            join pg_class parent on parent.oid = inhparent
            join pg_namespace on pg_namespace.oid = parent.relnamespace
            where nspname = 'messaging' and parent.relname in ('journal', 'inbox') and child.relname ~ '_[0-9]{8}$'
        )
        select relname, parent, to_date(right(relname, 8), 'YYYYMMDD') as day from known
    loop
        continue when partition.day >= today - case partition.parent when 'journal' then journal_days else inbox_days end;
        -- A parked message of that day may still have its effect, which needs its place in the inbox.
        continue when partition.parent = 'inbox' and exists (
            select from messaging.parked
            where message_id >= messaging.uuid_at(partition.day::timestamp at time zone 'utc')
              and message_id < messaging.uuid_at((partition.day + 1)::timestamp at time zone 'utc'));
        begin
            execute format('drop table messaging.%I', partition.relname);
        exception
            when lock_not_available then
                -- Whoever comes waits for what is locked here until the end.
                exit;
            when others then
                raise warning 'messaging.% is past its retention and cannot be dropped: %', partition.relname, sqlerrm;
        end;
    end loop;
end
$$;
