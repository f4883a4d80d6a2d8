"""Start a simulated engine as a process of its own, for tests, the demo and the calibration."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import IO, Any

from engines.errors import LaunchFailed
from engines.simulated.profiles import PROFILES

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_CONTROL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class SimulatedServer:
    """A running simulated engine."""

    #: base URL, without a trailing slash
    url: str
    port: int
    #: the model's name on the wire
    model: str
    pid: int
    profile: str
    #: kept open, so that it reaches the server while its listening socket is closed
    _control: http.client.HTTPConnection

    def truth(self, since: int = 0) -> list[dict[str, Any]]:
        """The truth log from record `since` on: one dict a generation request, as `TruthRecord.to_json` gives it."""
        requests = self.ask("GET", f"/truth?since={since}")["requests"]
        assert isinstance(requests, list)
        return requests

    def about(self) -> dict[str, Any]:
        """`GET /simulated`."""
        return self.ask("GET", "/simulated")

    def set_faults(self, *faults: dict[str, Any]) -> None:
        """Replace the planned faults; none clears them.

        Raises:
            ValueError: the server does not take them.
        """
        self.ask("POST", "/simulated/faults", {"faults": list(faults)})

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A control request: JSON in, JSON out.

        Raises:
            ValueError: the answer is not a 200.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._send(method, path, data)
        except (http.client.HTTPException, OSError):
            # an idle-close fault may have taken the connection
            self._control.close()
            answer = self._send(method, path, data)
        text = answer.read()
        if answer.status != 200:
            raise ValueError(f"{method} {path}: {answer.status} {text.decode('utf-8', 'replace')}")
        decoded = json.loads(text)
        assert isinstance(decoded, dict)
        return decoded

    def _send(self, method: str, path: str, data: bytes | None) -> http.client.HTTPResponse:
        self._control.request(method, path, data, {"content-type": "application/json"} if data else {})
        return self._control.getresponse()


@contextmanager
def simulated_engine(profile: str, *, port: int = 0, **options: Any) -> Iterator[SimulatedServer]:
    """Run a simulated engine for the length of a `with` block.

    Args:
        profile: a name of `PROFILES`.
        port: 0 takes a free one.
        options: command-line options by name, underscores for dashes: `speed=10`, `seed=3`, `never_stops=True`,
            `faults=[{"kind": "cut", "token": 3}]`, …

    Raises:
        LaunchFailed: it did not say that it listens.
    """
    command = [sys.executable, "-m", "engines.simulated", "--profile", profile, "--port", str(port), *_flags(options)]
    # the process ends with its stdin: a parent that is killed leaves no server behind
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, after the process
    process = subprocess.Popen(
        [*command, "--die-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=Path(__file__).resolve().parents[2],
    )
    try:
        ready = _await_ready(process, errors)
        control = http.client.HTTPConnection("127.0.0.1", ready["port"], timeout=_CONTROL_TIMEOUT_S)
        control.connect()
        model = str(options.get("model") or PROFILES[profile].model.name)
        try:
            yield SimulatedServer(ready["url"], ready["port"], model, ready["pid"], profile, control)
        finally:
            control.close()
    finally:
        _stop(process)
        errors.close()


def _flags(options: dict[str, Any]) -> Sequence[str]:
    flags: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        match name, value:
            case "faults", _:
                flags += [part for fault in value for part in ("--fault", json.dumps(fault))]
            case "prefix_cache", bool():
                flags += [] if value else ["--no-prefix-cache"]
            case _, bool():
                flags += [flag] if value else []
            case _, None:
                pass
            case _:
                flags += [flag, str(value)]
    return flags


def _await_ready(process: subprocess.Popen[bytes], errors: IO[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    readable, _, _ = select([process.stdout], [], [], _READY_TIMEOUT_S)
    line = process.stdout.readline() if readable else b""
    if not line:
        process.kill()
        process.wait()
        errors.seek(0)
        tail = errors.read().decode("utf-8", "replace")[-2000:]
        last_line = next(reversed(tail.strip().splitlines()), "it wrote nothing")
        raise LaunchFailed(f"the simulated engine did not start: {last_line}", log_tail=tail)
    ready = json.loads(line)
    assert isinstance(ready, dict)
    return ready


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
