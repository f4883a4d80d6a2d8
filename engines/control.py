"""Control-plane HTTP to one target: what it says of itself. Never the timed path.

No proxy, no netrc, no redirect, no cookie; the connection goes to the pinned address whatever the name says by now,
the whole answer has one deadline, and no answer may fill the memory.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from types import TracebackType
from typing import Any

from engines.clock import monotonic_ns
from engines.contract import Failure, FailureKind, Origin
from engines.dialects.http1 import USER_AGENT
from engines.errors import TargetUnavailable

#: Enough for the metrics of a busy server and the token ids of a very long prompt.
MOST_ANSWER_BYTES = 32 << 20

#: Longest wait for a connection.
_CONNECT_S = 10.0

#: Longest wait for what a server says of itself: a run can do without it.
_GET_S = 5.0

#: Times in a row that a path which has answered before is asked: a server busy for a moment still has what it told.
_TRIES = 3

#: The `server` header by which a simulated engine says so on every response.
SIMULATED_SERVER = "enginebench-simulated"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, whole."""

    status: int
    #: by lower-case name
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
    """A keep-alive client to one origin. A context manager.

    It is the standard library's: a run without a service starts in a fraction of the time a full HTTP client takes to
    be imported, and no question here needs one.
    """

    def __init__(self, origin: Origin, *, timeout_s: float = 30.0, keeps_asking: bool = False) -> None:
        """`keeps_asking`: also where a GET was not answered in time; else that path is not asked again, unless it has
        answered before: then only after a few tries.
        """
        self.origin = origin
        self._timeout_s = timeout_s
        self._keeps_asking = keeps_asking
        #: paths whose GET was answered
        self._answered: set[str] = set()
        #: paths whose GET was not answered in time
        self.silent: set[str] = set()
        # A base URL that ends in /v1 names the OpenAI routes; everything else is beside them.
        self._base_path = origin.base_path.removesuffix("/v1")
        self._headers = {"user-agent": USER_AGENT, "accept": "*/*"} | {k.lower(): v for k, v in origin.headers.items()}
        self._headers |= {"host": origin.host_header, "accept-encoding": "identity"}
        # The system's authorities or those of SSL_CERT_FILE, as for the load.
        self._tls = ssl.create_default_context() if origin.scheme == "https" else None
        #: `None`: none is open
        self._connection: HTTPConnection | None = None
        #: a response carried the mark of the simulated engine
        self.saw_simulated = False

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def get(self, path: str) -> Answer:
        """GET a path below the server's root. Raises TargetUnavailable where no whole answer came."""
        if path in self.silent and not self._keeps_asking:
            raise self._unavailable(path, FailureKind.TIMEOUT, "did not answer before, and is not asked again")
        tries = _TRIES if path in self._answered and not self._keeps_asking else 1
        while True:
            tries -= 1
            try:
                answer = self._ask("GET", path, None, min(self._timeout_s, _GET_S))
            except TargetUnavailable as error:
                if error.failure is None or error.failure.kind is not FailureKind.TIMEOUT:
                    raise
                if not tries:
                    self.silent.add(path)
                    raise
            else:
                self._answered.add(path)
                return answer

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """POST a JSON body to a path below the server's root. Raises TargetUnavailable where no whole answer came."""
        return self._ask("POST", path, json.dumps(body).encode(), self._timeout_s)

    def _ask(self, method: str, path: str, body: bytes | None, limit_s: float) -> Answer:
        deadline_ns = monotonic_ns() + int(limit_s * 1e9)
        keep = False
        try:
            with self._send(method, path, body, limit_s) as response:
                kept = self._read(path, response, deadline_ns)
            keep = not response.will_close
        except TimeoutError:
            raise self._unavailable(path, FailureKind.TIMEOUT, f"did not answer in {limit_s:g} s") from None
        except (HTTPException, OSError) as error:
            raise self._unavailable(path, FailureKind.BROKEN_STREAM, f"broke off its answer ({error})") from None
        finally:
            if not keep:
                self._close()
        headers = {name: ", ".join(response.headers.get_all(name, [])) for name in map(str.lower, response.headers)}
        if headers.get("server", "").lower().startswith(SIMULATED_SERVER):
            self.saw_simulated = True
        return Answer(response.status, headers, kept)

    def _read(self, path: str, response: HTTPResponse, deadline_ns: int) -> bytes:
        kept = bytearray()
        while piece := response.read1(65_536):
            kept += piece
            if len(kept) > MOST_ANSWER_BYTES:
                raise self._unavailable(path, FailureKind.MALFORMED, "answers more than 32 MiB")
            if monotonic_ns() > deadline_ns:
                raise TimeoutError
        if response.length:
            raise IncompleteRead(bytes(kept), response.length)
        return bytes(kept)

    def _send(self, method: str, path: str, body: bytes | None, limit_s: float) -> HTTPResponse:
        """Sends it, a second time where a connection kept from earlier turns out to be closed: no question changes
        anything at the server."""
        was_kept = self._connection is not None
        try:
            return self._send_once(method, path, body, limit_s)
        except (HTTPException, ConnectionError):
            self._close()
            if not was_kept:
                raise
        return self._send_once(method, path, body, limit_s)

    def _send_once(self, method: str, path: str, body: bytes | None, limit_s: float) -> HTTPResponse:
        connection = self._connection = self._connection or self._connect(path)
        connection.sock.settimeout(limit_s)
        headers = self._headers if body is None else {**self._headers, "content-type": "application/json"}
        connection.request(method, self._base_path + path, body=body, headers=headers)
        return connection.getresponse()

    def _connect(self, path: str) -> HTTPConnection:
        """A connection to the pinned address, for the name the certificate must have."""
        address = self.origin.address, self.origin.port
        try:
            plain = socket.create_connection(address, timeout=min(self._timeout_s, _CONNECT_S))
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self.origin.host)
            except OSError:
                plain.close()
                raise
        except TimeoutError:
            raise
        except OSError as error:
            raise self._unavailable(path, FailureKind.CONNECT, f"cannot be reached ({error})") from None
        connection = HTTPConnection(*address)
        connection.auto_open = 0  # by itself it would open an unencrypted one
        connection.sock = opened
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _unavailable(self, path: str, kind: FailureKind, what: str) -> TargetUnavailable:
        message = f"{self.origin.url}{path} {what}"
        return TargetUnavailable(message, field="reach.url", failure=Failure(kind, message))
