"""HTTP requests counted and timed by route template, method and status. Pure ASGI, so that streams stay streams."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.clock import monotonic_ns
from services.telemetry.logs import answering

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: What matched no route; its path is whatever a stranger typed, and must not become a label.
UNMATCHED = "unmatched"


class HttpMetrics:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "enginebench_http_requests",
            "HTTP requests answered.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._duration = Histogram(
            "enginebench_http_request_duration_seconds",
            "From a request's head to the end of its answer; event streams are left out.",
            ("route", "method"),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through; look at the status on the way."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answering(scope)
        started_ns = monotonic_ns()
        # The client may leave before there is a status.
        status = "none"
        streaming = False

        async def noting_status(message: Message) -> None:
            nonlocal status, streaming
            if message["type"] == "http.response.start":
                status = str(message["status"])
                streaming = any(
                    v.startswith(b"text/event-stream") for k, v in message["headers"] if k == b"content-type"
                )
            await send(message)

        try:
            await self._app(scope, receive, noting_status)
        except Exception:
            # The 500 itself is written outside of us.
            status = "500" if status == "none" else status
            raise
        finally:
            route = getattr(scope.get("route"), "path", UNMATCHED)
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            self._requests.labels(route, method, status).inc()
            if not streaming:
                self._duration.labels(route, method).observe((monotonic_ns() - started_ns) / 1e9)
