-- name: list_entries
-- The newest entries, of a site, a reason or a time if given.
select
    id, reason, detail, topic, site_id, "position", octet_length(payload) as payload_bytes, occurrences,
    first_received_at, last_received_at, settled_at
from quarantine
where ($1::bigint is null or site_id = $1)
    and ($2::text is null or reason = $2)
    and ($3::timestamptz is null or last_received_at >= $3)
order by last_received_at desc, id desc
limit $4;

-- name: find_entry
-- One entry with its payload.
select
    id, reason, detail, topic, site_id, "position", octet_length(payload) as payload_bytes, occurrences,
    first_received_at, last_received_at, settled_at, payload
from quarantine
where id = $1;
