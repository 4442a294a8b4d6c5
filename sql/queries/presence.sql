-- name: touch_last_seen
-- Move sites.last_seen_at forward, never back; locks in id order so that two daemons cannot deadlock.
WITH behind AS (
    SELECT sites.id, seen.at
    FROM unnest($1::integer[], $2::timestamptz[]) AS seen (site_id, at)
    JOIN sites ON sites.id = seen.site_id
    WHERE sites.last_seen_at IS NULL OR sites.last_seen_at < seen.at
    ORDER BY sites.id
    FOR NO KEY UPDATE OF sites
)
UPDATE sites
SET last_seen_at = behind.at
FROM behind
WHERE sites.id = behind.id AND (sites.last_seen_at IS NULL OR sites.last_seen_at < behind.at);
