"""The schema document, held against the database that the migrations make."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from bms_ingest.models import METRICS, Reading, Reason
from bms_ingest.sql import load_queries
from tests.fixtures.postgres import QUERIES as SHARED
from tests.fixtures.postgres import MakeSite, Site
from tests.integration.db import QUERIES

SQL = load_queries("schema", QUERIES)

DOCUMENT = {
    "organizations": "id name slug settings status subscription_tier",
    "sites": (
        "id organization_id name latitude longitude nominal_voltage daily_consumption_kwh status last_seen_at"
    ),
    "equipment": (
        "id site_id type manufacturer model serial_number capacity health_score status next_maintenance_at"
    ),
    "telemetry_readings": "id site_id timestamp received_at " + " ".join(METRICS),
    "telemetry_hourly": (
        "id site_id timestamp avg_battery_voltage avg_battery_charge_level avg_solar_power_kw "
        "total_solar_energy_kwh total_grid_energy_kwh total_load_energy_kwh min_battery_charge_level "
        "max_battery_charge_level reading_count"
    ),
    "telemetry_daily": (
        "id site_id date total_solar_energy_kwh total_grid_energy_kwh total_load_energy_kwh "
        "avg_battery_charge_level min_battery_charge_level max_battery_charge_level avg_battery_temperature "
        "max_battery_temperature avg_solar_efficiency uptime_minutes"
    ),
    "alerts": (
        "id site_id equipment_id severity category code title message context status acknowledged_by "
        "acknowledged_at resolved_at created_at"
    ),
    "events": "id site_id type title description context actor_type actor_id created_at",
    "maintenance_records": (
        "id site_id equipment_id type title work_performed parts_replaced status scheduled_at completed_at"
    ),
    "organization_users": "id organization_id stack_user_id email role permissions site_access status",
}

CLOSED_LISTS = {
    "organization_status_is_known": "active inactive suspended",
    "organization_tier_is_known": "trial basic professional enterprise",
    "site_status_is_known": "active inactive maintenance offline",
    "equipment_type_is_known": "inverter battery solar_panel charge_controller grid_meter",
    "equipment_status_is_known": "operational degraded maintenance failed offline",
    "alert_severity_is_known": "info warning error critical",
    "alert_category_is_known": "battery solar grid inverter system maintenance",
    "alert_status_is_known": "active acknowledged resolved dismissed",
    "event_actor_type_is_known": "user system automation",
    "maintenance_type_is_known": "scheduled preventive corrective emergency",
    "maintenance_status_is_known": "scheduled in_progress completed cancelled",
    "organization_user_role_is_known": "owner admin operator viewer",
    "organization_user_status_is_known": "active inactive suspended",
    "quarantine_reason_is_known": " ".join(Reason),
}

INDEXES = {
    "organizations": ["UNIQUE", "(slug)"],
    "sites": ["(organization_id, status)", "(latitude, longitude)"],
    "equipment": ["(site_id, type)", "(next_maintenance_at)"],
    "alerts": ["(site_id, status, severity)", "(created_at DESC)"],
    "organization_users": ["(organization_id, stack_user_id)"],
    "telemetry_hourly": ['(site_id, "timestamp")'],
    "telemetry_daily": ["(site_id, date)"],
}

RELATIONS = {
    ("sites", "organizations"),
    ("organization_users", "organizations"),
    ("equipment", "sites"),
    ("telemetry_readings", "sites"),
    ("telemetry_hourly", "sites"),
    ("telemetry_daily", "sites"),
    ("alerts", "sites"),
    ("alerts", "equipment"),
    ("events", "sites"),
    ("maintenance_records", "sites"),
    ("maintenance_records", "equipment"),
}


async def test_every_column_of_the_document_is_there(connection: asyncpg.Connection) -> None:
    found: dict[str, set[str]] = {}
    for row in await connection.fetch(SQL["columns"]):
        found.setdefault(row["table_name"], set()).add(row["column_name"])
    for table, columns in DOCUMENT.items():
        assert set(columns.split()) <= found[table], table


async def test_ids_are_given_by_the_database(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(SQL["columns"])
    given = {row["table_name"]: row["has_default"] for row in rows if row["column_name"] == "id"}
    assert given == dict.fromkeys([*DOCUMENT, "quarantine"], True)


async def test_metrics_are_real_and_sums_are_double(connection: asyncpg.Connection) -> None:
    types = {
        (row["table_name"], row["column_name"]): row["data_type"]
        for row in await connection.fetch(SQL["columns"])
    }
    assert {types["telemetry_readings", metric] for metric in METRICS} == {"real"}
    sums = {kind for (table, column), kind in types.items() if column.startswith("total_")}
    assert sums == {"double precision"}
    assert {column for table, column in types if table == "telemetry_readings"} == {"id", *Reading._fields}


@pytest.mark.parametrize("constraint", CLOSED_LISTS)
async def test_closed_list_holds_exactly_the_known_values(
    connection: asyncpg.Connection, constraint: str
) -> None:
    definition = await connection.fetchval(SQL["constraint_definition"], constraint)
    assert sorted(re.findall(r"'([^']*)'::text", definition)) == sorted(CLOSED_LISTS[constraint].split())


@pytest.mark.parametrize("table", INDEXES)
async def test_indexes_of_the_document_are_there(connection: asyncpg.Connection, table: str) -> None:
    indexes = "\n".join(row["indexdef"] for row in await connection.fetch(SQL["indexes"], table))
    for wanted in INDEXES[table]:
        assert wanted in indexes


async def test_readings_have_one_index_and_it_is_unique(connection: asyncpg.Connection) -> None:
    month = f"telemetry_readings_{datetime.now(UTC):%Y%m}"
    for table in ("telemetry_readings", month):
        (index,) = await connection.fetch(SQL["indexes"], table)
        assert "UNIQUE" in index["indexdef"]
        assert '(site_id, "timestamp" DESC)' in index["indexdef"]


async def test_relations_of_the_document_are_there(connection: asyncpg.Connection) -> None:
    assert {tuple(row) for row in await connection.fetch(SQL["foreign_keys"])} == RELATIONS


async def test_new_site_and_organization_have_the_defaults(
    connection: asyncpg.Connection, site: Site
) -> None:
    assert tuple(await connection.fetchrow(SQL["site_defaults"], site.id)) == (
        500.0,
        "active",
        timedelta(minutes=5),
        "UTC",
        None,
    )
    organization = await connection.fetchrow(SQL["organization_defaults"], site.organization_id)
    assert tuple(organization) == ("active", "trial", "{}")


@pytest.mark.parametrize("slug", ["Upper", "two words", "-edge", "edge-", "two--hyphens", ""])
async def test_slug_must_be_plain(connection: asyncpg.Connection, slug: str) -> None:
    add = load_queries("sites", SHARED)["add_organization"]
    with pytest.raises(asyncpg.CheckViolationError, match="organization_slug_is_plain"):
        await connection.execute(add, "Name", slug)


@pytest.mark.parametrize("first", ["active", "acknowledged"])
@pytest.mark.parametrize("with_equipment", [False, True])
async def test_alert_is_open_at_most_once(
    connection: asyncpg.Connection, site: Site, first: str, with_equipment: bool
) -> None:
    equipment = await connection.fetchval(SQL["add_equipment"], site.id) if with_equipment else None
    alert = await connection.fetchval(SQL["open_alert"], site.id, equipment, "BATTERY_LOW", first)
    with pytest.raises(asyncpg.UniqueViolationError, match="alert_is_open_at_most_once"):
        await connection.execute(SQL["open_alert"], site.id, equipment, "BATTERY_LOW", "active")
    await connection.execute(SQL["open_alert"], site.id, equipment, "BATTERY_HOT", "active")
    await connection.execute(SQL["resolve_alert"], alert)
    await connection.execute(SQL["open_alert"], site.id, equipment, "BATTERY_LOW", "active")


async def test_alert_names_equipment_of_its_own_site_only(
    connection: asyncpg.Connection, site: Site, make_site: MakeSite
) -> None:
    elsewhere = await connection.fetchval(SQL["add_equipment"], (await make_site()).id)
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="alert_equipment_stands_at_its_site"):
        await connection.execute(SQL["open_alert"], site.id, elsewhere, "BATTERY_LOW", "active")


async def test_resolved_alert_says_when(connection: asyncpg.Connection, site: Site) -> None:
    alert = await connection.fetchval(SQL["open_alert"], site.id, None, "BATTERY_LOW", "active")
    with pytest.raises(asyncpg.CheckViolationError, match="alert_resolved_says_when"):
        await connection.execute(SQL["resolve_alert_without_time"], alert)


async def test_rollup_rows_start_at_full_hours_and_days(connection: asyncpg.Connection, site: Site) -> None:
    hour = datetime(2026, 3, 1, 14, tzinfo=UTC)
    day = datetime(2026, 3, 1, tzinfo=UTC)
    await connection.execute(SQL["add_hour"], site.id, hour)
    await connection.execute(SQL["add_day"], site.id, day)
    with pytest.raises(asyncpg.CheckViolationError, match="hourly_timestamp_starts_an_hour"):
        await connection.execute(SQL["add_hour"], site.id, hour + timedelta(minutes=5))
    with pytest.raises(asyncpg.CheckViolationError, match="daily_date_is_midnight_utc"):
        await connection.execute(SQL["add_day"], site.id, day + timedelta(hours=1))
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(SQL["add_hour"], site.id, hour)


async def test_last_seen_is_updated_without_touching_an_index(
    connection: asyncpg.Connection, site: Site
) -> None:
    await connection.execute(SQL["add_sites"], site.organization_id, 200)
    await connection.execute(SQL["touch_sites"])
    await connection.execute(SQL["flush_statistics"])
    updates, hot = await connection.fetchrow(SQL["site_updates"])
    assert updates == 201
    assert (
        hot >= 0.3 * updates
    )  # A page has room for nearly half of its rows again, before anything is pruned.
    for _ in range(5):
        await connection.execute(SQL["touch_sites"])
    await connection.execute(SQL["flush_statistics"])
    later_updates, later_hot = await connection.fetchrow(SQL["site_updates"])
    assert later_hot - hot >= 0.6 * (later_updates - updates)


@pytest.mark.parametrize(
    ("sites", "instants", "share_of_nulls"),
    [(1000, 40, 0.0), (1000, 40, 0.05), (1000, 40, 0.4), (20, 2000, 0.0), (20, 2000, 0.4)],
)
async def test_reading_takes_less_than_200_bytes_with_its_index(
    connection: asyncpg.Connection, site: Site, sites: int, instants: int, share_of_nulls: float
) -> None:
    """With 2000 instants the index is as loose as at the end of a month; docs/adr/0002 has more figures."""
    await connection.execute(SQL["add_sites"], site.organization_id, sites - 1)
    start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await connection.execute(SQL["add_readings"], start, instants, share_of_nulls)
    size = await connection.fetchrow(SQL["row_bytes"])
    assert size["rows"] == sites * instants
    assert 100 < size["bytes"] < 200
