"""`bms-ingest doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

import typer
from rich.text import Text

from bms_ingest.cli.invocation import JsonOption, opened_database, settings_of, work
from bms_ingest.cli.output import console, print_json, visible
from bms_ingest.db.migrations import Migrator
from bms_ingest.doctor.broker import WINDOW_MESSAGES, BrokerExamination
from bms_ingest.doctor.configuration import ConfigurationExamination
from bms_ingest.doctor.daemon import DaemonExamination
from bms_ingest.doctor.database import DatabaseExamination
from bms_ingest.doctor.examination import Examination, examine
from bms_ingest.doctor.result import Result, Status
from bms_ingest.maintenance.partitions import Partitions
from bms_ingest.mqtt.probe import BrokerProbe
from bms_ingest.mqtt.topics import TopicTemplate
from bms_ingest.settings import Settings, shown

CONNECT_TIMEOUT = timedelta(seconds=3)
COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red", Status.SKIP: "dim"}


def doctor(context: typer.Context, as_json: JsonOption = False) -> None:
    """Look for what goes wrong in practice, in five seconds, and say what to do about it.

    Database: reachable, migrated, privileges, partitions ahead, clock. Broker: reachable, protocol, granted
    QoS, session kept, Receive Maximum honoured, publishers at QoS 0. Daemon: ready, no second client with
    its id. It is safe beside a running daemon: it connects with client ids of its own (CLIENT_ID-doctor...),
    listens for a second, and sends a few messages to a topic of its own.

    The exit code is 1 when a check fails; a warning does not count.

    \b
    Examples:
      bms-ingest doctor
      bms-ingest doctor --json | jq '.[] | select(.status != "ok")'
    """
    failed = work(_doctor(settings_of(context), as_json))
    raise typer.Exit(1 if failed else 0)


async def _doctor(settings: Settings, as_json: bool) -> bool:
    # What is wrong becomes a line of ours; the same in the log would only hide it.
    logging.getLogger().setLevel(logging.CRITICAL)
    hurried = settings.database.model_copy(
        update={"connect_timeout": CONNECT_TIMEOUT, "statement_timeout": CONNECT_TIMEOUT}
    )
    async with opened_database(settings.model_copy(update={"database": hurried})) as database:
        partitions = Partitions(database, settings.partitions, settings.retention.raw)
        results = await examine(
            [
                ConfigurationExamination(shown(settings)),
                DatabaseExamination(
                    database, Migrator(database), partitions, share_group=settings.mqtt.share_group
                ),
                _broker(settings),
                DaemonExamination(settings.http.host, settings.http.port),
            ]
        )
        # Here, because a resolver that hangs in a thread may hold up the end of the process.
        _print(results, as_json)
    return any(result.status is Status.FAIL for result in results)


def _broker(settings: Settings) -> Examination:
    mqtt = settings.mqtt
    first_level = mqtt.telemetry_topic.partition("/")[0]
    return BrokerExamination(
        BrokerProbe(mqtt, receive_maximum=WINDOW_MESSAGES, connect_timeout=CONNECT_TIMEOUT),
        telemetry_filter=TopicTemplate(mqtt.telemetry_topic).filter(),
        # Not the daemon's own group: what a member is dealt and does not store would be lost.
        share_group=f"{mqtt.share_group}-doctor" if mqtt.share_group else None,
        private_topic=f"{'bms' if '{' in first_level else first_level}/doctor",
        batch_rows=settings.batch.max_rows,
        receive_maximum=mqtt.receive_maximum,
        configured_protocol=mqtt.protocol,
    )


def _print(results: Sequence[Result], as_json: bool) -> None:
    if as_json:
        print_json([asdict(result) for result in results])
        return
    out = console()
    width = max(len(result.check) for result in results)
    for result in results:
        line = Text()
        line.append(f"{result.status:<4}", style=COLOURS[result.status])
        line.append(f"  {result.check:<{width}}  {visible(result.found)}")
        out.print(line, soft_wrap=True)
        if result.advice:
            out.print(Text(f"      {'':<{width}}  -> {visible(result.advice)}"), soft_wrap=True)
    counts = {status: sum(result.status is status for result in results) for status in Status}
    warnings = "1 warning" if counts[Status.WARN] == 1 else f"{counts[Status.WARN]} warnings"
    out.print(f"{counts[Status.OK]} ok, {warnings}, {counts[Status.FAIL]} failed")
