"""`bms-ingest simulate`: a simulation with a progress bar, an end in good order and a summary."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bms_ingest.demo.faults import EXPLANATIONS, Fault
from bms_ingest.demo.publisher import Publisher
from bms_ingest.demo.rate import Rate
from bms_ingest.demo.simulation import Simulation

_BAR_SECONDS = 0.25
_LINE_SECONDS = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_simulation(simulation: Simulation, duration: timedelta | None, console: Console) -> int:
    """Publish for a while, or until a signal; a second signal ends it at once.

    Args:
        duration: None goes on until a signal.

    Returns:
        0 when the broker acknowledged everything, 1 when it did not, 130 after a second signal.

    Raises:
        BrokerUnavailable: the first connection failed.
        BrokerRefused: the broker said no.
    """
    publishing = asyncio.create_task(simulation.run(), name="simulation")
    restore = _catch_signals(simulation, publishing)
    cut_short = False
    try:
        await _watch(simulation, publishing, duration, console)
        simulation.stop()
        await publishing
    except asyncio.CancelledError:
        if not publishing.cancelled():
            raise
        cut_short = True
    finally:
        restore()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    console.print(_summary(simulation.publisher))
    if cut_short:
        return 130
    return 1 if simulation.publisher.unacknowledged else 0


def _catch_signals(simulation: Simulation, publishing: asyncio.Task[None]) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def handle() -> None:
        if simulation.stopping:
            publishing.cancel()
        simulation.stop()

    def restore() -> None:
        for sign in _SIGNALS:
            loop.remove_signal_handler(sign)

    for sign in _SIGNALS:
        loop.add_signal_handler(sign, handle)
    return restore


async def _watch(
    simulation: Simulation, publishing: asyncio.Task[None], duration: timedelta | None, console: Console
) -> None:
    """Show the progress until the duration is over or the publishing ends, by a signal or a failure."""
    begun = time.monotonic()
    limit = None if duration is None else duration.total_seconds()
    rate = Rate()
    with ExitStack() as stack:
        progress = None
        if console.is_terminal:
            progress = stack.enter_context(_progress(console))
            task = progress.add_task("", total=limit, facts="connecting")
        while not publishing.done():
            elapsed = time.monotonic() - begun
            facts = _facts(
                simulation, rate.update(time.monotonic(), simulation.publisher.acknowledged.messages)
            )
            if progress is not None:
                progress.update(task, completed=elapsed, facts=facts)
            elif elapsed > _BAR_SECONDS:
                console.print(f"{elapsed:5.0f} s  {facts}", markup=False, highlight=False, soft_wrap=True)
            if limit is not None and elapsed >= limit:
                return
            pause = _BAR_SECONDS if progress is not None or elapsed < _BAR_SECONDS else _LINE_SECONDS
            if limit is not None:
                pause = min(pause, limit - elapsed)
            await asyncio.wait((publishing,), timeout=pause)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=console,
        refresh_per_second=4,
    )


def _facts(simulation: Simulation, per_second: float) -> str:
    publisher = simulation.publisher
    if not publisher.connected:
        return "connecting" if publisher.connections == 0 else "connection lost, trying again"
    faults = publisher.acknowledged.faults.total()
    due = simulation.stream.next_due
    ahead = (due - datetime.now(UTC)).total_seconds()
    when = f"next reading in {ahead:.0f} s" if ahead > 1.0 else f"at {due:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"{publisher.acknowledged.messages:,} acknowledged, {publisher.unacknowledged:,} on their way, "
        f"{per_second:,.0f}/s, {faults:,} faults, {when}"
    )


def _summary(publisher: Publisher) -> RenderableType:
    sent, acknowledged = publisher.sent, publisher.acknowledged
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("messages", justify="right")
    table.add_row("published", f"{sent.messages:,}")
    table.add_row("acknowledged by the broker", f"{acknowledged.messages:,}")
    table.add_row("not acknowledged", f"{publisher.unacknowledged:,}")
    table.add_row("reconnects", f"{max(0, publisher.connections - 1):,}")
    outcome = Table(box=box.SIMPLE_HEAD)
    outcome.add_column("what a daemon that knows the sites makes of it")
    outcome.add_column("readings", justify="right")
    outcome.add_row("stored", f"{acknowledged.stored:,}")
    outcome.add_row("duplicate", f"{acknowledged.duplicate:,}")
    for reason, count in sorted(acknowledged.rejected.items()):
        outcome.add_row(f"quarantined as {reason}", f"{count:,}")
    if not acknowledged.faults:
        return Group(table, outcome)
    faults = Table(box=box.SIMPLE_HEAD)
    faults.add_column("fault")
    faults.add_column("messages", justify="right")
    faults.add_column("what it is")
    for fault in Fault:
        faults.add_row(fault.value, f"{acknowledged.faults[fault]:,}", EXPLANATIONS[fault])
    return Group(table, outcome, faults)
