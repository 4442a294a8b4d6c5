-- name: create_staging
-- Run once a connection: where COPY puts a batch before it is merged; empty again after each transaction.
create temp table if not exists staged_readings on commit delete rows as
select
    0 as ordinal, 0::bigint as site_id, "timestamp", received_at,
    battery_voltage, battery_current, battery_charge_level, battery_temperature, battery_state_of_health,
    battery_power_kw, solar_power_kw, solar_energy_kwh, solar_efficiency,
    inverter1_power_kw, inverter1_efficiency, inverter1_temperature,
    inverter2_power_kw, inverter2_efficiency, inverter2_temperature,
    grid_voltage, grid_frequency, grid_power_kw, grid_energy_kwh, load_power_kw, load_energy_kwh
from telemetry_readings
with no data;

-- name: begin_piece
-- Before a part of a batch that is written piece by piece.
savepoint piece;

-- name: keep_piece
-- The part is written.
release savepoint piece;

-- name: undo_piece
-- The part holds a bad row. Rolling back alone leaves the savepoint open, and the next one within it: thousands
-- of them run the server out of locks.
rollback to savepoint piece;
release savepoint piece;

-- name: clear_staging
-- Empty staging within a transaction, before another part of a batch that is written piece by piece.
delete from staged_readings;

-- name: merge_staged
-- Store what is new and of a known site, note the hours it changes for the rollups, return how many were stored.
with stored as (
    insert into telemetry_readings (
        site_id, "timestamp", received_at,
        battery_voltage, battery_current, battery_charge_level, battery_temperature, battery_state_of_health,
        battery_power_kw, solar_power_kw, solar_energy_kwh, solar_efficiency,
        inverter1_power_kw, inverter1_efficiency, inverter1_temperature,
        inverter2_power_kw, inverter2_efficiency, inverter2_temperature,
        grid_voltage, grid_frequency, grid_power_kw, grid_energy_kwh, load_power_kw, load_energy_kwh
    )
    select
        sites.id, staged."timestamp", staged.received_at,
        battery_voltage, battery_current, battery_charge_level, battery_temperature, battery_state_of_health,
        battery_power_kw, solar_power_kw, solar_energy_kwh, solar_efficiency,
        inverter1_power_kw, inverter1_efficiency, inverter1_temperature,
        inverter2_power_kw, inverter2_efficiency, inverter2_temperature,
        grid_voltage, grid_frequency, grid_power_kw, grid_energy_kwh, load_power_kw, load_energy_kwh
    from staged_readings as staged
    join sites on sites.id = staged.site_id
    -- the first of two readings with the same key is the one that stands
    order by staged.ordinal
    on conflict (site_id, "timestamp") do nothing
    returning site_id, "timestamp"
), dirtied as (
    insert into rollup_dirty (site_id, hour)
    select distinct site_id, date_trunc('hour', "timestamp", 'UTC') from stored
)
select count(*) from stored;

-- name: misfits_staged
-- Of the staged readings, those that are no row and no duplicate of one: unknown site, or other values stored.
select
    staged.ordinal,
    case when sites.id is null then 'unknown_site' else 'conflict' end as reason
from staged_readings as staged
left join sites on sites.id = staged.site_id
left join telemetry_readings as kept
    on kept.site_id = sites.id and kept."timestamp" = staged."timestamp"
where sites.id is null
    or (
        kept.battery_voltage, kept.battery_current, kept.battery_charge_level, kept.battery_temperature,
        kept.battery_state_of_health, kept.battery_power_kw,
        kept.solar_power_kw, kept.solar_energy_kwh, kept.solar_efficiency,
        kept.inverter1_power_kw, kept.inverter1_efficiency, kept.inverter1_temperature,
        kept.inverter2_power_kw, kept.inverter2_efficiency, kept.inverter2_temperature,
        kept.grid_voltage, kept.grid_frequency, kept.grid_power_kw, kept.grid_energy_kwh,
        kept.load_power_kw, kept.load_energy_kwh
    ) is distinct from (
        staged.battery_voltage, staged.battery_current, staged.battery_charge_level, staged.battery_temperature,
        staged.battery_state_of_health, staged.battery_power_kw,
        staged.solar_power_kw, staged.solar_energy_kwh, staged.solar_efficiency,
        staged.inverter1_power_kw, staged.inverter1_efficiency, staged.inverter1_temperature,
        staged.inverter2_power_kw, staged.inverter2_efficiency, staged.inverter2_temperature,
        staged.grid_voltage, staged.grid_frequency, staged.grid_power_kw, staged.grid_energy_kwh,
        staged.load_power_kw, staged.load_energy_kwh
    )
order by staged.ordinal;

-- name: add_to_quarantine
-- Keep rejected payloads once each; the same one again counts up and opens a settled entry.
insert into quarantine as entry (
    fingerprint, reason, detail, topic, site_id, payload, "position", occurrences, first_received_at, last_received_at
)
select * from unnest(
    $1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bytea[], $7::integer[], $8::bigint[],
    $9::timestamptz[], $10::timestamptz[]
)
on conflict (fingerprint) do update set
    occurrences = entry.occurrences + excluded.occurrences,
    last_received_at = greatest(entry.last_received_at, excluded.last_received_at),
    settled_at = null;
