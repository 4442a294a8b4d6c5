-- name: count_partitions
-- How many partitions there are.
select count(*) from telemetry_partitions();

-- name: create_a_partition
-- One of any month.
select create_telemetry_partition('2026-05-01');

-- name: relation_exists
-- Whether a table of this name is there.
select to_regclass($1) is not null;

-- name: answer
-- What the function of the scripts returns.
select answer();

-- name: applied
-- What the books say.
select version, name, applied_at from schema_migrations order by version;

-- name: somebody_waits
-- Whether a backend waits for a table; unlike pg_stat_activity, pg_locks is fresh within a transaction.
select exists (
    select from pg_locks
    where not granted and database = (select oid from pg_database where datname = current_database())
);

-- name: hold_first
-- Keep every other transaction from changing the table.
lock table first in access share mode;
