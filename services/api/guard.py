"""Who may come in: keys and their roles, hosts, origins, and how much they may send. Pure ASGI, around everything."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import problem_response
from services.api.keyring import Keyring, Revoked, bearer_in
from services.api.roles import SAFE_METHODS, is_open, role_for
from services.domain.errors import Problem, Unavailable
from services.domain.key import Holder, Role
from services.settings import Settings

METRICS_PATH = "/metrics"
#: How much of a body that is too large is read on, and for how long.
DRAIN_BYTES, DRAIN_S = 64 << 20, 5.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nobody gets in."""

    status: int
    problem: Problem


class Guard:
    """Refuses before any route runs.

    421 for a foreign host, 403 for a foreign page or a key whose role does not allow it, 401 without a key, 503 where
    the database that knows the keys does not answer. Whose key it was stands in the request's state as `holder`.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring
        self._is_loopback = settings.is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            admitted = await self._admit(scope["method"], scope["path"], Headers(scope=scope))
        except Unavailable as error:
            admitted = Refusal(503, Problem("", str(error), "try again later"))
        if isinstance(admitted, Refusal):
            headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}.get(admitted.status, {})
            problem = admitted.problem
            await problem_response(admitted.status, problem.problem, [problem], headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["holder"] = admitted
        await self._app(scope, receive, send)

    async def _admit(self, method: str, path: str, headers: Headers) -> Holder | Refusal | None:
        """Whose key it came with; `None`: it needs none."""
        if not is_open(path):
            try:
                await self._keyring.look()
            except Unavailable:
                # The metrics say so themselves, and have no more to say then.
                if path != METRICS_PATH:
                    raise
        host = headers.get("host", "")
        # Without keys, a page in a browser on this host must not reach us by a name of its own (DNS rebinding).
        if self._is_loopback and not self._keyring.wants_keys and not is_loopback_host(host):
            return Refusal(421, Problem("Host", "names another host", "use 127.0.0.1 or localhost, or set API keys"))
        origin = headers.get("origin")
        if origin is not None and method not in SAFE_METHODS and urlsplit(origin).netloc != host:
            return Refusal(403, Problem("Origin", "comes from a page of another origin", "ask from outside a browser"))
        wanted = role_for(method, path)
        given = bearer_in(headers.get("authorization", ""))
        if wanted is None:
            return None
        if path == METRICS_PATH and self._keyring.has_metrics_key:
            if self._keyring.is_metrics_key(given):
                return None
        elif not self._keyring.wants_keys:
            return None
        match await self._keyring.holder_of(given):
            case Holder(role=role) as holder:
                return holder if role.covers(wanted) else _too_little(method, path, role, wanted)
            case Revoked():
                return Refusal(401, Problem("Authorization", "this API key was revoked", "send another one"))
        if self._keyring.is_metrics_key(given):
            return Refusal(403, Problem("Authorization", "this key may only read /metrics", "use an API key"))
        return Refusal(401, Problem("Authorization", "no valid API key", "send Authorization: Bearer KEY"))


def _too_little(method: str, path: str, role: Role, wanted: Role) -> Refusal:
    enough = " or ".join(one.value for one in Role if one.covers(wanted))
    problem = f"this key has the role {role.value}, and {method} {path} wants {enough}"
    mend = f"use such a key; `enginebench admin keys create --name NAME --role {wanted.value}` makes one"
    return Refusal(403, Problem("Authorization", problem, mend))


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
