-- name: ping
-- Whether the database answers and takes writes; a standby after a failover does not.
select pg_is_in_recovery();
