-- Makes the daily partitions of the journal and the inbox, and drops those past their retention. Called at start and
-- every hour by whichever replica comes first; the lock makes the others skip it.
create function messaging.maintain_partitions(journal_days integer, inbox_days integer, ahead_days integer)
returns void
language plpgsql as $$
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
        select child.relname, parent.relname as parent, to_date(right(child.relname, 8), 'YYYYMMDD') as day
        from pg_inherits
        join pg_class child on child.oid = inhrelid
        join pg_class parent on parent.oid = inhparent
        join pg_namespace on pg_namespace.oid = parent.relnamespace
        where nspname = 'messaging' and parent.relname in ('journal', 'inbox')
    loop
        if partition.parent = 'journal' and partition.day < today - journal_days then
            execute format('drop table messaging.%I', partition.relname);
        -- A parked message of that day may still have its effect, which needs its place in the inbox.
        elsif partition.parent = 'inbox' and partition.day < today - inbox_days and not exists (
            select from messaging.parked
            where message_id >= messaging.uuid_at(partition.day::timestamp at time zone 'utc')
              and message_id < messaging.uuid_at((partition.day + 1)::timestamp at time zone 'utc')
        ) then
            execute format('drop table messaging.%I', partition.relname);
        end if;
    end loop;
end
$$;

select messaging.maintain_partitions(30, 30, 7);
