"""Who may come in: keys, hosts, origins, and how much they may send. Pure ASGI, around the whole application."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import problem_response
from services.domain.errors import Problem
from services.settings import Settings

#: A load balancer has no key.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
METRICS_PATH = "/metrics"
#: How much of a body that is too large is read on, and for how long.
DRAIN_BYTES, DRAIN_S = 64 << 20, 5.0
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Refuses before any route runs: 421 for a foreign host, 403 for a foreign page, 401 without a key."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._keys = tuple(key.get_secret_value() for key in settings.api_keys)
        self._metrics_key = settings.metrics_key.get_secret_value() if settings.metrics_key else None
        # Without keys, a page in a browser on this host must not reach us by a name of its own (DNS rebinding).
        self._loopback_only = settings.is_loopback and not self._keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, problem = refusal
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        await problem_response(status, problem.problem, [problem], headers)(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Headers) -> tuple[int, Problem] | None:
        host = headers.get("host", "")
        if self._loopback_only and not is_loopback_host(host):
            return 421, Problem("Host", "names another host", "use 127.0.0.1 or localhost, or set API keys")
        origin = headers.get("origin")
        if origin is not None and method not in SAFE_METHODS and urlsplit(origin).netloc != host:
            return 403, Problem("Origin", "comes from a page of another origin", "ask from outside a browser")
        if path in OPEN_PATHS:
            return None
        if path == METRICS_PATH and self._metrics_key is not None:
            allowed: tuple[str, ...] = (*self._keys, self._metrics_key)
        else:
            allowed = self._keys
        if not allowed or holds_key(headers.get("authorization", ""), allowed):
            return None
        if self._metrics_key is not None and holds_key(headers.get("authorization", ""), (self._metrics_key,)):
            return 403, Problem("Authorization", "this key may only read /metrics", "use an API key")
        return 401, Problem("Authorization", "no valid API key", "send Authorization: Bearer KEY")


def holds_key(authorization: str, keys: tuple[str, ...]) -> bool:
    """The header carries one of the keys. Takes as long for a near miss as for a far one."""
    scheme, _, given = authorization.partition(" ")
    offered = given.strip().encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(offered, key.encode()) for key in keys]
    return scheme.lower() == "bearer" and any(matches)


def is_loopback_host(host: str) -> bool:
    """A `Host` header that names this very host."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class BodyLimit:
    """Refuses bodies above `most_bytes` with 413: by their length where it is told, else once they get there."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > self._most_bytes:
            await _drain(receive)
            problem = Problem("", self._words(), "send less")
            await problem_response(413, problem.problem, [problem])(scope, receive, send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                await _drain(receive, more=message.get("more_body", False))
                # Raised inside the route's reading of the body; becomes a problem like any other.
                raise HTTPException(413, self._words())
            return message

        await self._app(scope, counting, send)

    def _words(self) -> str:
        return f"the body is larger than {self._most_bytes} bytes"


async def _drain(receive: Receive, *, more: bool = True) -> None:
    """Throw the rest of a body away, within bounds: whoever still sends when the connection ends never reads why."""
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while more and dropped < DRAIN_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)
