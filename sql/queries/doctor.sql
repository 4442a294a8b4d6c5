-- name: identify
-- Who answers, and what time it is there.
select
    current_setting('server_version_num')::integer as version_number,
    current_setting('server_version') as version,
    pg_is_in_recovery() as standby,
    current_user::text as role,
    current_database()::text as database,
    clock_timestamp() as now;

-- name: missing_privileges
-- What the daemon does and this role may not, as words for a GRANT; nothing when all is allowed.
with wanted (name, privileges) as (
    values
        ('sites', array['select']),
        ('telemetry_readings', array['select', 'insert']),
        ('quarantine', array['select', 'insert', 'update']),
        ('rollup_dirty', array['select', 'insert']),
        ('alerts', array['select'])
)
select upper(privilege) || ' on table ' || name as missing
from wanted
cross join unnest(privileges) as privilege
where not has_table_privilege(name, privilege)
union all
select 'UPDATE (last_seen_at) on table sites'
where not has_column_privilege('sites', 'last_seen_at', 'update')
union all
select 'USAGE on sequence telemetry_readings_id_seq'
where not has_sequence_privilege('telemetry_readings_id_seq', 'usage')
union all
select format('TEMPORARY on database %I', current_database())
where not has_database_privilege(current_database(), 'temporary')
order by 1;

-- name: missing_partition_privileges
-- What making a partition needs and this role may not.
select format('CREATE on schema %I', current_schema()) as missing
where not has_schema_privilege(current_schema(), 'create')
union all
select format('ownership of telemetry_readings (its owner is %I)', pg_get_userbyid(relowner))
from pg_class
where oid = 'telemetry_readings'::regclass and not pg_has_role(relowner, 'usage');

-- name: count_writers
-- How many daemons write to this database; each has one connection of this name.
select count(*) from pg_stat_activity where datname = current_database() and application_name = $1;
