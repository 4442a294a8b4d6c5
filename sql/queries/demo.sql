-- name: add_organization
-- The tenant that the demo's sites belong to.
INSERT INTO organizations (name, slug, subscription_tier)
VALUES ('Demo Backup Power', 'demo', 'professional')
RETURNING id;

-- name: add_site
-- One simulated site with what stands there, under an id of the database's choice.
WITH site AS (
    INSERT INTO sites (organization_id, name, latitude, longitude, nominal_voltage, daily_consumption_kwh)
    VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING id
), parts AS (
    INSERT INTO equipment (site_id, type, manufacturer, model, serial_number, capacity, health_score)
    SELECT site.id, part.type, part.manufacturer, part.model, 'DEMO-' || site.id || '-' || part.ordinality, part.capacity, $11
    FROM site
    CROSS JOIN unnest($7::text[], $8::text[], $9::text[], $10::real[])
        WITH ORDINALITY AS part (type, manufacturer, model, capacity, ordinality)
)
SELECT id FROM site;

-- name: newest_readings
-- The sites that reported last, each with its newest reading; $1 is how many.
SELECT
    sites.name, latest."timestamp", latest.battery_charge_level, latest.battery_power_kw,
    latest.solar_power_kw, latest.grid_power_kw, latest.grid_voltage, latest.load_power_kw
FROM sites
CROSS JOIN LATERAL (
    SELECT * FROM telemetry_readings AS reading
    WHERE reading.site_id = sites.id
    ORDER BY reading."timestamp" DESC
    LIMIT 1
) AS latest
ORDER BY latest."timestamp" DESC
LIMIT $1;

-- name: sites_seen
-- How many sites there are, how many reported within three of their intervals, and when one last did.
SELECT
    count(*) AS sites,
    count(*) FILTER (WHERE last_seen_at > now() - 3 * expected_interval) AS online,
    max(last_seen_at) AS last_seen_at
FROM sites;

-- name: quarantine_by_reason
-- How much is in quarantine for each reason, with the newest entry as a sample.
SELECT DISTINCT ON (reason)
    reason, sum(occurrences) OVER (PARTITION BY reason)::bigint AS occurrences, detail, topic
FROM quarantine
ORDER BY reason, last_received_at DESC, id DESC;

-- name: count_readings
-- What really became rows, to be held against the daemon's ledger.
SELECT count(*) FROM telemetry_readings;
