-- `partitions list`, /readyz and the partition horizon: which months can be stored.
create or replace function telemetry_partitions()
    returns table (name text, lower_bound timestamptz, upper_bound timestamptz, rows_estimate bigint, bytes bigint)
    language sql stable
    as $$
    select
        partition.relname::text,
        substring(bounds.text from 'FROM \(''([^'']+)''\)')::timestamptz,
        substring(bounds.text from 'TO \(''([^'']+)''\)')::timestamptz,
        nullif(partition.reltuples, -1)::bigint,
        pg_total_relation_size(partition.oid)
    from pg_inherits as inheritance
    join pg_class as partition on partition.oid = inheritance.inhrelid
    cross join lateral (select pg_get_expr(partition.relpartbound, partition.oid) as text) as bounds
    where inheritance.inhparent = 'telemetry_readings'::regclass
    order by 2;
$$;

comment on function telemetry_partitions() is
    'Partitions of telemetry_readings, oldest first; rows_estimate is null until the first ANALYZE.';
