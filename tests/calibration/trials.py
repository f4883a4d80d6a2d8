"""One real `enginebench run` of paced streams under a harder condition, beside the recorded truth."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.calibration.bars import MOST_TLS_TTFT_ERROR_S, MOST_TTFT_ERROR_S
from tests.calibration.figures import precision
from tests.calibration.known_server import Pace, known_server
from tests.calibration.machine import split_cores
from tests.calibration.side_by_side import Carried, Load, Place, carry_out

PACE = Pace(200, 20)
#: key and certificate of `localhost`, of no use anywhere else
CERTIFICATE = Path(__file__).parents[1] / "integration" / "load" / "localhost.pem"
#: reasons that name a client which had not the CPU it needed
HOST_REASONS = frozenset({"client_cpu", "client_lag", "send_lag", "cpu_wait", "cpu_stolen", "calibration"})


def tls_trial(streams: int, repeats: int) -> dict[str, Any]:
    """Over TLS, against the replay."""
    with tempfile.TemporaryDirectory() as folder:
        found = [_carry_out(streams, Path(folder), CERTIFICATE)[0] for _ in range(repeats)]
    row = _middle(found)
    return {"streams": streams, **row, "holds": row["ttft_error_p99_s"] <= MOST_TLS_TTFT_ERROR_S, "repeats": found}


def hogged_trial(streams: int, repeats: int) -> dict[str, Any]:
    """Beside a process that burns the client's core: the error stays small, or the run says that it is no good.

    `holds` is both: each repeat was within the limit, or not VALID for a reason that names the host.
    """
    _, core = split_cores()
    found, good = [], True
    with tempfile.TemporaryDirectory() as folder, _hog(core):
        for _ in range(repeats):
            row, carried = _carry_out(streams, Path(folder))
            told = carried.validity != "VALID" and bool(HOST_REASONS & set(carried.reasons))
            good &= row["ttft_error_p99_s"] <= MOST_TTFT_ERROR_S or told
            found.append(row | {"validity": carried.validity, "reasons": carried.reasons})
    row = _middle(found)
    validity = sorted({one["validity"] for one in found})
    reasons = sorted({code for one in found for code in one["reasons"]})
    return {"streams": streams, **row, "validity": validity, "reasons": reasons, "holds": good, "repeats": found}


def _carry_out(streams: int, folder: Path, pem: Path | None = None) -> tuple[dict[str, Any], Carried]:
    server_core, client_core = split_cores()
    with known_server(PACE, core=server_core, tls_pem=pem) as server:
        place = Place(folder, client_core, ca_file=pem)
        carried = carry_out("enginebench", server, Load(streams, streams), place)
        row = precision(carried.rows, server.truths())
    if row["complete"] != streams:
        raise RuntimeError(f"{row['complete']} of {streams} streams came whole")
    return row, carried


def _middle(found: list[dict[str, Any]]) -> dict[str, float]:
    names = ("ttft_error_p50_s", "ttft_error_p99_s", "gap_error_p99_s", "send_spread_s")
    return {name: median(float(one[name]) for one in found) for name in names}


@contextmanager
def _hog(core: int | None) -> Iterator[None]:
    """A process at normal priority that never waits, on one core."""
    hog = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        if core is not None:
            os.sched_setaffinity(hog.pid, {core})
        yield
    finally:
        hog.kill()
        hog.wait()
