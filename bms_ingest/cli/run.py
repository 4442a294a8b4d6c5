"""`bms-ingest run`: the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import typer

from bms_ingest.cli.invocation import settings_of


def run(context: typer.Context) -> None:
    """Run the daemon: receive readings from the broker, store them, acknowledge them.

    It waits for a broker or a database that is down and recovers by itself. SIGTERM or Ctrl-C stores and
    acknowledges what was received, then stops; a second one stops at once, and the broker sends the rest
    again. Progress is on /metrics, /healthz and /readyz of BMS_INGEST_HTTP__PORT.

    \b
    Example:
      bms-ingest --config /etc/bms-ingest/bms-ingest.toml run
    """
    settings = settings_of(context, daemon=True)
    # Here, because the daemon's libraries take a second to load, which no other command needs.
    from bms_ingest.app import run as run_daemon

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(run_daemon(settings))
    raise typer.Exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
