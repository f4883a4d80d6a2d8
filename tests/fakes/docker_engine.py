"""A stand-in of the Docker Engine's API on a Unix socket: it records each call, and who ran beside whom.

Its answers have the statuses and bodies of the Engine's published API (1.24 to 1.51): 204 and 304 for start and stop,
404 and 500 with a `message`, logs as frames with an eight-byte header.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

#: What starts with a container and ends with it, such as `lambda: simulated_engine("vllm-qwen2.5-7b", port=…)`.
Program = Callable[[], AbstractContextManager[Any]]


@dataclass
class FakeContainer:
    """A created container. What a test sets here is what the Engine does."""

    name: str
    program: Program | None = None
    resources: str = "gpu:0"
    labels: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("--port", "8000")
    environment: tuple[str, ...] = ("PATH=/usr/bin", "PREFIX_CACHING=0")
    image: str = "engine:1.2.3"
    log: str = "loading the weights\n"
    #: the Engine's own words, where it cannot start it
    refuses_to_start: str | None = None
    #: it ends by itself with this code, as soon as it is looked at
    dies_with: int | None = None
    #: killed for its memory when it died
    out_of_memory: bool = False
    #: SIGTERM does nothing; only a stop without a grace ends it
    ignores_sigterm: bool = False
    #: nothing ends it
    immortal: bool = False
    running: bool = False
    exit_code: int = 0
    started_at: str = "0001-01-01T00:00:00Z"
    #: each has a moment of its own
    starts: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        if self.program is not None:
            self._stack.enter_context(self.program())
        self.starts += 1
        self.running, self.started_at = True, f"2026-11-23T09:00:00.{self.starts:09d}Z"

    def end(self, code: int) -> None:
        self._stack.close()
        self.running, self.exit_code = False, code

    def describe(self) -> dict[str, Any]:
        if self.running and self.dies_with is not None:
            self.end(self.dies_with)
        return {
            "Id": f"{abs(hash(self.name)):064x}"[:64],
            "Name": f"/{self.name}",
            "Image": "sha256:" + "ab" * 32,
            "State": {
                "Status": "running" if self.running else "exited",
                "Running": self.running,
                "OOMKilled": self.out_of_memory and not self.running,
                "ExitCode": self.exit_code,
                "Error": self.refuses_to_start or "",
                "StartedAt": self.started_at,
            },
            "Config": {
                "Image": self.image,
                "Cmd": list(self.command),
                "Env": list(self.environment),
                "Labels": {"enginebench.resources": self.resources, **self.labels},
                "Tty": False,
            },
        }


class DockerEngine:
    """What the stand-in holds and has seen."""

    def __init__(self, socket: Path, containers: tuple[FakeContainer, ...]) -> None:
        self.socket = socket
        self.containers = {one.name: one for one in containers}
        #: ("POST", "/containers/x/stop?t=30"), in order
        self.calls: list[tuple[str, str]] = []
        #: for each start: everything that ran just after it
        self.running_after_start: list[list[str]] = []
        #: methods and last parts of paths that the proxy before it lets through; `None`: everything
        self.allows: set[tuple[str, str]] | None = None
        #: the same, asked of a method and a path without its query
        self.lets_through: Callable[[str, str], bool] = lambda _method, _path: True
        #: what it did not
        self.refused: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def running(self) -> list[str]:
        return [one.name for one in self.containers.values() if one.running]

    @property
    def changes(self) -> list[str]:
        """The calls that change something, such as "start a" and "stop a 30"."""
        found = []
        for method, path in self.calls:
            if method == "POST":
                parts = urlsplit(path)
                _, _, name, verb = parts.path.split("/")
                found.append(" ".join((verb, unquote(name), *parse_qs(parts.query).get("t", ()))))
        return found

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body of one call."""
        with self._lock:
            self.calls.append((method, path))
            parts = urlsplit(path)
            _, top, name, verb = parts.path.split("/")
            verbs = self.allows is None or (method, verb) in self.allows
            if top != "containers" or not (verbs and self.lets_through(method, parts.path)):
                self.refused.append((method, parts.path))
                return 403, b"Forbidden\n"
            one = self.containers.get(unquote(name))
            if one is None:
                return 404, _message(f"No such container: {name}")
            match method, verb:
                case "GET", "json":
                    return 200, json.dumps(one.describe()).encode()
                case "GET", "logs":
                    return 200, _frames(one.log)
                case "POST", "start":
                    return self._start(one)
                case "POST", "stop":
                    return self._stop(one, int(parse_qs(parts.query)["t"][0]))
            return 404, _message("page not found")

    def _start(self, one: FakeContainer) -> tuple[int, bytes]:
        if one.running:
            return 304, b""
        if one.refuses_to_start is not None:
            return 500, _message(one.refuses_to_start)
        one.start()
        self.running_after_start.append(self.running)
        return 204, b""

    def _stop(self, one: FakeContainer, grace_s: int) -> tuple[int, bytes]:
        if not one.running:
            return 304, b""
        if not one.immortal and (grace_s == 0 or not one.ignores_sigterm):
            one.end(137 if grace_s == 0 else 143)
        return 204, b""


@contextmanager
def docker_engine(folder: Path, *containers: FakeContainer) -> Iterator[DockerEngine]:
    """The stand-in, listening on a socket in `folder` for the length of a `with` block."""
    engine = DockerEngine(folder / "docker.sock", containers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the calls are kept."""

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = engine.answer(self.command, self.path)
            self.send_response(status)
            if status not in (204, 304):
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            if status not in (204, 304):
                self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(engine.socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()
            for one in engine.containers.values():
                if one.running:
                    one.end(137)


def _message(words: str) -> bytes:
    return json.dumps({"message": words}).encode()


def _frames(log: str) -> bytes:
    """Each line a frame, on stdout and stderr in turn."""
    framed = b""
    for number, line in enumerate(log.encode().splitlines(keepends=True)):
        framed += bytes([1 + number % 2, 0, 0, 0]) + len(line).to_bytes(4, "big") + line
    return framed
