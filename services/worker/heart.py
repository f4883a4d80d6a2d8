"""Whether a worker gets on, for a health check: a file that it touches, whose age is looked at from outside.

worker.lock says that a worker holds the folder, which a hung one does too.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from bench_runner.plan.spec import RunSpec
from engines.spec import Attached

#: Beside what its limits give a run: stopping its engine, its calibration, handing its result in.
_MARGIN_S = 900.0


@dataclass(frozen=True, slots=True)
class Heart:
    """Touched at every look at the queue, at every renewal of a lease, at every try of a database that is away."""

    state_dir: Path

    def beat(self) -> None:
        """The worker gets on. A disk that takes nothing is told elsewhere."""
        with contextlib.suppress(OSError):
            (self.state_dir / "worker.alive").touch()


def longest_s(spec: RunSpec) -> float:
    """How long a run may take by its own limits, its engine's start and its calibration included; then it hangs."""
    start_s = 0.0 if isinstance(spec.target.reach, Attached) else spec.target.reach.ready_timeout_s
    return start_s + 2 * spec.limits.run_timeout_s + _MARGIN_S
