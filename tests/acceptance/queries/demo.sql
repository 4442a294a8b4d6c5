-- name: steal_a_reading
-- Takes one stored reading away, so that the table and the daemon's ledger no longer agree.
DELETE FROM telemetry_readings
WHERE (site_id, "timestamp") = (SELECT site_id, "timestamp" FROM telemetry_readings LIMIT 1);
