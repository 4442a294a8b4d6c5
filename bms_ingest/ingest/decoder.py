"""Turns the payload of a delivery into readings, or into rejections with a reason. Pure.

Stands between the subscriber and the batcher. One pass does both jobs, accepting and explaining, so that
they cannot disagree; what it costs is only paid where something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

from pydantic_core import from_json

from bms_ingest.ingest.elements import READINGS, cut
from bms_ingest.ingest.refusals import RefusalError, describe, storable
from bms_ingest.ingest.timestamps import parse_timestamp
from bms_ingest.models import METRICS, Decoded, Delivery, Reading, Reason, Rejection
from bms_ingest.settings import Bounds

MOST_READINGS = 2_500
"""Longest array, over a week of readings; unbounded, a megabyte of `1,1,1` would be 500,000 rejections."""
TIMESTAMP = "timestamp"
SITE_FIELDS = ("siteId", "site_id")
LARGEST_FLOAT32 = 3.4028234663852886e38

_FIRST_METRIC = len(Reading._fields) - len(METRICS)


def camel_case(name: str) -> str:
    """Spell a column as the schema document does: `battery_power_kw` becomes `batteryPowerKw`."""
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


class Decoder:
    """Decodes one delivery after the other; keeps no state, and never raises whatever the bytes are.

    Args:
        site_of_topic: which site a topic names, None for none.
        limits: physical range of each metric in its unit, both ends included.
        past: a reading further back from `now` is refused: the raw retention.
        ahead: a reading further in the future is refused.
        max_payload_bytes: a larger payload is refused unread.
    """

    def __init__(
        self,
        site_of_topic: Callable[[str], int | None],
        limits: Mapping[str, Bounds],
        past: timedelta,
        ahead: timedelta,
        max_payload_bytes: int,
    ) -> None:
        self._site_of_topic = site_of_topic
        self._past = past
        self._ahead = ahead
        self._max_payload_bytes = max_payload_bytes
        self._metrics: dict[str, tuple[int, float, float]] = {}
        for place, name in enumerate(METRICS, start=_FIRST_METRIC):
            bounds = limits.get(name)
            low = -LARGEST_FLOAT32 if bounds is None else max(bounds.low, -LARGEST_FLOAT32)
            high = LARGEST_FLOAT32 if bounds is None else min(bounds.high, LARGEST_FLOAT32)
            self._metrics[name] = self._metrics[camel_case(name)] = (place, low, high)

    def decode(self, delivery: Delivery, now: datetime) -> Decoded:
        """Decode one delivery; the result holds at least one reading or one rejection.

        Args:
            now: UTC, what the time window is measured from.
        """
        payload = delivery.payload
        site_id = self._site_of_topic(delivery.topic)
        try:
            if site_id is None:
                raise RefusalError(Reason.BAD_TOPIC, f"The topic {describe(delivery.topic)} names no site.")
            if len(payload) > self._max_payload_bytes:
                raise RefusalError(
                    Reason.TOO_LARGE,
                    f"The payload has {len(payload)} bytes; at most {self._max_payload_bytes} are read.",
                )
            window = self._window(now)
            try:
                document = from_json(payload)
            except ValueError as error:
                return self._decode_pieces(delivery, site_id, window, error)
            if type(document) is dict and READINGS not in document:
                reading, unknown = self._read(document, site_id, delivery.received_at, window)
                return Decoded(delivery, (reading,), (), None, unknown)
            elements, unknown = self._unwrap(document, site_id)
            return self._decode_array(delivery, site_id, window, elements, unknown)
        except RefusalError as refusal:
            return Decoded(delivery, rejections=(_rejection(delivery, site_id, refusal),))

    def _window(self, now: datetime) -> tuple[datetime, datetime]:
        try:
            return now - self._past, now + self._ahead
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    def _read(
        self, element: object, site_id: int, received_at: datetime, window: tuple[datetime, datetime]
    ) -> tuple[Reading, int]:
        """Return the reading that an element holds, and how many of its fields are unknown.

        Raises:
            RefusalError: the first thing that is wrong: site, timestamp, window, then metrics as they come.
        """
        if type(element) is not dict:
            raise RefusalError(
                Reason.NOT_A_READING, f"A reading must be an object, but this is {describe(element)}."
            )
        # the timestamp and the site are no metrics, and known all the same
        unknown = -1
        if "siteId" in element or "site_id" in element:
            unknown -= _check_site(element, site_id)
        if TIMESTAMP not in element:
            raise RefusalError(Reason.BAD_TIMESTAMP, "timestamp is missing.")
        timestamp = parse_timestamp(element[TIMESTAMP])
        if not window[0] <= timestamp <= window[1]:
            raise RefusalError(
                Reason.OUTSIDE_WINDOW,
                f"timestamp is {timestamp.isoformat()}, outside the time window from "
                f"{window[0].isoformat(timespec='seconds')} to {window[1].isoformat(timespec='seconds')}.",
            )
        row: list[Any] = [None] * len(Reading._fields)
        row[:_FIRST_METRIC] = site_id, timestamp, received_at
        known = self._metrics.get
        found = False
        for name, value in element.items():
            metric = known(name)
            if metric is None:
                unknown += 1
                continue
            place, low, high = metric
            if type(value) is float and low <= value <= high and row[place] is None:
                row[place] = value
                found = True
            elif value is not None:
                row[place] = _explain(name, value, metric, row[place])
                found = True
        if not found:
            raise RefusalError(Reason.NO_METRICS, "The reading has no metric that is not null.")
        return Reading._make(row), unknown

    def _unwrap(self, document: object, site_id: int) -> tuple[list[Any], int]:
        """Return the array of a payload that is not one reading, and the number of unknown fields around it.

        Raises:
            RefusalError: the whole payload.
        """
        unknown = 0
        elements = document
        if type(document) is dict:
            elements = document[READINGS]
            unknown = self._check_around(document, site_id)
        if type(elements) is not list:
            what = (
                "readings must be an array"
                if type(document) is dict
                else "A payload is an object or an array"
            )
            raise RefusalError(Reason.NOT_A_READING, f"{what}, but this is {describe(elements)}.")
        if not elements:
            raise RefusalError(Reason.NOT_A_READING, "The array of readings is empty.")
        if len(elements) > MOST_READINGS:
            raise RefusalError(
                Reason.TOO_LARGE,
                f"The array holds {len(elements)} readings; at most {MOST_READINGS} are read.",
            )
        return elements, unknown

    def _check_around(self, document: Mapping[str, object], site_id: int) -> int:
        """Count the unknown fields beside `readings`; refuse metrics, which nobody would read there."""
        sites = _check_site(document, site_id)
        for name in document:
            if name in self._metrics:
                raise RefusalError(
                    Reason.NOT_A_READING, f"{name} stands beside readings; it belongs into one of them."
                )
        return len(document) - sites - (READINGS in document)

    def _decode_array(
        self,
        delivery: Delivery,
        site_id: int,
        window: tuple[datetime, datetime],
        elements: list[Any],
        unknown: int,
    ) -> Decoded:
        readings: list[Reading] = []
        positions: list[int] = []
        refused: list[tuple[int, RefusalError]] = []
        for position, element in enumerate(elements):
            try:
                reading, unknown_here = self._read(element, site_id, delivery.received_at, window)
            except RefusalError as refusal:
                refused.append((position, refusal))
            else:
                readings.append(reading)
                positions.append(position)
                unknown += unknown_here
        rejections: list[Rejection] = []
        if refused:
            pieces = cut(delivery.payload, MOST_READINGS)
            for position, why in refused:
                # the whole is better than nothing, should the two parsers ever disagree
                piece = delivery.payload if pieces is None else pieces.elements[position]
                rejections.append(_rejection(delivery, site_id, why, piece, position))
        return Decoded(delivery, readings, rejections, positions, unknown)

    def _decode_pieces(
        self, delivery: Delivery, site_id: int, window: tuple[datetime, datetime], error: ValueError
    ) -> Decoded:
        """Decode the elements of an array one by one, because the payload as a whole cannot be parsed.

        Raises:
            RefusalError: the payload has no structure to cut it by.
        """
        pieces = cut(delivery.payload, MOST_READINGS)
        if pieces is None or not pieces.elements:
            raise _unreadable(delivery.payload, error)
        try:
            around = {name: from_json(value) for name, value in pieces.around.items()}
        except ValueError:
            raise _unreadable(delivery.payload, error) from None
        unknown = self._check_around(around, site_id)
        readings: list[Reading] = []
        positions: list[int] = []
        rejections: list[Rejection] = []
        for position, piece in enumerate(pieces.elements):
            try:
                try:
                    element = from_json(piece)
                except ValueError as broken:
                    raise _unreadable(piece, broken) from broken
                reading, unknown_here = self._read(element, site_id, delivery.received_at, window)
            except RefusalError as refusal:
                rejections.append(_rejection(delivery, site_id, refusal, piece, position))
            else:
                readings.append(reading)
                positions.append(position)
                unknown += unknown_here
        return Decoded(delivery, readings, rejections, positions, unknown)


def _check_site(fields: Mapping[str, object], site_id: int) -> int:
    """Return how many fields name a site; refuse one that names another than the topic does."""
    count = 0
    for name in SITE_FIELDS:
        if name in fields:
            count += 1
            value = fields[name]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (value is None or (number and value == site_id) or value == str(site_id)):
                raise RefusalError(
                    Reason.WRONG_SITE, f"{name} is {describe(value)}, but the topic names site {site_id}."
                )
    return count


def _explain(name: str, value: object, metric: tuple[int, float, float], given: float | None) -> float:
    """Return a metric's value where it is not simply a float in range, or say what is wrong with it.

    Args:
        given: the value in the other spelling, None when there was none.

    Raises:
        RefusalError: WRONG_TYPE, NOT_FINITE, OUT_OF_RANGE, or NOT_A_READING for two spellings that disagree.
    """
    place, low, high = metric
    if type(value) is not float and type(value) is not int:
        raise RefusalError(Reason.WRONG_TYPE, f"{name} is {describe(value)}, but must be a number or null.")
    if type(value) is float and not isfinite(value):
        raise RefusalError(Reason.NOT_FINITE, f"{name} is {describe(value)}, which is not a finite number.")
    if not low <= value <= high:
        raise RefusalError(
            Reason.OUT_OF_RANGE, f"{name} is {describe(value)}, outside its range of {low:g} to {high:g}."
        )
    if given is not None and given != value:
        raise RefusalError(
            Reason.NOT_A_READING,
            f"{METRICS[place - _FIRST_METRIC]} is given in both spellings with different values, "
            f"{describe(given)} and {describe(value)}.",
        )
    return float(value)


def _unreadable(payload: bytes, error: ValueError) -> RefusalError:
    if not payload:
        return RefusalError(Reason.NOT_JSON, "The payload is empty.")
    if "number out of range" in str(error):
        return RefusalError(Reason.NOT_FINITE, f"A number has too many digits: {error}.")
    return RefusalError(Reason.NOT_JSON, f"This is not JSON that can be read: {error}.")


def _rejection(
    delivery: Delivery,
    site_id: int | None,
    refusal: RefusalError,
    payload: bytes | None = None,
    position: int | None = None,
) -> Rejection:
    return Rejection(
        reason=refusal.reason,
        detail=storable(refusal.detail),
        topic=storable(delivery.topic),
        site_id=site_id,
        payload=delivery.payload if payload is None else payload,
        position=position,
        received_at=delivery.received_at,
    )
