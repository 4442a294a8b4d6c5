-- name: open_alerts
-- How many alerts are open, by severity.
select severity, count(*) as alerts from alerts where status in ('active', 'acknowledged') group by severity;

-- name: sites_online
-- How many sites were seen within three of their expected intervals.
select count(*) from sites where status <> 'inactive' and last_seen_at > now() - 3 * expected_interval;

-- name: rollup_lag_seconds
-- Age of the oldest change that no rollup has taken up; the log is append-only, so its first rows are the oldest.
select coalesce(extract(epoch from now() - min(noted_at)), 0)::double precision
from (select noted_at from rollup_dirty limit 1000) as oldest;
