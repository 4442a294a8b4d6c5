-- name: open_alerts
-- How many alerts are open, by severity.
SELECT severity, count(*) AS alerts FROM alerts WHERE status IN ('active', 'acknowledged') GROUP BY severity;

-- name: sites_online
-- How many sites were seen within three of their expected intervals.
SELECT count(*) FROM sites WHERE status <> 'inactive' AND last_seen_at > now() - 3 * expected_interval;

-- name: rollup_lag_seconds
-- Age of the oldest change that no rollup has taken up; the log is append-only, so its first rows are the oldest.
SELECT coalesce(extract(epoch FROM now() - min(noted_at)), 0)::double precision
FROM (SELECT noted_at FROM rollup_dirty LIMIT 1000) AS oldest;
