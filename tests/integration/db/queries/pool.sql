-- name: backend
-- Process id of this connection's server process.
select pg_backend_pid();

-- name: settings
-- What is set on this connection.
select name, setting from pg_settings where name = any($1::text[]);

-- name: backend_exists
-- Whether a server process is still there.
select exists (select from pg_stat_activity where pid = $1);

-- name: sleep
-- Take this many seconds.
select pg_sleep($1);

-- name: terminate
-- End another connection, as an operator or a stopping server does.
select pg_terminate_backend($1);

-- name: create_scratch
-- What on_connect may make.
create temporary table scratch (number integer) on commit delete rows;

-- name: scratch_exists
-- Whether this connection has it.
select to_regclass('pg_temp.scratch') is not null;

-- name: begin
-- A transaction that nobody ends.
begin;

-- name: divide
-- A class 22 error.
select 1 / $1::int;

-- name: wrong
-- A class 42 error.
select nothing_of_this_name;

-- name: store_reading
-- A reading with one metric.
insert into telemetry_readings (site_id, "timestamp", received_at, grid_voltage) values ($1, $2, now(), $3);

-- name: read_only
-- What a standby after a failover is like.
set default_transaction_read_only = on;

-- name: lock_site
-- Keep everybody else from changing it.
select from sites where id = $1 for update;

-- name: touch_site
-- Change it.
update sites set last_seen_at = now() where id = $1;

-- name: read_reshaped
-- Prepared once, then the table changes under it.
select * from reshaped;

-- name: create_reshaped
-- A table that changes.
create table reshaped (a integer);

-- name: reshape
-- Give it another type of column.
alter table reshaped alter column a type text;
