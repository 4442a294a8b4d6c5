"""Somebody's open transaction on one site holds everything up: the daemon says so, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg

from bms_ingest.demo.embedded import EmbeddedBroker
from tests.fixtures.brokers import Publisher
from tests.fixtures.daemon import DaemonProcess, eventually
from tests.fixtures.postgres import Site


async def test_locked_site_is_named_and_its_reading_is_acknowledged_afterwards(
    database_dsn: str,
    connection: asyncpg.Connection,
    site: Site,
    broker: EmbeddedBroker,
    make_daemon: Callable[..., DaemonProcess],
) -> None:
    daemon = make_daemon(DATABASE__DSN=database_dsn, DATABASE__LOCK_TIMEOUT="200ms", MQTT__URL=broker.url)
    daemon.start()
    await daemon.ready()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("UPDATE sites SET name = name WHERE id = $1", site.id)
    async with Publisher(broker.url) as publisher:
        payload = f'{{"timestamp": "{datetime.now(UTC).isoformat()}", "gridVoltage": 230}}'
        await publisher.publish(f"bms/sites/{site.id}/telemetry", payload)
    await eventually(
        lambda: "presence cannot record" in daemon.http("/readyz")[1], why="/readyz does not say so"
    )
    assert daemon.samples()["bms_ingest_messages_acknowledged_total"] == 0
    await transaction.rollback()
    await daemon.ready()
    await eventually(lambda: daemon.samples()["bms_ingest_messages_acknowledged_total"] == 1)
    assert await connection.fetchval("SELECT last_seen_at FROM sites WHERE id = $1", site.id) is not None
