"""Connections to PostgreSQL for every part of the program, with one set of rules and our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from bms_ingest.db.sqlstate import store_errors
from bms_ingest.errors import StoreRefused, StoreUnavailable
from bms_ingest.settings import DatabaseSettings

OnConnect = Callable[[asyncpg.Connection], Awaitable[None]]

_ANSWER_MARGIN_SECONDS = 10.0
"""The server ends a statement at statement_timeout; this much later we believe that it is gone."""
_CLOSE_TIMEOUT_SECONDS = 5.0
_ORPHAN_CHECK = timedelta(seconds=1)
_BROKEN_CLASSES = ("08", "57P")
_STANDBY = "25006"
_MALFORMED_DSN = (
    "the database DSN cannot be read; write postgresql://user:password@host:5432/database "
    "and percent-encode :, /, @, # and % in the password"
)


class Database:
    """A pool of connections that opens them when they are needed and never lends a doubtful one twice.

    Args:
        settings: where the server is and how long anything may take.
        application_name: what `pg_stat_activity` shows.
        size: most connections at a time; who wants one more waits.
        on_connect: called once for each new connection, before its first use.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        application_name: str,
        size: int = 4,
        on_connect: OnConnect | None = None,
    ) -> None:
        self._settings = settings
        self._application_name = application_name
        self._size = size
        self._on_connect = on_connect
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Get ready to connect; the server need not be up."""
        if self._pool is not None:
            return
        settings = self._settings
        self._pool = await asyncpg.create_pool(
            settings.dsn.get_secret_value(),
            min_size=0,
            max_size=self._size,
            max_queries=float("inf"),
            connect=self._connect,
            reset=_keep_session,
            timeout=settings.connect_timeout.total_seconds(),
            command_timeout=settings.statement_timeout.total_seconds() + _ANSWER_MARGIN_SECONDS,
            server_settings={
                "application_name": self._application_name,
                "timezone": "UTC",
                "statement_timeout": _milliseconds(settings.statement_timeout),
                "lock_timeout": _milliseconds(settings.lock_timeout),
                "idle_in_transaction_session_timeout": _milliseconds(settings.write_timeout),
                # A statement whose connection we have ended stops, and lets go of its locks.
                "client_connection_check_interval": _milliseconds(_ORPHAN_CHECK),
            },
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection; nothing is set or reset on it, so temporary tables stay.

        It goes back to the pool only after a use without doubt: after a timeout, a cancellation, a failure
        of the connection or an open transaction it is ended at once, without asking the server.

        Raises:
            StoreError: the child that fits, for connecting and for whatever the body did with the database.
        """
        if self._pool is None:
            raise StoreUnavailable("the database is not open; call open() first")
        with store_errors():
            connection = await self._pool.acquire()
        try:
            with store_errors():
                yield connection
        except BaseException as error:
            if _is_doubtful(error):
                _end(connection)
            else:
                await self._give_back(self._pool, connection)
            raise
        await self._give_back(self._pool, connection)

    async def close(self) -> None:
        """Close every connection; those that do not answer within 5 s are ended. Safe to call twice."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    async def _connect(self, *arguments: Any, **options: Any) -> asyncpg.Connection:
        try:
            connection = await asyncpg.connect(*arguments, **options)
        except (ValueError, TypeError, asyncpg.ClientConfigurationError):
            # The library's text may quote a piece of the password, so it is not chained.
            raise StoreRefused(_MALFORMED_DSN) from None
        except FileNotFoundError as error:
            raise StoreRefused(
                f"a file or socket that database.dsn names is not there: {error.filename or error}"
            ) from error
        except OSError as error:
            hosts = urlsplit(self._settings.dsn.get_secret_value()).netloc.rpartition("@")[2]
            raise StoreUnavailable(
                f"no connection to the database at {hosts or 'its socket'}: {error or type(error).__name__}; "
                "check that it runs there and takes connections, or database.dsn"
            ) from error
        if self._on_connect is not None:
            try:
                await self._on_connect(connection)
            except BaseException:
                # The pool's own `init` would close in good order, and wait for a server that has gone silent.
                connection.terminate()
                raise
        return connection

    async def _give_back(self, pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
        # A connection that breaks on its way back says nothing about the work that was done on it.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if connection.is_in_transaction():
                connection.terminate()
            else:
                await pool.release(connection, timeout=_CLOSE_TIMEOUT_SECONDS)


def _is_doubtful(error: BaseException) -> bool:
    """Whether nobody can tell in what state the connection is, or it leads to a server of no more use."""
    if not isinstance(error, Exception):
        return True
    if not isinstance(error, StoreUnavailable):
        return False
    code = error.sqlstate
    return code is None or code.startswith(_BROKEN_CLASSES) or code == _STANDBY


def _end(connection: asyncpg.Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # The body has ended it itself.
        connection.terminate()


async def _keep_session(connection: asyncpg.Connection) -> None:
    """Stand in for the library's DISCARD-like query, which would cost a round trip for each use."""


def _milliseconds(duration: timedelta) -> str:
    return str(max(1, round(duration.total_seconds() * 1000)))
