-- `migrate`, `partitions ensure` and the maintenance job: make the partition that holds a month.
-- Made apart and then attached, because PARTITION OF waits for every open writer and ATTACH does not.
-- The lock makes two callers take turns; the second one finds the work done.
create or replace function create_telemetry_partition(month date) returns boolean
    language plpgsql
    as $$
declare
    first_day constant date := date_trunc('month', month::timestamp)::date;
    partition constant text := 'telemetry_readings_' || to_char(first_day, 'YYYYMM');
    lower_bound constant timestamptz := first_day::timestamp at time zone 'UTC';
    upper_bound constant timestamptz := (first_day + interval '1 month') at time zone 'UTC';
begin
    if month is null then
        raise exception 'month is null' using errcode = 'null_value_not_allowed';
    end if;
    perform pg_advisory_xact_lock(hashtext('create_telemetry_partition'));
    if exists (
        select from pg_inherits
        where inhparent = 'telemetry_readings'::regclass and inhrelid = to_regclass(partition)
    ) then
        return false;
    end if;
    if to_regclass(partition) is not null then
        raise exception 'table % exists but is not a partition of telemetry_readings', partition
            using errcode = 'duplicate_table',
                  hint = 'Attach it with ALTER TABLE telemetry_readings ATTACH PARTITION, or rename it.';
    end if;
    execute format('create table %I (like telemetry_readings including all)', partition);
    execute format(
        'alter table telemetry_readings attach partition %I for values from (%L) to (%L)',
        partition, lower_bound, upper_bound
    );
    return true;
end
$$;

comment on function create_telemetry_partition(date) is
    'Makes the partition of telemetry_readings that holds this month; false when it is there already.';
