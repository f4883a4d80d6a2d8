"""Engines whose worker was killed: found by their records, ended at the next start, their overlay folders taken away.

A process id alone names nothing, for ids are used again: a record counts only within one boot, and a process only with
its time of start. A session keeps its number as long as one process is in it, so what is left of a session whose first
process is gone is still the engine's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from engines.clock import monotonic_ns, sleep_s
from engines.launch.keeper import session_members, signal_all, started_at

#: From SIGTERM to SIGKILL.
GRACE_S = 10.0


def launches_folder(state_dir: Path) -> Path:
    """Where logs and records of launched engines are."""
    return state_dir / "launches"


def boot_id() -> str:
    """Names this boot of the host: process ids of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def reap_orphans(state_dir: Path) -> int:
    """Ends the engines of workers that are gone, with SIGTERM, then SIGKILL, and takes their overlay folders away.

    What belongs to workers that still live is left alone, so several workers may share one folder.

    Returns:
        How many engines were still running.
    """
    folder = launches_folder(state_dir)
    orphans = [path for path in sorted(folder.glob("*.json")) if not has_living_owner(path)]
    ended = sum(end_recorded(path) for path in orphans)
    for owner in folder.glob("*.overlay.owner"):
        if not has_living_owner(owner):
            drop_overlay(owner)
    return ended


def end_recorded(path: Path) -> bool:
    """Ends what is left of one recorded launch and drops the record; True where something was."""
    record = read_record(path)
    left = _left(record)
    if left:
        signal_all(left, signal.SIGTERM)
        deadline_ns = monotonic_ns() + int(GRACE_S * 1e9)
        while _left(record) and monotonic_ns() < deadline_ns:
            sleep_s(0.05)
        deadline_ns = monotonic_ns() + int(GRACE_S * 1e9)
        while (rest := _left(record)) and monotonic_ns() < deadline_ns:
            signal_all(rest, signal.SIGKILL)
            sleep_s(0.05)
    if not _left(record):
        path.unlink(missing_ok=True)
    return bool(left)


def ownership() -> dict[str, Any]:
    """Names this process in this boot, as records do."""
    return {"boot": boot_id(), "owner": [os.getpid(), started_at(os.getpid())]}


def write_owner(path: Path, **more: Any) -> None:
    """Says whose something is, an overlay folder or a container, before there is it. Raises OSError.

    Args:
        path: the record.
        more: what it takes to do away with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(ownership() | more))
    fresh.replace(path)


def drop_overlay(owner: Path) -> None:
    """Takes an overlay folder away, then the word on whose it is, so that a kill in between leaves one to be found."""
    folder = owner.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        if not folder.exists():
            owner.unlink()


def has_living_owner(path: Path) -> bool:
    """The process that wrote the record, in this boot, still lives."""
    record = read_record(path)
    return record.get("boot") == boot_id() and _lives(record.get("owner"))


def _left(record: dict[str, Any]) -> list[int]:
    """Living processes of a record: its keeper, and the engine's whole session."""
    if record.get("boot") != boot_id():
        return []
    left = [record["keeper"][0]] if _lives(record.get("keeper")) else []
    engine = record.get("engine")
    if isinstance(engine, list) and len(engine) == 2 and isinstance(engine[0], int):
        leader_started = started_at(engine[0])
        if leader_started in (None, engine[1]):
            left += session_members(engine[0])
    return left


def _lives(named: Any) -> bool:
    """A (pid, start) pair names a process that still lives."""
    if not isinstance(named, list) or len(named) != 2 or not isinstance(named[0], int):
        return False
    return named[1] is not None and started_at(named[0]) == named[1]


def read_record(path: Path) -> dict[str, Any]:
    """A record; {} where it cannot be read, which names no process."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
