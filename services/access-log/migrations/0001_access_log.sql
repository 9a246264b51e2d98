-- One row for each request that some service answered. Nothing in it identifies a person: no path, no query, no header, no
-- account, and of the client's address only its network.
create table access_log (
    -- When the request's head had arrived. First in the key: rows come and are read in the order of time.
    at timestamptz not null,
    -- Of the line. The same however often it is delivered.
    id uuid not null,
    -- Who answered, as the broker has made sure.
    service text not null,
    -- Which of its processes.
    instance text not null,
    method text not null,
    -- The pattern, such as /orders/{id}, or `unmatched`.
    route text not null,
    -- 499 if the client went away before there was an answer.
    status smallint not null,
    duration_us bigint not null check (duration_us >= 0),
    -- What the client said; null if it said nothing.
    request_bytes bigint,
    response_bytes bigint not null,
    -- Never more than the first 24 bits of an IPv4 address, or 48 of an IPv6 one.
    client_network cidr check (masklen(client_network) <= case family(client_network) when 4 then 24 else 48 end),
    -- The kind of client, one of a few words; null if it sent none.
    user_agent text,
    trace_id text,
    primary key (at, id)
)
-- A partition for each day (UTC), so that what is past its retention is dropped at once, without leaving anything behind.
partition by range (at);

create index on access_log (service, route, at);
create index on access_log (trace_id);

-- The days that have a partition. A line of another day has no place.
create function access_log_days() returns setof date
language sql stable as $$
    select to_date(right(child.relname, 8), 'YYYYMMDD')
    from pg_inherits
    join pg_class child on child.oid = inhrelid
    where inhparent = 'access_log'::regclass
$$;

-- Makes the partitions from two days ago (lines can be late) to some days ahead, and drops those of days that are past the retention. Every replica
-- calls it at its start and every hour.
create function maintain_access_log(retention_days integer, ahead_days integer) returns void
language plpgsql as $$
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
        execute format('drop table access_log_%s', to_char(day, 'YYYYMMDD'));
    end loop;
end
$$;

select maintain_access_log(30, 7);
