"""A demo that is ended in mid-run leaves nothing running."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.fakes.service import await_true


def processes_below(folder: Path) -> list[int]:
    """Those that name the folder in their environment, as the service of a demo does."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if str(folder).encode() in environment:
            found.append(int(entry.name))
    return found


def is_running(url: str) -> bool:
    return bool(httpx.get(f"{url}/v1/runs?status=running", timeout=30.0).json()["items"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_it(how: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "services.cli.main", "demo", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        url = next(line.split()[-1] for line in demo.stderr if line.startswith("the service answers at"))
        await_true(lambda: is_running(url), 120, lambda: "no run began")
        assert processes_below(data)
        demo.send_signal(how)
        demo.stderr.read()
        demo.wait(60)
    await_true(lambda: not processes_below(data), 60, lambda: f"left: {processes_below(data)}")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
