-- Only our own names have a day in them: a partition that somebody else has attached must not stop every line.
create or replace function access_log_days() returns setof date
language sql stable as $$
    with ours as materialized (
        select child.relname
        from pg_inherits
        join pg_class child on child.oid = inhrelid
        where inhparent = 'access_log'::regclass and child.relname ~ '^access_log_[0-9]{8}$'
    )
    select to_date(right(relname, 8), 'YYYYMMDD') from ours
$$;
