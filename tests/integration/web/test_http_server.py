"""The HTTP server on a real port, asked by a real client."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from bms_ingest.errors import BmsIngestError, StoreUnavailable
from bms_ingest.settings import HttpSettings
from bms_ingest.web.checks import Check
from bms_ingest.web.server import HttpServer, HttpServerError

Start = Callable[..., Awaitable[httpx.AsyncClient]]


def healthy() -> str | None:
    return None


async def fine() -> str | None:
    return None


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a server with the given parts and returns a client for it."""
    async with AsyncExitStack() as opened:

        async def begin(
            *checks: Check,
            registry: CollectorRegistry | None = None,
            alive: Callable[[], str | None] = healthy,
            check_timeout_seconds: float = 30.0,
        ) -> httpx.AsyncClient:
            server = HttpServer(
                HttpSettings(port=0),
                registry or CollectorRegistry(),
                checks,
                alive,
                check_timeout_seconds=check_timeout_seconds,
            )
            await server.start()
            opened.push_async_callback(server.stop)
            return await opened.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False)
            )

        yield begin


async def test_metrics_show_the_registry_in_the_format_that_was_asked_for(start: Start) -> None:
    registry = CollectorRegistry()
    Counter("readings_stored", "Readings", registry=registry).inc(3)
    client = await start(registry=registry)
    plain = await client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert "readings_stored_total 3.0\n" in plain.text
    open_metrics = await client.get(
        "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


async def test_healthz_says_ok_or_why_not(start: Start) -> None:
    reason: list[str | None] = [None]
    client = await start(alive=lambda: reason[0])
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    reason[0] = "no batch was finished for 120 s"
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "no batch was finished for 120 s\n")


async def test_readyz_is_200_when_every_check_is_fine(start: Start) -> None:
    client = await start(Check("database", fine), Check("broker", fine))
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "checks": {"database": {"ok": True, "detail": None}, "broker": {"ok": True, "detail": None}},
    }


async def test_readyz_names_each_failing_check_and_still_shows_the_others(start: Start) -> None:
    async def down() -> str | None:
        raise StoreUnavailable("the database refuses connections; start it")

    async def behind() -> str | None:
        return "2 migrations are pending; run: bms-ingest migrate"

    async def broken() -> str | None:
        raise ZeroDivisionError

    client = await start(
        Check("database", down), Check("schema", behind), Check("odd", broken), Check("broker", fine)
    )
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks["database"] == {"ok": False, "detail": "the database refuses connections; start it"}
    assert checks["schema"] == {"ok": False, "detail": "2 migrations are pending; run: bms-ingest migrate"}
    assert checks["odd"]["ok"] is False
    assert "ZeroDivisionError" in checks["odd"]["detail"]
    assert checks["broker"] == {"ok": True, "detail": None}


async def test_checks_run_side_by_side(start: Start) -> None:
    meeting = asyncio.Barrier(3)

    async def meet() -> str | None:
        await meeting.wait()
        return None

    client = await start(*(Check(name, meet) for name in ("a", "b", "c")))
    assert (await client.get("/readyz")).status_code == 200


async def test_a_hanging_check_is_reported_and_not_started_twice(start: Start) -> None:
    begun = 0

    async def stubborn() -> str | None:
        nonlocal begun
        begun += 1
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if release.is_set():
                    raise

    release = asyncio.Event()
    client = await start(Check("broker", stubborn), Check("database", fine), check_timeout_seconds=0.05)
    answers = [await client.get("/readyz") for _ in range(2)]
    release.set()
    for answer in answers:
        assert answer.status_code == 503
        assert "did not answer within 0.05 s" in answer.json()["checks"]["broker"]["detail"]
        assert answer.json()["checks"]["database"]["ok"] is True
    assert begun == 1


async def test_everything_else_is_404_as_json(start: Start) -> None:
    client = await start()
    for path in ("/", "/docs", "/openapi.json", "/metrics/x"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.json()["pages"] == ["/metrics", "/healthz", "/readyz"]
    answer = await client.post("/metrics")
    assert answer.status_code == 405
    assert answer.json() == {"error": "POST is not possible here, GET is"}


async def test_a_failing_page_is_500_as_json(start: Start) -> None:
    def burst() -> str | None:
        raise RuntimeError("secret detail")

    client = await start(alive=burst)
    answer = await client.get("/healthz")
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal error, see the log of bms-ingest"}


async def test_a_taken_port_is_one_clear_sentence() -> None:
    first = HttpServer(HttpSettings(port=0), CollectorRegistry(), (), healthy)
    await first.start()
    try:
        second = HttpServer(HttpSettings(port=first.port), CollectorRegistry(), (), healthy)
        with pytest.raises(BmsIngestError, match=rf"cannot listen on 127.0.0.1:{first.port}: .*http\.port"):
            await second.start()
    finally:
        await first.stop()


async def test_an_address_that_is_not_ours_is_one_clear_sentence() -> None:
    server = HttpServer(HttpSettings(host="192.0.2.1", port=0), CollectorRegistry(), (), healthy)
    with pytest.raises(HttpServerError, match=r"cannot listen on 192\.0\.2\.1:0"):
        await server.start()


async def test_the_port_is_free_again_after_stop() -> None:
    server = HttpServer(HttpSettings(port=0), CollectorRegistry(), (), healthy)
    await server.start()
    port = server.port
    await server.stop()
    await server.stop()
    again = HttpServer(HttpSettings(port=port), CollectorRegistry(), (), healthy)
    await again.start()
    await again.stop()


async def test_signal_handlers_stay_the_daemons() -> None:
    before = [signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT)]
    server = HttpServer(HttpSettings(port=0), CollectorRegistry(), (), healthy)
    await server.start()
    try:
        assert [signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT)] == before
    finally:
        await server.stop()
