"""Where a measurement was taken, and on which cores."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """What a reader of figures must know of the host."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "realtime_allowed": _may_be_realtime(),
    }


def title_of(machine: dict[str, Any]) -> str:
    """One line for a picture."""
    return f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}"


def split_cores() -> tuple[int | None, int | None]:
    """A core for the server and one for the client; `None`, `None` where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (None, None) if len(cores) < 2 else (cores[0], cores[len(cores) // 2])


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _may_be_realtime() -> bool:
    """The load process may ask for real-time priority, which keeps it in time beside a busy neighbour."""
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        os.sched_setscheduler(0, before, os.sched_param(0))
    except OSError:
        return False
    return True
