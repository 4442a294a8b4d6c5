-- name: somebody_sleeps
-- Whether a backend is in pg_sleep.
select exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database());
