"""Control-plane HTTP to one target: what it says of itself. Never the timed path.

No proxy, no netrc, no redirect, no cookie; the connection goes to the pinned address whatever the name says by now,
the whole answer has one deadline, and no answer may fill the memory.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from engines.clock import monotonic_ns
from engines.contract import Failure, FailureKind, Origin
from engines.errors import TargetUnavailable

#: Enough for the metrics of a busy server and the token ids of a very long prompt.
MOST_ANSWER_BYTES = 32 << 20

#: The `server` header by which a simulated engine says so on every response.
SIMULATED_SERVER = "enginebench-simulated"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """A 2xx status."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text, with what is not UTF-8 replaced."""
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body as JSON; `None` where it is not."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class ControlClient:
    """A keep-alive client to one origin. A context manager."""

    def __init__(self, origin: Origin, *, timeout_s: float = 30.0) -> None:
        self.origin = origin
        self._timeout_s = timeout_s
        address = f"[{origin.address}]" if ":" in origin.address else origin.address
        self._client = httpx.Client(
            # A base URL that ends in /v1 names the OpenAI routes; everything else is beside them.
            base_url=f"{origin.scheme}://{address}:{origin.port}{origin.base_path.removesuffix('/v1')}",
            headers={**origin.headers, "host": origin.host_header, "accept-encoding": "identity"},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            # The system's authorities or those of SSL_CERT_FILE, as for the load.
            verify=ssl.create_default_context() if origin.scheme == "https" else False,
            trust_env=False,
            follow_redirects=False,
        )
        #: a response carried the mark of the simulated engine
        self.saw_simulated = False

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def get(self, path: str) -> Answer:
        """GET a path below the server's root. Raises TargetUnavailable where no whole answer came."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """POST a JSON body to a path below the server's root. Raises TargetUnavailable where no whole answer came."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        deadline_ns = monotonic_ns() + int(self._timeout_s * 1e9)
        try:
            response = self._send(method, path, body)
            try:
                kept = bytearray()
                for piece in response.iter_raw():
                    kept += piece
                    if len(kept) > MOST_ANSWER_BYTES:
                        raise self._unavailable(path, FailureKind.MALFORMED, "answers more than 32 MiB")
                    if monotonic_ns() > deadline_ns:
                        raise self._unavailable(path, FailureKind.TIMEOUT, f"did not answer in {self._timeout_s:g} s")
            finally:
                response.close()
                self._client.cookies.clear()
        except httpx.TimeoutException:
            raise self._unavailable(path, FailureKind.TIMEOUT, f"did not answer in {self._timeout_s:g} s") from None
        except (httpx.ConnectError, OSError) as error:
            raise self._unavailable(path, FailureKind.CONNECT, f"cannot be reached ({error})") from None
        except httpx.HTTPError as error:
            raise self._unavailable(path, FailureKind.BROKEN_STREAM, f"broke off its answer ({error})") from None
        if response.headers.get("server", "").lower().startswith(SIMULATED_SERVER):
            self.saw_simulated = True
        return Answer(response.status_code, dict(response.headers), bytes(kept))

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        """Sends it, a second time where a connection kept from earlier turns out to be closed: no question changes
        anything at the server."""
        request = self._client.build_request(method, path, json=body)
        request.extensions["sni_hostname"] = self.origin.host
        try:
            return self._client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return self._client.send(request, stream=True)

    def _unavailable(self, path: str, kind: FailureKind, what: str) -> TargetUnavailable:
        message = f"{self.origin.url}{path} {what}"
        return TargetUnavailable(message, field="reach.url", failure=Failure(kind, message))
