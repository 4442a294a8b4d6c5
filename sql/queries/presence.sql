-- name: touch_last_seen
-- Move sites.last_seen_at forward, never back; locks in id order so that two daemons cannot deadlock.
with behind as (
    select sites.id, seen.at
    from unnest($1::integer[], $2::timestamptz[]) as seen (site_id, at)
    join sites on sites.id = seen.site_id
    where sites.last_seen_at is null or sites.last_seen_at < seen.at
    order by sites.id
    for no key update of sites
)
update sites
set last_seen_at = behind.at
from behind
where sites.id = behind.id and (sites.last_seen_at is null or sites.last_seen_at < behind.at);
