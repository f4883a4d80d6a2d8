"""`enginebench`, judging runs as on a machine of its own: for tests of what shows results, wherever they are run.

A test machine that others use too makes runs INCONCLUSIVE, and an inconclusive run's figures are shown nowhere, as they
should not be. What says so is held by tests/integration/validity; here those reasons alone are left out of a verdict,
and everything else is the service's own. Run as `python -m tests.fakes.calm serve …`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench_runner.measure import validity
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.result import Reason
from services.cli import main, serve
from tests.fakes.verdicts import MACHINE_REASONS

Check = Callable[[Evidence], list[Reason]]


def calm(check: Check) -> Check:
    """The same check, without what it finds of the machine."""
    return lambda evidence: [reason for reason in check(evidence) if reason.code not in MACHINE_REASONS]


def again(which: str) -> list[str]:
    """Children of `serve` judge like their parent."""
    return [sys.executable, "-m", "tests.fakes.calm", "serve", which, "--no-migrate"]


if __name__ == "__main__":
    validity.CHECKS = tuple(calm(check) for check in validity.CHECKS)
    serve._again = again
    sys.exit(main.main())
