"""Start a simulated engine, or a replay, as a process of its own, for tests, the demo and the calibration."""

from __future__ import annotations

import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.simulated.process import running
from engines.simulated.profiles import PROFILES
from engines.simulated.replay import MODEL

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
    flags = ["--profile", profile, "--port", str(port), *_flags(options), "--die-with-parent"]
    with running("the simulated engine", ["-m", "engines.simulated", *flags]) as ready:
        control = http.client.HTTPConnection("127.0.0.1", ready["port"], timeout=_CONTROL_TIMEOUT_S)
        control.connect()
        model = str(options.get("model") or PROFILES[profile].model.name)
        try:
            yield SimulatedServer(ready["url"], ready["port"], model, ready["pid"], profile, control)
        finally:
            control.close()


@contextmanager
def replay_server(
    offsets_ns: Sequence[Sequence[int]],
    *,
    event_bytes: int = 0,
    singly: bool = False,
    keep: int | None = None,
    tls_pem: Path | None = None,
) -> Iterator[SimulatedServer]:
    """Run the replay of a timeline for the length of a `with` block; its answers come at offsets from the request.

    Args:
        offsets_ns: as in `engines.simulated.timeline.Timeline`; so are `event_bytes`, `singly` and `keep`.
        tls_pem: key and certificate of `localhost`, in one file: it speaks TLS, as https://localhost.

    Raises:
        LaunchFailed: it did not say that it listens.
    """
    with tempfile.TemporaryDirectory() as folder:
        timeline = Path(folder) / "timeline.json"
        stored = {"event_bytes": event_bytes, "offsets_ns": offsets_ns, "singly": singly, "keep": keep}
        timeline.write_text(json.dumps(stored))
        tls = [] if tls_pem is None else ["--tls-pem", str(tls_pem)]
        arguments = ["-m", "engines.simulated.replay", "--timeline", str(timeline), *tls]
        with running("the replay server", arguments, lean=True) as ready:
            port = ready["port"]
            if tls_pem is None:
                url, control = f"http://127.0.0.1:{port}", http.client.HTTPConnection("127.0.0.1", port)
            else:
                trusting = ssl.create_default_context(cafile=str(tls_pem))
                url, control = (
                    f"https://localhost:{port}",
                    http.client.HTTPSConnection("localhost", port, context=trusting),
                )
            try:
                yield SimulatedServer(url, port, MODEL, ready["pid"], "replay", control)
            finally:
                control.close()


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
