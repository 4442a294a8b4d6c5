"""The page for builders of gateways says what the decoder does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bms_ingest.ingest.decoder import MOST_READINGS, camel_case
from bms_ingest.models import METRICS, Reason
from tests.unit.decoding import TOPIC, decode

PAGE = (Path(__file__).parents[2] / "docs" / "mqtt-contract.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"
]
REASONS = {row[0].strip("`"): row for row in ROWS if len(row) == 3 and row[0].strip("`") in set(Reason)}


def test_page_explains_every_reason_and_every_metric() -> None:
    assert set(REASONS) == set(Reason)
    metrics = [(row[0].strip("`"), row[1].strip("`")) for row in ROWS if row[1].strip("`") in METRICS]
    assert metrics == [(camel_case(name), name) for name in METRICS]
    assert f"{MOST_READINGS:,} readings an array" in PAGE


@pytest.mark.parametrize("payload", re.findall(r"```json\n(.*?)\n```", PAGE))
def test_examples_of_the_page_are_decoded(payload: str) -> None:
    decoded = decode(payload)

    assert decoded.readings
    assert not decoded.rejections
    assert decoded.unknown_fields == 0


@pytest.mark.parametrize("reason", [reason for reason, row in REASONS.items() if row[2]])
def test_example_of_each_reason_is_rejected_for_it(reason: str) -> None:
    _, words, example = REASONS[reason]
    topic = re.search(r"`(bms/sites/[^`]+)`", words)

    (rejection,) = decode(example.strip("`"), topic[1] if topic else TOPIC).rejections

    assert rejection.reason == reason
