"""Servers that know the truth: the project's own replay, or another that keeps the same log (`truthd`)."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.clock import monotonic_ns, sleep_s
from engines.simulated.start import SimulatedServer, replay_server

#: of one token's event: about what engines send
EVENT_BYTES = 180
_TIMEOUT_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Truth:
    """One request as the server had it: monotonic nanoseconds."""

    arrival_ns: int
    token_ns: list[int]


@dataclass(frozen=True, slots=True)
class Pace:
    """When tokens leave: the first so long after the request, the others at even gaps; all at once for 0, 0."""

    ttft_ms: float
    itl_ms: float
    #: of the longest answer
    tokens: int = 128

    @property
    def offsets_ns(self) -> list[int]:
        """As a row of a timeline."""
        return [round((self.ttft_ms + self.itl_ms * k) * 1e6) for k in range(self.tokens)]

    @property
    def full_speed(self) -> bool:
        """Nothing waits for anything."""
        return self.ttft_ms == self.itl_ms == 0


class KnownServer:
    """A running server with its log."""

    def __init__(self, url: str, model: str, pid: int, replay: SimulatedServer | None) -> None:
        self.url = url
        self.model = model
        self.pid = pid
        self._replay = replay

    def next_index(self) -> int:
        """Of the request that comes next."""
        if self._replay is not None:
            return int(self._replay.ask("GET", f"/truth?since={1 << 60}")["next"])
        return len(_get(self.url, "/truth")["requests"])

    def truths(self, since: int = 0) -> dict[int, list[Truth]]:
        """Of requests from that index on, by the client's port; of each port in the order of their arrival."""
        if self._replay is not None:
            rows = [(one["local_port"], one["arrival_ns"], one["token_ns"]) for one in self._replay.truth(since)]
        else:
            told = _get(self.url, f"/truth?tokens=1&since={since}")["requests"]
            rows = [(one["port"], one["arrive"], one["t"]) for one in told]
        by_port: dict[int, list[Truth]] = {}
        for port, arrival_ns, token_ns in sorted(rows, key=lambda row: row[1]):
            by_port.setdefault(port, []).append(Truth(arrival_ns, token_ns))
        return by_port

    def cpu_s(self) -> float:
        """CPU time it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@contextmanager
def known_server(
    pace: Pace, *, truthd: Path | None = None, core: int | None = None, tls_pem: Path | None = None
) -> Iterator[KnownServer]:
    """One for the length of a `with` block, each token in a send of its own.

    Args:
        pace: of its answers.
        truthd: another server program that keeps the same log; `None`: the replay.
        core: that it is held to; `None`: any.
        tls_pem: key and certificate: TLS, of the replay alone.
    """
    if truthd is not None:
        with _running_truthd(truthd, pace, core) as server:
            yield server
        return
    with replay_server([pace.offsets_ns], event_bytes=EVENT_BYTES, singly=True, keep=20_000, tls_pem=tls_pem) as replay:
        if core is not None:
            os.sched_setaffinity(replay.pid, {core})
        yield KnownServer(replay.url, replay.model, replay.pid, replay)


@contextmanager
def _running_truthd(program: Path, pace: Pace, core: int | None) -> Iterator[KnownServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--blast", "--burst", "1"]
    if not pace.full_speed:
        flags = ["--ttft-ms", str(pace.ttft_ms), "--itl-ms", str(pace.itl_ms)]
    command = [str(program), "--port", str(port), *flags, "--core", str(-1 if core is None else core)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_listening(process, port)
        yield KnownServer(f"http://127.0.0.1:{port}", "truth-model", process.pid, None)
    finally:
        process.terminate()
        process.wait()


def _await_listening(process: subprocess.Popen[bytes], port: int) -> None:
    give_up_ns = monotonic_ns() + 5_000_000_000
    while process.poll() is None and monotonic_ns() < give_up_ns:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            sleep_s(0.02)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def _get(url: str, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection(url.partition("//")[2], timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        told = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert isinstance(told, dict)
    return told
