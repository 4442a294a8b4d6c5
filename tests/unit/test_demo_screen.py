"""The demo's ledger reader and what it shows."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import generate_latest
from rich.console import Console, RenderableType

from bms_ingest.demo.database import Newest, Presence, Quarantined
from bms_ingest.demo.ledger import Ledger, parse_ledger
from bms_ingest.demo.rate import Rate
from bms_ingest.demo.screen import Snapshot, live_page, plain_line, summary, verdict
from bms_ingest.demo.tally import Tally
from bms_ingest.demo.verdict import Evidence
from bms_ingest.metrics import Metrics
from bms_ingest.models import Reason

LEDGER = Ledger(received=1_234, stored=1_200, duplicate=4, quarantined={"not_json": 20}, pending=10)
SNAPSHOT = Snapshot(
    elapsed_seconds=12.0,
    duration_seconds=30.0,
    simulated_time=datetime.now(UTC) - timedelta(days=2),
    published=1_100,
    acknowledged=1_090,
    messages_per_second=1_500.4,
    readings_per_second=1_499.6,
    ledger=LEDGER,
    presence=Presence(50, 49, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    newest=[Newest("Lagos 1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 81.25, -2.5, None, 0.0, 0.0, 1.5)],
    quarantine=[Quarantined("not_json", 20, "This is not \x1b[31mJSON.", "bms/sites/1/telemetry")],
)


def rendered(renderable: RenderableType) -> str:
    """The text of something as a wide console shows it."""
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_ledger_is_read_from_the_daemons_own_metrics() -> None:
    metrics = Metrics()
    metrics.readings_received.inc(60)
    metrics.readings_stored.inc(50)
    metrics.readings_duplicate.inc(3)
    metrics.readings_quarantined.labels(Reason.NOT_JSON).inc(4)
    metrics.readings_quarantined.labels(Reason.CONFLICT).inc(1)
    metrics.readings_pending.set(2)
    metrics.mqtt_reconnects.inc(7)
    for lag_seconds in (0.003, 0.004, 0.02, 0.4):
        metrics.commit_lag_seconds.observe(lag_seconds)
    ledger = parse_ledger(generate_latest(metrics.registry).decode())
    assert (ledger.received, ledger.stored, ledger.duplicate, ledger.pending) == (60, 50, 3, 2)
    assert ledger.quarantined == {"not_json": 4, "conflict": 1}
    assert ledger.settled == 58
    assert ledger.balanced
    assert ledger.reconnects == 7
    assert ledger.lag_below_seconds(0.5) == 0.005
    assert ledger.lag_below_seconds(0.75) == 0.025
    assert ledger.lag_below_seconds(0.99) == 0.5


def test_ledger_without_batches_has_no_lag() -> None:
    ledger = parse_ledger(generate_latest(Metrics().registry).decode())
    assert ledger.lag_below_seconds(0.99) is None
    assert ledger == replace(Ledger(), commit_lags=ledger.commit_lags)


def test_missing_reading_shows() -> None:
    assert not replace(LEDGER, received=1_235).balanced
    assert "≠" in plain_line(replace(SNAPSHOT, ledger=replace(LEDGER, received=1_235)))


def test_plain_line_holds_rates_ledger_and_sites() -> None:
    line = plain_line(SNAPSHOT)
    assert "1,500 messages/s  1,500 readings/s" in line
    assert "received 1,234 = stored 1,200 + duplicate 4 + quarantined 20 + pending 10" in line
    assert "sites online 49/50" in line
    assert "\n" not in line


def test_page_shows_readings_quarantine_and_where_time_stands() -> None:
    page = rendered(live_page(SNAPSHOT))
    assert "12 of 30 s" in page
    assert "history, at" in page
    assert "live" in rendered(live_page(replace(SNAPSHOT, simulated_time=datetime.now(UTC))))
    for words in ("Lagos 1", "81.2", "failed", "not_json", "bms/sites/1/telemetry", "49 of 50 online"):
        assert words in page


def test_page_obeys_nothing_that_a_gateway_sent() -> None:
    assert "\x1b[31m" not in rendered(live_page(SNAPSHOT))


def test_summary_sets_published_against_found() -> None:
    published = Tally(messages=9, stored=7, duplicate=1, rejected=Counter({Reason.NOT_JSON: 3}))
    evidence = Evidence(published, published, LEDGER, rows=1_200, quarantine={"not_json": 20})
    text = rendered(summary(evidence))
    assert [line.split() for line in text.splitlines() if "not_json" in line] == [["not_json", "3", "20"]]
    assert [line.split() for line in text.splitlines() if "stored" in line] == [
        ["stored", "7", "1,200", "1,200"]
    ]
    assert "9 messages published" in text


def test_verdict_is_one_word_or_a_list() -> None:
    evidence = Evidence(Tally(), Tally(), LEDGER, rows=0, quarantine={})
    assert [line.plain.split(":")[0] for line in verdict(evidence, [])] == ["balanced"]
    assert [line.plain for line in verdict(evidence, ["rows are missing"])] == [
        "not balanced:",
        "  - rows are missing",
    ]


def test_rate_looks_at_the_last_seconds_only() -> None:
    rate = Rate(window_seconds=3.0)
    assert rate.update(0.0, 0) == 0.0
    assert rate.update(1.0, 100) == pytest.approx(100.0)
    for second in range(2, 20):
        last = rate.update(float(second), 100 + 10 * (second - 1))
    assert last == pytest.approx(10.0)
