"""The Docker Engine's API, as much of it as one turn takes: inspect, logs, start, stop.

Over the Engine's Unix socket, or over TCP to a proxy that lets nothing else through. Paths carry no version: the Engine
then speaks its newest, and what is used here has been the same since 1.24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from engines.errors import LaunchFailed

#: Lines asked for, and bytes kept of them.
TAIL_LINES = 200
TAIL_BYTES = 8192

#: Longest wait for anything but a stop.
TIMEOUT_S = 30.0

_FIELD = "reach.container"


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container as the Engine describes it."""

    name: str
    running: bool
    #: `None` while it runs
    exit_code: int | None
    #: the kernel killed it for its memory limit
    out_of_memory: bool
    #: why the Engine could not start it; "" where it could
    error: str
    #: when it was last started, as the Engine writes it: two starts never have the same; "": not said
    started_at: str
    #: the same in s since the epoch; `None`: never
    started_s: int | None
    #: as whoever created it names it, tag included
    image: str
    #: Docker's id of the image, "sha256:…": the digest of its configuration (with the containerd image store, of its
    #: manifest), by which one host knows it; not what a registry calls its digest
    image_id: str
    #: arguments after the image's own entry point
    command: tuple[str, ...]
    #: "NAME=value", the image's own included
    environment: tuple[str, ...]
    labels: Mapping[str, str]


class DockerClient:
    """A client to one Docker Engine. A context manager."""

    def __init__(self, url: str) -> None:
        """`url`: `unix:///path/of/socket` or `tcp://host:port`. Raises ValueError for anything else."""
        self.url = url
        scheme, _, rest = url.partition("://")
        transport: httpx.HTTPTransport | None = None
        self._socket = Path(rest) if scheme == "unix" and rest.startswith("/") else None
        if self._socket is not None:
            transport, base = httpx.HTTPTransport(uds=rest), "http://docker"
        elif scheme in ("tcp", "http") and rest:
            base = f"http://{rest}"
        else:
            raise ValueError(f"{url!r} is no Docker Engine: write unix:///path/of/socket or tcp://host:port")
        self._client = httpx.Client(base_url=base, transport=transport, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> DockerClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def inspect(self, name: str) -> ContainerState:
        """What the container is and how it does. Raises LaunchFailed where there is none, or no answer."""
        return _state(name, self._ask("GET", name, "json").json())

    def start(self, name: str) -> None:
        """Starts it; one that runs stays as it is. Raises LaunchFailed with the Engine's own reason."""
        self._ask("POST", name, "start")

    def stop(self, name: str, timeout_s: float) -> None:
        """SIGTERM, and after `timeout_s` (0: at once) SIGKILL; returns when it is gone. Raises LaunchFailed."""
        self._ask("POST", name, f"stop?t={round(timeout_s)}", wait_s=timeout_s + TIMEOUT_S)

    def log_tail(self, name: str, since_s: int | None = None) -> bytes:
        """The last lines it wrote, both streams, at most twice `TAIL_BYTES`. Raises LaunchFailed.

        Args:
            name: the container.
            since_s: only what it wrote since then, s since the epoch.
        """
        since = "" if since_s is None else f"&since={since_s}"
        answer = self._ask("GET", name, f"logs?stdout=1&stderr=1&tail={TAIL_LINES}{since}")
        return plain_log(answer.content)[-2 * TAIL_BYTES :]

    def _ask(self, method: str, name: str, what: str, *, wait_s: float = TIMEOUT_S) -> httpx.Response:
        path = f"/containers/{quote(name, safe='')}/{what}"
        if self._socket is not None and not self._socket.is_socket():
            raise self._unreachable("there is no such socket")
        try:
            answer = self._client.request(method, path, timeout=httpx.Timeout(wait_s, connect=5.0))
        except httpx.TimeoutException:
            raise LaunchFailed(f"the Docker Engine at {self.url} did not answer {path} in time", field=_FIELD) from None
        except httpx.HTTPError as error:
            raise self._unreachable(str(error)) from None
        # 304: it already was as it should be.
        if answer.is_success or answer.status_code == 304:
            return answer
        raise LaunchFailed(_refusal(name, what.partition("?")[0], answer), field=_FIELD)

    def _unreachable(self, why: str) -> LaunchFailed:
        mend = "mend ENGINEBENCH_DOCKER_URL, or start it"
        return LaunchFailed(f"the Docker Engine at {self.url} cannot be reached ({why}); {mend}", field=_FIELD)


def plain_log(raw: bytes) -> bytes:
    """A log without the headers that tell its two streams apart: stream, three zeros, length. As it is with a TTY."""
    kept = bytearray()
    at = 0
    while at + 8 <= len(raw):
        if raw[at] > 2 or raw[at + 1 : at + 4] != b"\0\0\0":
            return raw
        size = int.from_bytes(raw[at + 4 : at + 8], "big")
        kept += raw[at + 8 : at + 8 + size]
        at += 8 + size
    return bytes(kept) if at else raw


def _refusal(name: str, verb: str, answer: httpx.Response) -> str:
    match answer.status_code:
        case 404:
            return f"there is no container {name!r}; create it (docker compose --profile gpu create), or mend the name"
        case 403:
            return f"the Docker socket's proxy does not allow {verb} of {name!r}; list it there, or mend the name"
    return f"the Docker Engine refused to {verb} {name!r}, status {answer.status_code}: {_words(answer)}"


def _words(answer: httpx.Response) -> str:
    """The Engine's reason, on one line."""
    try:
        told = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        told = answer.text
    return " ".join(str(told).split())[:500]


def _state(name: str, described: Any) -> ContainerState:
    found = described if isinstance(described, dict) else {}
    state, config = found.get("State") or {}, found.get("Config") or {}
    running = bool(state.get("Running"))
    return ContainerState(
        name=name,
        running=running,
        exit_code=None if running else state.get("ExitCode"),
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        started_at=str(state.get("StartedAt") or ""),
        started_s=_epoch_s(str(state.get("StartedAt") or "")),
        image=str(config.get("Image") or ""),
        image_id=str(found.get("Image") or ""),
        command=tuple(map(str, config.get("Cmd") or ())),
        environment=tuple(map(str, config.get("Env") or ())),
        labels=dict(config.get("Labels") or {}),
    )


def _epoch_s(stamp: str) -> int | None:
    """Whole seconds of "2026-11-23T09:00:00.123456789Z"; `None` for the year 1, which means never."""
    try:
        moment = datetime.fromisoformat(f"{stamp[:19]}+00:00")
    except ValueError:
        return None
    return None if moment.year == 1 else int(moment.timestamp())
