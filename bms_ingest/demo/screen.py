"""What the demo shows while it runs and at its end: a live page on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bms_ingest.demo.database import Newest, Presence, Quarantined
from bms_ingest.demo.ledger import Ledger
from bms_ingest.demo.verdict import Evidence


@dataclass(frozen=True)
class Snapshot:
    """Everything there is to show at one moment."""

    elapsed_seconds: float
    duration_seconds: float
    simulated_time: datetime
    published: int
    """Messages handed to the broker."""
    acknowledged: int
    messages_per_second: float
    readings_per_second: float
    ledger: Ledger
    presence: Presence
    newest: Sequence[Newest] = ()
    quarantine: Sequence[Quarantined] = ()


def plain_line(now: Snapshot) -> str:
    """Return one line for logs and pipes."""
    ledger = now.ledger
    return (
        f"{now.elapsed_seconds:5.1f} s  {now.messages_per_second:,.0f} messages/s  "
        f"{now.readings_per_second:,.0f} readings/s  {_equation(ledger)}  "
        f"sites online {now.presence.online}/{now.presence.sites}  {_simulated(now)}"
    )


def live_page(now: Snapshot) -> RenderableType:
    """Return the page for a terminal."""
    return Group(_head(now), _newest_table(now.newest), _quarantine_table(now.quarantine))


def summary(evidence: Evidence) -> RenderableType:
    """Return the final account: published, ledger, tables, and faults against quarantine."""
    return Group(Text(), _account_table(evidence), Text(), _faults_table(evidence))


def verdict(evidence: Evidence, problems: Sequence[str]) -> list[Text]:
    """Return the last lines: "balanced", or what did not add up."""
    if not problems:
        return [Text(f"balanced: {_equation(evidence.ledger)}", style="bold green")]
    return [Text("not balanced:", style="bold red"), *(Text(f"  - {problem}") for problem in problems)]


def _equation(ledger: Ledger) -> str:
    sign = "=" if ledger.balanced else "≠"
    return (
        f"received {ledger.received:,} {sign} stored {ledger.stored:,} + duplicate {ledger.duplicate:,} "
        f"+ quarantined {sum(ledger.quarantined.values()):,} + pending {ledger.pending:,}"
    )


def _simulated(now: Snapshot) -> str:
    behind = (datetime.now(UTC) - now.simulated_time).total_seconds()
    moment = now.simulated_time.strftime("%d %b %H:%M")
    return "live" if behind < 60.0 else f"history, at {moment} UTC"


def _head(now: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    lag = now.ledger.lag_below_seconds(0.99)
    table.add_row("time", f"{now.elapsed_seconds:.0f} of {now.duration_seconds:.0f} s · {_simulated(now)}")
    table.add_row(
        "messages", f"{now.published:,} published · {now.acknowledged:,} acknowledged by the broker"
    )
    table.add_row(
        "rates",
        f"{now.messages_per_second:,.0f} messages/s published · "
        f"{now.readings_per_second:,.0f} readings/s settled",
    )
    table.add_row("ledger", Text(_equation(now.ledger), style="green" if now.ledger.balanced else "bold red"))
    if lag is not None:
        table.add_row("commit lag", f"99 % of the batches below {lag * 1000:,.0f} ms")
    seen = now.presence.last_seen_at
    seen_text = "never" if seen is None else seen.strftime("%d %b %H:%M:%S UTC")
    table.add_row("sites", f"{now.presence.online} of {now.presence.sites} online · last seen {seen_text}")
    return table


def _newest_table(rows: Sequence[Newest]) -> Table:
    table = Table(title="Newest readings", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("site")
    table.add_column("time (UTC)")
    for heading in ("charge %", "battery kW", "solar kW", "grid kW", "load kW"):
        table.add_column(heading, justify="right")
    for row in rows:
        failed = row.grid_voltage == 0
        table.add_row(
            row.name,
            row.timestamp.strftime("%d %b %H:%M:%S"),
            _number(row.battery_charge_level, 1),
            _number(row.battery_power_kw, 2),
            _number(row.solar_power_kw, 2),
            Text("failed", style="red") if failed else _number(row.grid_power_kw, 2),
            _number(row.load_power_kw, 2),
        )
    return table


def _quarantine_table(rows: Sequence[Quarantined]) -> Table:
    table = Table(title="Quarantine", title_justify="left", box=box.SIMPLE_HEAD, expand=True)
    table.add_column("reason", no_wrap=True, min_width=15)
    table.add_column("count", justify="right", no_wrap=True, min_width=5)
    table.add_column("newest", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(row.reason, f"{row.occurrences:,}", Text(_printable(f"{row.topic}: {row.detail}")))
    return table


def _account_table(evidence: Evidence) -> Table:
    acknowledged, ledger = evidence.acknowledged, evidence.ledger
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "published", "daemon's ledger", "in the tables"):
        table.add_column(heading, justify="left" if not heading else "right")
    quarantined = sum(ledger.quarantined.values())
    rejected, kept = acknowledged.rejected.total(), sum(evidence.quarantine.values())
    table.add_row("received", f"{acknowledged.entries:,}", f"{ledger.received:,}", "")
    table.add_row("stored", f"{acknowledged.stored:,}", f"{ledger.stored:,}", f"{evidence.rows:,}")
    table.add_row("duplicate", f"{acknowledged.duplicate:,}", f"{ledger.duplicate:,}", "")
    table.add_row("quarantined", f"{rejected:,}", f"{quarantined:,}", f"{kept:,}")
    table.add_row("pending", "", f"{ledger.pending:,}", "")
    table.caption = (
        f"{evidence.sent.messages:,} messages published, {acknowledged.messages:,} acknowledged by the broker"
    )
    return table


def _faults_table(evidence: Evidence) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("injected faults, by reason")
    table.add_column("published", justify="right")
    table.add_column("in quarantine", justify="right")
    rejected = {reason.value: count for reason, count in evidence.acknowledged.rejected.items()}
    for reason in sorted({*rejected, *evidence.quarantine}):
        table.add_row(reason, f"{rejected.get(reason, 0):,}", f"{evidence.quarantine.get(reason, 0):,}")
    return table


def _printable(text: str) -> str:
    """Escape what a terminal might obey: the text may quote what a gateway sent."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
