"""A run without a service starts in well under a second, so it imports what every run needs and nothing else."""

from __future__ import annotations

import subprocess
import sys

#: each takes longer to import than much of a short run, and belongs to some runs at most
HEAVY = {
    "alembic",
    "asyncio",
    "click",
    "fastapi",
    "httpx",
    "httpx2",
    "huggingface_hub",
    "numpy",
    "prometheus_client",
    "pygments",
    "pynvml",
    "rich",
    "sqlalchemy",
    "tokenizers",
    "uvicorn",
    "yaml",
    "engines.launch.container",
    "engines.launch.process",
}


def test_a_run_imports_nothing_heavy() -> None:
    code = "import sys, bench_runner.runner, bench_runner.plan.presets, services.cli.run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "engines.control" in loaded
    assert HEAVY.isdisjoint(loaded)
