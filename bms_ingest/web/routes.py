"""The pages of the HTTP server: /metrics for Prometheus, /healthz and /readyz for whoever restarts it."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from bms_ingest.web.checks import Readiness

FRESH = {"Cache-Control": "no-store"}
PAGES = ("/metrics", "/healthz", "/readyz")


def build_application(
    registry: CollectorRegistry, readiness: Readiness, alive: Callable[[], str | None]
) -> FastAPI:
    """Return the ASGI application.

    Args:
        registry: what /metrics shows.
        readiness: what /readyz asks.
        alive: None while the process makes progress, else the reason why it does not.
    """
    application = FastAPI(title="bms-ingest", docs_url=None, redoc_url=None, openapi_url=None)

    @application.api_route("/metrics", methods=["GET", "HEAD"])
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, **FRESH})

    @application.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> Response:
        reason = alive()
        return PlainTextResponse(
            f"{reason or 'ok'}\n", status_code=200 if reason is None else 503, headers=FRESH
        )

    @application.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> Response:
        outcomes = await readiness.report()
        ready = all(outcome.ok for outcome in outcomes)
        body = {
            "ready": ready,
            "checks": {outcome.name: {"ok": outcome.ok, "detail": outcome.detail} for outcome in outcomes},
        }
        return JSONResponse(body, status_code=200 if ready else 503, headers=FRESH)

    application.add_exception_handler(404, _unknown_page)
    application.add_exception_handler(405, _wrong_method)
    application.add_exception_handler(Exception, _apologise)
    return application


async def _unknown_page(request: Request, _error: Exception) -> Response:
    return JSONResponse(
        {"error": f"there is no page {request.url.path}", "pages": list(PAGES)}, status_code=404
    )


async def _wrong_method(request: Request, _error: Exception) -> Response:
    return JSONResponse(
        {"error": f"{request.method} is not possible here, GET is"},
        status_code=405,
        headers={"Allow": "GET, HEAD"},
    )


async def _apologise(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "internal error, see the log of bms-ingest"}, status_code=500)
