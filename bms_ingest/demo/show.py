"""One demo from an empty directory to the verdict: starts everything, shows it, counts it, clears it away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import asyncpg
from rich.console import Console
from rich.live import Live

from bms_ingest.demo.database import DemoDatabase
from bms_ingest.demo.embedded import BrokerKind
from bms_ingest.demo.faults import FaultPlan
from bms_ingest.demo.fleet import Site, make_fleet
from bms_ingest.demo.ledger import Ledger, fetch_ledger, fetch_readiness
from bms_ingest.demo.rate import Rate
from bms_ingest.demo.screen import Snapshot, live_page, plain_line, summary, verdict
from bms_ingest.demo.simulation import Plan, Simulation
from bms_ingest.demo.stage import Stage, StageError, make_state_directory
from bms_ingest.demo.stream import INTERVAL
from bms_ingest.demo.target import target_from_url
from bms_ingest.demo.verdict import Evidence, contradictions
from bms_ingest.errors import BmsIngestError

READY_SECONDS = 45.0
SETTLE_SECONDS = 45.0
_HISTORY_SHARE = 0.6
"""Share of the duration that is spent on history; the rest shows live readings."""
_READINGS_PER_SECOND = 1500.0
"""Pace of the history: lively on two cores that broker, database, daemon and simulator share."""
_LONGEST_HISTORY = timedelta(days=3)
_PAGE_SECONDS = 0.5
_LINE_SECONDS = 2.0
_MOST_NEWEST_ROWS = 8
_OTHER_ROWS = 25
"""Height of the page without the newest readings."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """What the operator chose."""

    duration: timedelta = timedelta(seconds=30)
    sites: int = 50
    broker: BrokerKind | None = None
    """None: mosquitto where it is installed."""
    fault_rate: float = 0.02
    seed: int = 1
    keep: bool = False
    """Leave the state directory."""


def plan_for(options: Options) -> Plan:
    """Choose how much history fits the duration, and how fast it plays.

    With the defaults some two days of fifty sites pass in 18 s, then every site reports every two seconds.
    """
    seconds = _HISTORY_SHARE * options.duration.total_seconds()
    intervals = seconds * _READINGS_PER_SECOND / options.sites
    history = min(_LONGEST_HISTORY, max(timedelta(hours=1), intervals * INTERVAL))
    return Plan(
        history=history,
        speed_up=max(1.0, history.total_seconds() / seconds),
        live_interval=timedelta(seconds=max(2.0, options.sites / 100.0)),
        faults=FaultPlan.even(options.fault_rate),
        seed=options.seed,
    )


async def run_demo(options: Options, console: Console) -> int:
    """Run one demo; the first signal ends it early in good order, the second at once.

    Returns:
        0 when the books balance, 1 when they do not or something died, 130 after a second signal.
    """
    try:
        stage = Stage(make_state_directory(), options.broker)
    except BmsIngestError as error:
        console.print(f"demo failed: {error}", style="bold red", markup=False)
        return 1
    demo = _Demo(options, console, stage)
    restore = demo.catch_signals()
    at_once = True
    try:
        code = await demo.run()
        at_once = False
        return code
    except asyncio.CancelledError:
        if not demo.cut_short:
            raise
        console.print("ended at once", style="bold red")
        return 130
    except (BmsIngestError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _report(console, _find_cause(stage, error))
        return 1
    finally:
        # Blocks the loop on purpose: no signal may come between a process and its end.
        stage.close(at_once=at_once)
        if options.keep:
            console.print(f"state directory kept: {stage.directory}", markup=False, soft_wrap=True)
        else:
            stage.remove()
        restore()


def _find_cause(stage: Stage, error: Exception) -> Exception:
    """A lost connection is the symptom when a process has died."""
    try:
        stage.check()
    except StageError as cause:
        return cause
    return error


def _report(console: Console, error: Exception) -> None:
    console.print(f"demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
    if isinstance(error, StageError) and error.log_tail:
        console.print(
            "the end of its log:", error.log_tail, sep="\n", markup=False, highlight=False, soft_wrap=True
        )


class _Demo:
    def __init__(self, options: Options, console: Console, stage: Stage) -> None:
        self.cut_short = False
        self._options = options
        self._console = console
        self._stage = stage
        self._stop = asyncio.Event()
        self._rates = (Rate(), Rate())

    def catch_signals(self) -> Callable[[], None]:
        """Install the handlers; the function returned removes them."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def handle() -> None:
            if not self._stop.is_set():
                self._console.print("stopping; once more ends it at once")
                self._stop.set()
            elif task is not None and not self.cut_short:
                self.cut_short = True
                task.cancel()

        def restore() -> None:
            for sign in _SIGNALS:
                loop.remove_signal_handler(sign)

        for sign in _SIGNALS:
            loop.add_signal_handler(sign, handle)
        return restore

    async def run(self) -> int:
        """Go through the whole demo and return its exit code."""
        stage, say = self._stage, self._console.print
        steps: list[tuple[str, Callable[[], None]]] = [
            ("starting PostgreSQL", stage.start_postgres),
            ("starting the broker", stage.start_broker),
            ("migrating the database", stage.migrate),
        ]
        for text, step in steps:
            say(text, highlight=False)
            await self._in_thread(step)
            if self._stop.is_set():
                return self._never_began()
        database = await DemoDatabase.open(stage.dsn)
        try:
            sites = await database.add_sites(
                make_fleet(range(1, self._options.sites + 1), seed=self._options.seed)
            )
            say(f"starting the daemon on {stage.broker_kind} and {len(sites)} sites", highlight=False)
            stage.start_daemon()
            if not await self._daemon_is_ready():
                return self._never_began()
            self._say_how_to_look_closer()
            return await self._perform(database, sites)
        finally:
            await database.close()

    async def _in_thread(self, step: Callable[[], None]) -> None:
        work = asyncio.ensure_future(asyncio.to_thread(step))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            # The step fails as soon as the process it waits for is gone; nothing may start behind our back.
            self._stage.close(at_once=True)
            await asyncio.gather(work, return_exceptions=True)
            raise

    def _never_began(self) -> int:
        self._console.print("stopped before anything was published")
        return 0

    async def _daemon_is_ready(self) -> bool:
        """Wait until /readyz says yes; False when asked to stop before.

        Raises:
            StageError: it died or took longer than 45 s.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self._stop.is_set():
            self._stage.check()
            ready, answer = await fetch_readiness(self._stage.http_port)
            if ready:
                return True
            if time.monotonic() > deadline:
                raise StageError(f"the daemon was not ready after {READY_SECONDS:.0f} s: {answer}")
            await self._pause(0.1)
        return False

    def _say_how_to_look_closer(self) -> None:
        self._console.print("\nlook closer while it runs:", highlight=False)
        for what, command in self._stage.closer_looks():
            self._console.print(f"  {what + ':':<14}{command}", markup=False, highlight=False, soft_wrap=True)
        self._console.print()

    async def _perform(self, database: DemoDatabase, sites: list[Site]) -> int:
        simulation = Simulation(sites, target_from_url(self._stage.broker_url), plan_for(self._options))
        publishing = asyncio.create_task(simulation.run(), name="simulation")
        try:
            await self._show(database, simulation, publishing)
            simulation.stop()
            await publishing
            ledger = await self._settled(simulation)
            quarantine = {entry.reason: entry.occurrences for entry in await database.quarantine()}
            evidence = Evidence(
                sent=simulation.publisher.sent,
                acknowledged=simulation.publisher.acknowledged,
                ledger=ledger,
                rows=await database.count_readings(),
                quarantine=quarantine,
            )
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        await self._in_thread(self._stage.stop_daemon)
        problems = contradictions(evidence)
        self._console.print(summary(evidence))
        for line in verdict(evidence, problems):
            self._console.print(line, soft_wrap=True)
        return 1 if problems else 0

    async def _show(
        self, database: DemoDatabase, simulation: Simulation, publishing: asyncio.Task[None]
    ) -> None:
        begun = time.monotonic()
        limit = self._options.duration.total_seconds()
        terminal = self._console.is_terminal
        pause = _PAGE_SECONDS if terminal else _LINE_SECONDS
        with ExitStack() as stack:
            live = stack.enter_context(Live(console=self._console, auto_refresh=False)) if terminal else None
            while not self._stop.is_set():
                elapsed = time.monotonic() - begun
                if elapsed >= limit:
                    return
                self._stage.check()
                if publishing.done():
                    await publishing
                    return
                snapshot = await self._snapshot(database, simulation, elapsed)
                if live is not None:
                    live.update(live_page(snapshot), refresh=True)
                else:
                    self._console.print(plain_line(snapshot), markup=False, highlight=False, soft_wrap=True)
                await self._pause(min(pause, max(0.01, begun + limit - time.monotonic())))

    async def _snapshot(self, database: DemoDatabase, simulation: Simulation, elapsed: float) -> Snapshot:
        ledger = await self._ledger()
        publisher, now = simulation.publisher, time.monotonic()
        return Snapshot(
            elapsed_seconds=elapsed,
            duration_seconds=self._options.duration.total_seconds(),
            simulated_time=simulation.stream.next_due,
            published=publisher.sent.messages,
            acknowledged=publisher.acknowledged.messages,
            messages_per_second=self._rates[0].update(now, publisher.acknowledged.messages),
            readings_per_second=self._rates[1].update(now, ledger.settled),
            ledger=ledger,
            presence=await database.presence(),
            newest=await database.newest(self._newest_rows()),
            quarantine=await database.quarantine(),
        )

    def _newest_rows(self) -> int:
        return max(3, min(_MOST_NEWEST_ROWS, self._console.height - _OTHER_ROWS))

    async def _settled(self, simulation: Simulation) -> Ledger:
        """Wait until the daemon has settled everything the broker acknowledged, and return its ledger.

        After 45 s it is returned as it is: the verdict then says what is missing.
        """
        wanted = simulation.publisher.acknowledged.entries
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            ledger = await self._ledger()
            if (ledger.received >= wanted and not ledger.pending) or time.monotonic() > deadline:
                return ledger
            await asyncio.sleep(0.1)

    async def _ledger(self) -> Ledger:
        """Ask the daemon, which must be alive.

        Raises:
            StageError: it died, or does not answer.
        """
        for _ in range(3):
            self._stage.check()
            ledger = await fetch_ledger(self._stage.http_port)
            if ledger is not None:
                return ledger
        return self._no_answer()

    def _no_answer(self) -> NoReturn:
        raise StageError("the daemon does not answer on /metrics", "")

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass
