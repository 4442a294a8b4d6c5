-- name: create
-- True when it was made.
select create_telemetry_partition($1);

-- name: store
-- A reading with one metric, in the partition of its instant.
insert into telemetry_readings (site_id, "timestamp", received_at, grid_voltage) values ($1, $2, now(), 230)
returning tableoid::regclass::text;

-- name: store_twice
-- The same site and instant again.
insert into telemetry_readings (site_id, "timestamp", received_at, grid_voltage) values ($1, $2, now(), 231)
on conflict (site_id, "timestamp") do nothing returning id;

-- name: touch_site
-- What presence does.
update sites set last_seen_at = now() where id = $1;

-- name: impatient
-- Fail rather than wait.
set lock_timeout = '100ms';

-- name: somebody_waits
-- Whether a backend waits for a table; unlike pg_stat_activity, pg_locks is fresh within a transaction.
select exists (
    select from pg_locks
    where not granted and database = (select oid from pg_database where datname = current_database())
);

-- name: session_in_new_york
-- Bounds must not depend on it.
set time zone 'America/New_York';

-- name: put_in_the_way
-- A table that is no partition.
create table telemetry_readings_203001 (id integer);

-- name: drop_partition
-- As retention does.
drop table telemetry_readings_203001;

-- name: analyze
-- Count the rows.
analyze telemetry_readings;

-- name: unattached
-- Tables of the name of a partition that are none.
select count(*) from pg_class
where relkind = 'r' and relname like 'telemetry_readings_%' and not relispartition;
