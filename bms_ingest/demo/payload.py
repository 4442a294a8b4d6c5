"""Writes samples down as the JSON that gateways send."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from bms_ingest.demo.fleet import Dialect
from bms_ingest.demo.site_model import Sample
from bms_ingest.models import METRICS


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


CAMEL_NAMES = {name: _camel(name) for name in METRICS}
"""Field names of the schema document by column name."""
_DIGITS = {name: 6 if name.endswith("_kwh") else 3 for name in METRICS}

Document = dict[str, Any]
"""One reading as a gateway writes it, before it becomes bytes."""


def write_reading(sample: Sample) -> Document:
    """Return the sample in its site's dialect; powers to the watt, energies to the milliwatt-hour."""
    snake = sample.site.dialect is Dialect.SNAKE_ISO
    document: Document = {
        "site_id" if snake else "siteId": sample.site.site_id,
        "timestamp": write_time(sample.timestamp, sample.site.dialect),
    }
    for name, value in sample.metrics.items():
        # Adding zero turns the -0.0 that rounding leaves into 0.0.
        rounded = None if value is None else round(value, _DIGITS[name]) + 0.0
        document[name if snake else CAMEL_NAMES[name]] = rounded
    return document


def write_time(moment: datetime, dialect: Dialect) -> str | int:
    """Return the UTC time to the millisecond: ISO 8601 with Z, or epoch milliseconds."""
    if dialect is Dialect.CAMEL_EPOCH:
        return round(moment.timestamp() * 1000)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(document: Document | list[Document]) -> bytes:
    """Return compact JSON; not-a-number and infinities come out as the bare words that some gateways send."""
    return json.dumps(document, separators=(",", ":")).encode()
