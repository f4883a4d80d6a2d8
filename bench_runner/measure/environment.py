"""Where a run was made: the client's host, the way to the server, what the server is. The one file here with I/O."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from engines.clock import monotonic_ns
from engines.spec import Attached, Launched, TargetSpec

#: Keys of the server's facts, each `None` where it is not known.
SERVER_FACTS = (
    "engine",
    "url",
    "version",
    "model_max_tokens",
    "served_models",
    "flags",
    #: what the engine says of itself (TGI's /info, vLLM's cache configuration, …)
    "info",
    #: the simulated engine's own description
    "simulated",
    "simulation",
    #: figures of the probe's one generation
    "probe",
    "startup_s",
    "pid",
)
#: Keys of the run's own facts.
RUN_FACTS = (
    "simulated",
    "endpoint",
    "hardware",
    "gpus",
    "precision",
    "flag_class",
    "socket_policy",
    "tokenizer",
    #: this host's NVIDIA cards, as `describe_host` gives them
    "cards",
    "model_revision",
)

#: Connections opened to learn the round trip, and the longest wait for one.
_TRIPS = 5
_TRIP_TIMEOUT_S = 2.0
#: Where the hub's cache has the commit of a model's repository in a path.
_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})(?:/|$)")


def describe(
    address: str | None, *, server: Mapping[str, Any], run: Mapping[str, Any], port: int | None = None
) -> dict[str, Any]:
    """The Environment of a run, as plain JSON types.

    Args:
        address: the server's resolved address; `None` where it was never resolved.
        server: values for SERVER_FACTS; no credentials.
        run: values for RUN_FACTS, as stated or found.
        port: where it listens; `None`: the round trip is not measured.

    Raises:
        ValueError: a fact has a name that is not known here.
    """
    unknown = sorted({*server} - {*SERVER_FACTS}) + sorted({*run} - {*RUN_FACTS})
    if unknown:
        raise ValueError(f"environment has no field {', '.join(unknown)}")
    path = network_path(address)
    return {
        "client": describe_client(),
        "network_path": path,
        "round_trip_s": round_trip_s(address, port) if path == "remote" and address and port else None,
        "server": {name: server.get(name) for name in SERVER_FACTS},
        **{name: run.get(name) for name in RUN_FACTS},
    }


def describe_client() -> dict[str, Any]:
    """The host the load came from. What this host does not tell is `None`."""
    return {
        "cpu_model": _first_value(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": _memory_bytes(),
        "kernel": platform.release(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "enginebench": _enginebench_version(),
        "load_average_1min": _load_average(),
        "commit": checked_out(Path(__file__).parents[2]),
    }


def checked_out(folder: Path) -> str | None:
    """The commit that a checkout stands on, whatever was changed in it since; `None`: no checkout, or not told.

    Read from git's own files, for a run must not wait for a program that may not be there.
    """
    git = folder / ".git"
    try:
        if git.is_file():
            # a worktree's own folder, whose branches are in the one it came from
            git = folder / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        common = git / "commondir"
        shared = git / common.read_text(encoding="utf-8").strip() if common.is_file() else git
        name = head.removeprefix("ref: ")
        if (shared / name).is_file():
            return (shared / name).read_text(encoding="utf-8").strip()
        packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.split(" ", 1)[0] for line in packed if line.endswith(f" {name}")), None)


def network_path(address: str | None) -> str | None:
    """The way to a resolved address: "loopback", "same host" (through an interface of ours) or "remote"."""
    if address is None:
        return None
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return None
    if ip.is_loopback:
        return "loopback"
    return "same host" if _is_ours(address, ip.version) else "remote"


def round_trip_s(address: str, port: int) -> float | None:
    """The quickest of a few handshakes with a resolved address; `None` where it takes none. No byte is sent."""
    trips = []
    for _ in range(_TRIPS):
        asked_ns = monotonic_ns()
        try:
            with socket.create_connection((address, port), timeout=_TRIP_TIMEOUT_S):
                trips.append((monotonic_ns() - asked_ns) / 1e9)
        except OSError:
            break
    return min(trips, default=None)


def model_revision(target: TargetSpec, flags: Sequence[str], info: Mapping[str, Any]) -> str | None:
    """Which weights of the model, as far as it is known: as the engine says, as it was told to, or by its folder.

    Args:
        target: what was asked for.
        flags: what the engine runs with.
        info: what it says of itself.
    """
    told = info.get("model_sha")
    if isinstance(told, str) and told:
        return told
    words = [part for flag in flags for word in flag.split() for part in word.split("=", 1)]
    asked = [value for name, value in pairwise(words) if name in ("--revision", "REVISION")]
    if asked:
        return asked[0]
    paths = [target.reach.model_path, *words] if isinstance(target.reach, Launched) else words
    found = [match[1] for path in paths if (match := _SNAPSHOT.search(path))]
    if found or isinstance(target.reach, Attached):
        return found[0] if found else None
    return next((commit for path in paths if path.startswith("/") and (commit := _fetched(path))), None)


def _fetched(folder: str) -> str | None:
    """The commit of a folder that `engines.launch.container_models` has fetched, or of an overlay beside it."""
    from engines.launch.container_models import STAMP

    try:
        commit = json.loads(Path(folder.replace("/overlay/", "/"), STAMP).read_text(encoding="utf-8"))["commit"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(commit)


def _is_ours(address: str, ip_version: int) -> bool:
    """Only an address of our own interfaces can be bound; nothing is sent."""
    family = socket.AF_INET6 if ip_version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _enginebench_version() -> str | None:
    try:
        return version("enginebench")
    except PackageNotFoundError:
        return None


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _memory_bytes() -> int | None:
    stated = _first_value(Path("/proc/meminfo"), "MemTotal")
    return int(stated.split()[0]) * 1024 if stated else None


def _first_value(path: Path, key: str) -> str | None:
    """Value of the first `key : value` line; `None` where there is no such file or line."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip() or None
    return None
