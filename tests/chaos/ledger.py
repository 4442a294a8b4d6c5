"""Publishers that remember what the broker acknowledged, and the verdict on what became of it.

After Jepsen's set checker: lost is what was acknowledged and is not found; unexpected is what is found
and was never attempted, or with another value; twice is what is found more than once.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiomqtt
import asyncpg

from bms_ingest.demo.embedded import EmbeddedBroker

Key = tuple[int, datetime]
"""Site and timestamp: a reading's identity."""


@dataclass(frozen=True)
class Verdict:
    """What the tables say about what was published."""

    acknowledged: int
    rows: int
    lost: set[Key]
    unexpected: set[Key]
    twice: set[Key]
    quarantined: int

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.unexpected or self.twice or self.quarantined)


@dataclass
class Publishers:
    """Publishes one reading a message at QoS 1 for several sites, at a steady rate."""

    sites: list[int]
    attempted: dict[Key, float] = field(default_factory=dict)
    acknowledged: set[Key] = field(default_factory=set)
    _start: datetime = field(
        default_factory=lambda: datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    )

    async def run(self, broker: EmbeddedBroker, messages_per_second: int, stop: asyncio.Event) -> None:
        """Publish until `stop`, then wait for the acknowledgements that are still due."""
        tick_seconds = 0.02
        a_tick = round(messages_per_second * tick_seconds)
        async with (
            aiomqtt.Client("127.0.0.1", broker.port, max_inflight_messages=20_000, timeout=60) as client,
            asyncio.TaskGroup() as group,
        ):
            client.pending_calls_threshold = 1_000_000
            loop = asyncio.get_running_loop()
            due = loop.time()
            while not stop.is_set():
                for _ in range(a_tick):
                    key = self._next()
                    group.create_task(self._publish(client, key))
                due += tick_seconds
                await asyncio.sleep(max(0.0, due - loop.time()))

    def _next(self) -> Key:
        number = len(self.attempted)
        key = (
            self.sites[number % len(self.sites)],
            self._start + timedelta(seconds=number // len(self.sites)),
        )
        self.attempted[key] = float(number % 1_000) / 2  # exact in a real
        return key

    async def _publish(self, client: aiomqtt.Client, key: Key) -> None:
        site, timestamp = key
        payload = json.dumps({"timestamp": timestamp.isoformat(), "batteryVoltage": self.attempted[key]})
        await client.publish(f"bms/sites/{site}/telemetry", payload, qos=1)
        self.acknowledged.add(key)

    async def found(self, connection: asyncpg.Connection) -> int:
        """How many readings are rows."""
        return int(await connection.fetchval("SELECT count(*) FROM telemetry_readings"))

    async def judge(self, connection: asyncpg.Connection) -> Verdict:
        """Compare with the tables."""
        rows = await connection.fetch('SELECT site_id, "timestamp", battery_voltage FROM telemetry_readings')
        found: dict[Key, float] = {}
        twice = set()
        for row in rows:
            key = (row["site_id"], row["timestamp"])
            if key in found:
                twice.add(key)
            found[key] = row["battery_voltage"]
        return Verdict(
            acknowledged=len(self.acknowledged),
            rows=len(rows),
            lost=self.acknowledged - found.keys(),
            unexpected={key for key, value in found.items() if self.attempted.get(key) != value},
            twice=twice,
            quarantined=await connection.fetchval("SELECT count(*) FROM quarantine"),
        )
