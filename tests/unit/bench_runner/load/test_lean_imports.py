"""A load process is started for every run, so what it imports is part of the run's cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = {"pydantic", "json", "httpx", "numpy", "asyncio", "ssl", "logging", "subprocess"}


def test_the_load_process_imports_little() -> None:
    code = "import sys, bench_runner.load.child; print(*sys.modules)"
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert HEAVY.isdisjoint(done.stdout.split())
