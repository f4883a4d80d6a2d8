"""The parent of `enginebench serve` and its two children, played by two short programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.cli import serve
from services.settings import read_settings

#: Ends with a wrong setting's exit code as soon as its sibling is there.
_API = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\nsys.exit(2)"
#: Takes its time to end.
_WORKER = """
import pathlib, signal, sys, time
ready, gone = map(pathlib.Path, sys.argv[1:3])
def end(*_):
    time.sleep(0.5)
    gone.touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
ready.touch()
time.sleep(60)
"""


def test_it_ends_after_its_children_and_with_the_code_of_the_one_that_died(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready, gone = str(tmp_path / "ready"), tmp_path / "gone"
    commands = {
        "--api-only": [sys.executable, "-c", _API, ready],
        "--worker-only": [sys.executable, "-c", _WORKER, ready, str(gone)],
    }
    monkeypatch.setattr(serve, "_again", commands.__getitem__)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(serve, "_configure_logs", lambda _: None)
    assert serve.serve_both(read_settings()) == 2
    assert gone.exists()
