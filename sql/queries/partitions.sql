-- name: wait_briefly_for_locks
-- Before creating: who waits for a lock on sites makes the writers behind it wait too.
set local lock_timeout = '1s';

-- name: create_partition
-- Make the partition of a month (a date in it); true when it was not there.
select create_telemetry_partition($1);

-- name: list_partitions
-- Every partition, oldest first.
select name, lower_bound, upper_bound, rows_estimate, bytes from telemetry_partitions();
