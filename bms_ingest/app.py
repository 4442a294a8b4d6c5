"""The daemon: builds the stages, wires them, runs them until a signal, drains them; knows every room."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from bms_ingest.alerting.presence import Presence
from bms_ingest.db.migrations import Migrator
from bms_ingest.db.pool import Database
from bms_ingest.db.sqlstate import store_errors
from bms_ingest.ingest.acks import Acknowledger
from bms_ingest.ingest.batcher import Batcher
from bms_ingest.ingest.committer import Committer
from bms_ingest.ingest.decoder import Decoder
from bms_ingest.ingest.intake import Intake
from bms_ingest.ingest.subscriber import Subscriber
from bms_ingest.ingest.writer import Writer
from bms_ingest.log import get_logger
from bms_ingest.maintenance.gauges import Gauges
from bms_ingest.maintenance.partitions import Partitions
from bms_ingest.metrics import Metrics
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.mqtt.topics import TopicTemplate
from bms_ingest.readiness import readiness_checks
from bms_ingest.settings import Settings
from bms_ingest.supervisor import Supervisor
from bms_ingest.web.server import HttpServer

log = get_logger(__name__)

GAUGE_INTERVAL = timedelta(seconds=15)


class Daemon:
    """Every stage of one process, made from settings; `run` is its whole life."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.supervisor = Supervisor(self.metrics)
        # The writer's connection is its own, so that no health check ever waits for a batch or the reverse.
        self._write_database = Database(
            settings.database, application_name="bms-ingest writer", size=1, on_connect=Writer.prepare
        )
        self._database = Database(settings.database, application_name="bms-ingest", size=4)
        self._partitions = Partitions(self._database, settings.partitions, settings.retention.raw)
        topics = TopicTemplate(settings.mqtt.telemetry_topic)
        self.batcher = Batcher(settings.batch)
        self._acknowledger = Acknowledger(self.metrics)
        self._writer = Writer(
            self._write_database,
            self._partitions,
            store_errors,
            self.metrics,
            write_timeout_seconds=settings.database.write_timeout.total_seconds(),
        )
        self._committer = Committer(
            self.batcher, self._writer, [Presence(self._database)], self._acknowledger, self.metrics
        )
        decoder = Decoder(
            topics.site_id,
            settings.limits,
            settings.retention.raw,
            settings.max_clock_ahead,
            settings.mqtt.max_payload_bytes,
        )
        self._subscriber = Subscriber(
            MqttBroker(settings.mqtt),
            topics.filter(settings.mqtt.share_group),
            Intake(decoder, self.batcher, self.metrics),
            self._acknowledger,
            self.metrics,
        )
        self._gauges = Gauges(self._database, self._partitions, self.metrics)
        checks = readiness_checks(
            Migrator(self._database),
            self._database,
            self._subscriber,
            self._writer,
            self._committer,
            self._partitions,
        )
        self.http = HttpServer(settings.http, self.metrics.registry, checks, self.supervisor.trouble)

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, work until `stop`, drain within the deadline, close.

        Raises:
            BmsIngestError: the HTTP port cannot be bound.
        """
        async with AsyncExitStack() as stack:
            for database in (self._database, self._write_database):
                await database.open()
                stack.push_async_callback(database.close)
            await self.http.start()
            stack.push_async_callback(self.http.stop)
            stack.push_async_callback(self.supervisor.cancel)
            self.supervisor.start("committer", self._committer.run)
            self.supervisor.start("subscriber", self._subscriber.run)
            stack.push_async_callback(self._subscriber.close)
            self.supervisor.repeat(
                "partitions", self.settings.partitions.check_interval, self._keep_partitions
            )
            self.supervisor.repeat("gauges", GAUGE_INTERVAL, self._gauges.run_once)
            log.info("started", http_port=self.http.port, client_id=self.settings.mqtt.client_id)
            await stop.wait()
            await self._drain()
        log.info("stopped")

    async def _keep_partitions(self) -> None:
        await self._partitions.run_once(datetime.now(UTC))

    async def _drain(self) -> None:
        """Store and acknowledge what was received; what does not make it stays with the broker."""
        log.info("draining", pending_rows=self.batcher.pending_rows + self._committer.pending_rows)
        try:
            async with asyncio.timeout(self.settings.shutdown.drain_timeout.total_seconds()):
                self._subscriber.stop()
                await self.supervisor.finished("subscriber")
                self.batcher.drain()
                await self.supervisor.finished("committer")
        except TimeoutError:
            left = self.batcher.pending_rows + self._committer.pending_rows
            log.warning("drain_deadline_passed", pending_rows=left, hint="not lost: the broker keeps them")


async def run(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT; a second one ends the process at once.

    Returns:
        The exit code: 0 after an orderly stop.

    Raises:
        BmsIngestError: it could not start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop(received: signal.Signals) -> None:
        log.info("stop_requested", signal=received.name, hint="a second signal stops at once")
        # The default action ends the process even when the loop is stuck.
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        stop.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, ask_to_stop, each)
    await Daemon(settings).run(stop)
    return 0
