-- name: create_staging
-- Run once a connection: where COPY puts a batch before it is merged; empty again after each transaction.
CREATE TEMP TABLE IF NOT EXISTS staged_readings ON COMMIT DELETE ROWS AS
SELECT
    0 AS ordinal, 0::bigint AS site_id, "timestamp", received_at,
    battery_voltage, battery_current, battery_charge_level, battery_temperature, battery_state_of_health,
    battery_power_kw, solar_power_kw, solar_energy_kwh, solar_efficiency,
    inverter1_power_kw, inverter1_efficiency, inverter1_temperature,
    inverter2_power_kw, inverter2_efficiency, inverter2_temperature,
    grid_voltage, grid_frequency, grid_power_kw, grid_energy_kwh, load_power_kw, load_energy_kwh
FROM telemetry_readings
WITH NO DATA;

-- name: clear_staging
-- Empty staging within a transaction, before another part of a batch that is written piece by piece.
DELETE FROM staged_readings;

-- name: merge_staged
-- Store what is new and of a known site, note the hours it changes for the rollups, return how many were stored.
WITH stored AS (
    INSERT INTO telemetry_readings (
        site_id, "timestamp", received_at,
        battery_voltage, battery_current, battery_charge_level, battery_temperature, battery_state_of_health,
        battery_power_kw, solar_power_kw, solar_energy_kwh, solar_efficiency,
        inverter1_power_kw, inverter1_efficiency, inverter1_temperature,
        inverter2_power_kw, inverter2_efficiency, inverter2_temperature,
        grid_voltage, grid_frequency, grid_power_kw, grid_energy_kwh, load_power_kw, load_energy_kwh
    )
    SELECT
        sites.id, staged."timestamp", staged.received_at,
        battery_voltage, battery_current, battery_charge_level, battery_temperature, battery_state_of_health,
        battery_power_kw, solar_power_kw, solar_energy_kwh, solar_efficiency,
        inverter1_power_kw, inverter1_efficiency, inverter1_temperature,
        inverter2_power_kw, inverter2_efficiency, inverter2_temperature,
        grid_voltage, grid_frequency, grid_power_kw, grid_energy_kwh, load_power_kw, load_energy_kwh
    FROM staged_readings AS staged
    JOIN sites ON sites.id = staged.site_id
    -- the first of two readings with the same key is the one that stands
    ORDER BY staged.ordinal
    ON CONFLICT (site_id, "timestamp") DO NOTHING
    RETURNING site_id, "timestamp"
), dirtied AS (
    INSERT INTO rollup_dirty (site_id, hour)
    SELECT DISTINCT site_id, date_trunc('hour', "timestamp", 'UTC') FROM stored
)
SELECT count(*) FROM stored;

-- name: misfits_staged
-- Of the staged readings, those that are no row and no duplicate of one: unknown site, or other values stored.
SELECT
    staged.ordinal,
    CASE WHEN sites.id IS NULL THEN 'unknown_site' ELSE 'conflict' END AS reason
FROM staged_readings AS staged
LEFT JOIN sites ON sites.id = staged.site_id
LEFT JOIN telemetry_readings AS kept
    ON kept.site_id = sites.id AND kept."timestamp" = staged."timestamp"
WHERE sites.id IS NULL
    OR (
        kept.battery_voltage, kept.battery_current, kept.battery_charge_level, kept.battery_temperature,
        kept.battery_state_of_health, kept.battery_power_kw,
        kept.solar_power_kw, kept.solar_energy_kwh, kept.solar_efficiency,
        kept.inverter1_power_kw, kept.inverter1_efficiency, kept.inverter1_temperature,
        kept.inverter2_power_kw, kept.inverter2_efficiency, kept.inverter2_temperature,
        kept.grid_voltage, kept.grid_frequency, kept.grid_power_kw, kept.grid_energy_kwh,
        kept.load_power_kw, kept.load_energy_kwh
    ) IS DISTINCT FROM (
        staged.battery_voltage, staged.battery_current, staged.battery_charge_level, staged.battery_temperature,
        staged.battery_state_of_health, staged.battery_power_kw,
        staged.solar_power_kw, staged.solar_energy_kwh, staged.solar_efficiency,
        staged.inverter1_power_kw, staged.inverter1_efficiency, staged.inverter1_temperature,
        staged.inverter2_power_kw, staged.inverter2_efficiency, staged.inverter2_temperature,
        staged.grid_voltage, staged.grid_frequency, staged.grid_power_kw, staged.grid_energy_kwh,
        staged.load_power_kw, staged.load_energy_kwh
    )
ORDER BY staged.ordinal;

-- name: add_to_quarantine
-- Keep rejected payloads once each; the same one again counts up and opens a settled entry.
INSERT INTO quarantine AS entry (
    fingerprint, reason, detail, topic, site_id, payload, "position", occurrences, first_received_at, last_received_at
)
SELECT * FROM unnest(
    $1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bytea[], $7::integer[], $8::bigint[],
    $9::timestamptz[], $10::timestamptz[]
)
ON CONFLICT (fingerprint) DO UPDATE SET
    occurrences = entry.occurrences + excluded.occurrences,
    last_received_at = greatest(entry.last_received_at, excluded.last_received_at),
    settled_at = NULL;
