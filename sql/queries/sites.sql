-- name: find_organizations
-- Organizations that a name or its slug may mean; the one with the slug first.
select id, name, slug from organizations where slug = $1 or lower(name) = lower($2) order by slug = $1 desc, slug limit 2;

-- name: add_organization
-- A new tenant; nothing when another command was faster.
insert into organizations (name, slug) values ($1, $2) on conflict (slug) do nothing returning id, name, slug;

-- name: add_site
-- A site, under the next free id when $1 is null; nothing when the id is taken.
insert into sites (id, organization_id, name, latitude, longitude, nominal_voltage, expected_interval)
values (
    coalesce($1::integer, nextval(pg_get_serial_sequence('sites', 'id'))), $2, $3, $4, $5,
    coalesce($6::real, 500), coalesce($7::interval, '5 minutes')
)
on conflict (id) do nothing
returning id;

-- name: move_id_sequence_past
-- After an id that somebody chose: the sequence must not come to it later.
select setval(sequence, $1::bigint)
from pg_get_serial_sequence('sites', 'id') as sequence
where coalesce(pg_sequence_last_value(sequence::regclass), 0) < $1::bigint;

-- name: list_sites
-- Every site, or those of one organization, by id.
select
    sites.id, organizations.slug as organization, sites.name, sites.status, sites.latitude, sites.longitude,
    sites.nominal_voltage, sites.expected_interval, sites.last_seen_at
from sites
join organizations on organizations.id = sites.organization_id
where $1::text is null or organizations.slug = $1 or lower(organizations.name) = lower($1)
order by sites.id;

-- name: find_site
-- One site by id.
select
    sites.id, organizations.slug as organization, sites.name, sites.status, sites.latitude, sites.longitude,
    sites.nominal_voltage, sites.expected_interval, sites.last_seen_at
from sites
join organizations on organizations.id = sites.organization_id
where sites.id = $1;

-- name: list_pending
-- Sites that send and that nobody registered: known only from quarantine, newest first.
select
    waiting.site_id as id, waiting.entries, waiting.occurrences, waiting.first_seen_at, waiting.last_seen_at,
    newest.topic, newest.payload as sample
from (
    select
        site_id, count(*) as entries, sum(occurrences)::bigint as occurrences,
        min(first_received_at) as first_seen_at, max(last_received_at) as last_seen_at
    from quarantine
    where reason = 'unknown_site' and settled_at is null and site_id is not null
    group by site_id
) as waiting
cross join lateral (
    select topic, substring(payload for $1) as payload
    from quarantine
    where quarantine.site_id = waiting.site_id and reason = 'unknown_site' and settled_at is null
    order by last_received_at desc
    limit 1
) as newest
where not exists (select from sites where sites.id = waiting.site_id)
order by waiting.last_seen_at desc, waiting.site_id;
