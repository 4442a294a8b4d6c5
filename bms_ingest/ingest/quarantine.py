"""Keeps what could not be stored, with its reason, in the transaction of the batch it came with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import asyncpg

from bms_ingest.models import Rejection
from bms_ingest.sql import load_queries


def fingerprint(rejection: Rejection) -> bytes:
    """Identify a rejection by what it is, not when it came: 32 bytes of SHA-256.

    A redelivered message finds its own entry again, and a gateway that repeats the same garbage every five
    minutes fills one row, not a disk.
    """
    digest = hashlib.sha256()
    for part in (
        rejection.reason.encode(),
        _text(rejection.topic).encode(),
        str(rejection.position).encode(),
    ):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    digest.update(rejection.payload)
    return digest.digest()


class Quarantine:
    """Writes rejections into the table `quarantine`."""

    def __init__(self) -> None:
        self._statement = load_queries("ingest")["add_to_quarantine"]

    async def add(self, connection: asyncpg.Connection, rejections: Iterable[Rejection]) -> None:
        """Add rejections within the caller's transaction; equal ones share an entry and count up.

        Raises:
            asyncpg.PostgresError: the caller's transaction failed.
        """
        first: dict[bytes, Rejection] = {}
        last: dict[bytes, Rejection] = {}
        occurrences: dict[bytes, int] = {}
        for rejection in rejections:
            key = fingerprint(rejection)
            first.setdefault(key, rejection)
            last[key] = rejection
            occurrences[key] = occurrences.get(key, 0) + 1
        if not first:
            return
        # One order for all daemons: two that add the same entries cannot deadlock.
        keys = sorted(first)
        chosen = [first[key] for key in keys]
        await connection.execute(
            self._statement,
            keys,
            [rejection.reason.value for rejection in chosen],
            [_text(rejection.detail) for rejection in chosen],
            [_text(rejection.topic) for rejection in chosen],
            [rejection.site_id for rejection in chosen],
            [rejection.payload for rejection in chosen],
            [rejection.position for rejection in chosen],
            [occurrences[key] for key in keys],
            [rejection.received_at for rejection in chosen],
            [last[key].received_at for key in keys],
        )


def _text(value: str) -> str:
    """What PostgreSQL's text can hold: no NUL, no lone surrogates."""
    return value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
