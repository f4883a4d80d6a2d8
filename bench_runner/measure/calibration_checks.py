"""Was the client good enough for what it measured? What `validity` asks of the run's own calibration. Pure."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from bench_runner.measure.evidence import Evidence
from bench_runner.measure.host_checks import name_cause
from bench_runner.measure.result import Reason

#: A noise floor above this share of the median that rests on it takes the run's word away …
FLOOR_SHARE = 0.02
#: … but never one below this: kernel stamps are off by hundredths of a millisecond, a client's own clock readings by
#: several milliseconds beside a busy neighbour, and this lies between.
FLOOR_LEAST_S = 0.001


def check_calibration(evidence: Evidence) -> list[Reason]:
    """The client's noise floor against the run's own medians. A run without a calibration is not judged by it."""
    calibration = evidence.calibration
    if calibration is None:
        return []
    ttft_s = [record.ttft_s for record in evidence.good if record.ttft_s is not None]
    gaps_s = [(b - a) / 1e9 for record in evidence.good for a, b in pairwise(record.event_ns)]
    found = []
    for words, error, figures_s in (("TTFT", calibration.ttft, ttft_s), ("event stamps", calibration.event, gaps_s)):
        limit_s = max(FLOOR_LEAST_S, FLOOR_SHARE * median(figures_s or [0.0]))
        if error.noise_floor_s > limit_s:
            found.append(
                f"{words} by up to {error.noise_floor_s * 1e3:.2f} ms (p99 of {error.n}, "
                f"median {error.bias_s * 1e3:+.2f} ms, limit {limit_s * 1e3:.2f} ms)"
            )
    if not found:
        return []
    message = f"held against a known answer under this load, the client is off in {' and in '.join(found)}"
    return [Reason("calibration", "inconclusive", message + name_cause(calibration, "meanwhile"))]
