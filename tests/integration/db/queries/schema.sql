-- name: columns
-- Every column of the public tables, without the partitions.
select table_name, column_name, data_type, column_default is not null or is_identity = 'YES' as has_default
from information_schema.columns
where table_schema = 'public' and table_name !~ '^telemetry_readings_\d{6}$';

-- name: constraint_definition
-- What a named check says.
select pg_get_constraintdef(oid) from pg_constraint where conname = $1;

-- name: indexes
-- Definitions of a table's indexes.
select indexdef from pg_indexes where schemaname = 'public' and tablename = $1 order by indexname;

-- name: foreign_keys
-- Which table refers to which, without the partitions.
select conrelid::regclass::text, confrelid::regclass::text
from pg_constraint
where contype = 'f' and conparentid = 0 and conrelid::regclass::text !~ '^telemetry_readings_\d{6}$';

-- name: organization_defaults
-- What a new organization has.
select status, subscription_tier, settings::text from organizations where id = $1;

-- name: site_defaults
-- What a new site has.
select nominal_voltage, status, expected_interval, time_zone, last_seen_at from sites where id = $1;

-- name: add_equipment
-- A battery of a site.
insert into equipment (site_id, type) values ($1, 'battery') returning id;

-- name: open_alert
-- An open alert in a given status.
insert into alerts (site_id, equipment_id, severity, category, code, title, message, status, acknowledged_at)
values ($1, $2, 'warning', 'battery', $3, 'Battery low', 'The battery is low.', $4, now())
returning id;

-- name: resolve_alert
-- Close it.
update alerts set status = 'resolved', resolved_at = now() where id = $1;

-- name: resolve_alert_without_time
-- Break the rule that a resolved alert says when.
update alerts set status = 'resolved', resolved_at = null where id = $1;

-- name: add_hour
-- An hourly row.
insert into telemetry_hourly (site_id, "timestamp", reading_count) values ($1, $2, 12);

-- name: add_day
-- A daily row.
insert into telemetry_daily (site_id, date) values ($1, $2);

-- name: touch_sites
-- What presence does with every batch.
update sites set last_seen_at = clock_timestamp();

-- name: add_sites
-- As many sites as asked for, in an organization.
insert into sites (organization_id, name) select $1, 'Site ' || number from generate_series(1, $2::int) as number;

-- name: flush_statistics
-- Let the counters of this connection be seen.
select pg_stat_force_next_flush();

-- name: site_updates
-- Updates of sites, and those of them that touched no index.
select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'sites';

-- name: add_readings
-- Readings of all sites, every 5 minutes from $1 on, in the order in which they come: $2 instants,
-- and each metric null with a probability of $3.
insert into telemetry_readings (
    site_id, "timestamp", received_at, battery_voltage, battery_current, battery_charge_level,
    battery_temperature, battery_state_of_health, battery_power_kw, solar_power_kw, solar_energy_kwh,
    solar_efficiency, inverter1_power_kw, inverter1_efficiency, inverter1_temperature, inverter2_power_kw,
    inverter2_efficiency, inverter2_temperature, grid_voltage, grid_frequency, grid_power_kw, grid_energy_kwh,
    load_power_kw, load_energy_kwh
)
select
    sites.id, instant, instant,
    case when random() >= $3::float8 then 1 end,
    case when random() >= $3::float8 then 2 end,
    case when random() >= $3::float8 then 3 end,
    case when random() >= $3::float8 then 4 end,
    case when random() >= $3::float8 then 5 end,
    case when random() >= $3::float8 then 6 end,
    case when random() >= $3::float8 then 7 end,
    case when random() >= $3::float8 then 8 end,
    case when random() >= $3::float8 then 9 end,
    case when random() >= $3::float8 then 10 end,
    case when random() >= $3::float8 then 11 end,
    case when random() >= $3::float8 then 12 end,
    case when random() >= $3::float8 then 13 end,
    case when random() >= $3::float8 then 14 end,
    case when random() >= $3::float8 then 15 end,
    case when random() >= $3::float8 then 16 end,
    case when random() >= $3::float8 then 17 end,
    case when random() >= $3::float8 then 18 end,
    case when random() >= $3::float8 then 19 end,
    case when random() >= $3::float8 then 20 end,
    case when random() >= $3::float8 then 21 end
from sites, generate_series($1::timestamptz, $1 + ($2::int - 1) * interval '5 minutes', '5 minutes') as instant
order by instant, hashint4(sites.id);

-- name: row_bytes
-- What a reading takes on disk, table and index together, and how many there are.
select
    (select sum(pg_table_size(name::regclass) + pg_indexes_size(name::regclass)) from telemetry_partitions())
        / count(*)::float8 as bytes,
    count(*) as rows
from telemetry_readings;
