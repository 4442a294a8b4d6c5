"""The HTTP server inside the daemon's event loop; starts before the rest and stops after it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from prometheus_client import CollectorRegistry

from bms_ingest.errors import BmsIngestError
from bms_ingest.log import get_logger
from bms_ingest.settings import HttpSettings
from bms_ingest.web.checks import CHECK_TIMEOUT_SECONDS, Check, Readiness
from bms_ingest.web.routes import build_application

# Open requests get this long when the server stops; a scrape takes milliseconds.
GRACE_SECONDS = 2

log = get_logger(__name__)


class HttpServerError(BmsIngestError):
    """The server cannot listen where the settings say."""


class HttpServer:
    """Serves /metrics, /healthz and /readyz between `start` and `stop`; each may be called once.

    Args:
        settings: address to listen on; port 0 takes a free one.
        registry: what /metrics shows.
        checks: what /readyz asks, side by side.
        alive: None while the process makes progress, else the reason why it does not.
        check_timeout_seconds: longest one check may take before it counts as failed.
    """

    def __init__(
        self,
        settings: HttpSettings,
        registry: CollectorRegistry,
        checks: Sequence[Check],
        alive: Callable[[], str | None],
        *,
        check_timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
    ) -> None:
        self._settings = settings
        self._readiness = Readiness(checks, timeout_seconds=check_timeout_seconds)
        self._server = _Server(
            uvicorn.Config(
                build_application(registry, self._readiness, alive),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._serving: asyncio.Task[None] | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The port it listens on, after `start`."""
        if self._port is None:
            raise HttpServerError("the HTTP server has not been started")
        return self._port

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            HttpServerError: the address is taken, not ours or not allowed.
        """
        listener = await _listen(self._settings.host, self._settings.port)
        self._port = int(listener.getsockname()[1])
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http server")
        started = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._serving, started), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._serving.done():
            listener.close()
            self._serving.result()
            raise HttpServerError("the HTTP server ended as soon as it started; see the log")
        log.info("http_server_started", host=self._settings.host, port=self._port)

    async def stop(self) -> None:
        """Finish open requests, at most for two seconds, and free the port. Safe to call twice."""
        serving, self._serving = self._serving, None
        if serving is not None:
            self._server.should_exit = True
            await serving
        await self._readiness.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon owns SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()


async def _listen(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise HttpServerError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; write an address of this machine in "
            "`http.host` / BMS_INGEST_HTTP__HOST"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # uvicorn listens only later; until then a second daemon could still bind next to us.
        listener.listen()
    except OSError as error:
        listener.close()
        advice = (
            "another daemon or program has that port; stop it, or write another in `http.port` / "
            "BMS_INGEST_HTTP__PORT"
            if error.errno == errno.EADDRINUSE
            else "write an address and port that this user may listen on in `http.host` and `http.port`"
        )
        raise HttpServerError(f"cannot listen on {host}:{port}: {error.strerror}; {advice}") from error
    listener.setblocking(False)
    return listener
