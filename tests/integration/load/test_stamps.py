"""The kernel stamps what comes before a load process has a socket of its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from bench_runner.errors import LoadFailed
from bench_runner.load import process
from bench_runner.load.connection import SO_TIMESTAMPNS
from bench_runner.load.contract import RunControl
from tests.integration.load.plans import make_plan


def asking() -> int:
    """Sockets of this process that ask for stamps."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(entry.name))) as one:
                found += one.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS)
        except OSError:
            continue  # no socket, or gone with the listing
    return found


def test_stamps_are_asked_for_while_load_processes_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def refuse(*_: object) -> None:
        seen.append(asking())
        raise LoadFailed("not started")

    monkeypatch.setattr(process, "LoadProcess", refuse)
    before = asking()
    with pytest.raises(LoadFailed, match="not started"):
        process.drive(make_plan(tmp_path / "spool", 1, 1), RunControl())
    assert seen == [before + 1]
    assert asking() == before
