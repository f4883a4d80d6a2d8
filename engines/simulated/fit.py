"""Fits the three parameters of each engine on the published rows, and says what the others come out as.

The rows leave one direction open: at batch 1 a step may be long because reads are slow or because its overhead is
large. So each parameter has a stated expectation, held far more weakly than the figures: what comes out meets the
figures, and lies as near to the expectation as they let it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from engines.simulated.profiles import FITTED, PROFILES
from engines.simulated.published import ROWS, PublishedRow
from engines.simulated.scheduler import Sequence, run_burst
from engines.simulated.step_time import Fitted

#: what kernels of this kind reach where nothing else is known: half the FLOPs, 85 % of the bandwidth, 3 ms of Python
EXPECTED = Fitted(prefill_efficiency=0.5, decode_efficiency=0.85, overhead_s=0.003)
#: standard deviations of the logarithms: of a figure, and of an expectation
FIGURE_SIGMA = 0.002
EXPECTED_SIGMA = 0.2


def predict(row: PublishedRow, fitted: Fitted | None = None) -> float:
    """The row's figure as the scheduler gives it, in the row's own unit."""
    scheduler = PROFILES[row.profile].scheduler(fitted)
    sequences = [Sequence(row.input_tokens, row.output_tokens, row.output_tokens) for _ in range(row.requests)]
    makespan_s = run_burst(scheduler, sequences).makespan_s
    if row.duration_s is not None:
        return makespan_s
    return row.requests * row.output_tokens / makespan_s


def fit_all() -> dict[str, Fitted]:
    """Parameters of both engines. TGI has one figure only, so what is expected of it is what vLLM came out as."""
    rows = {
        engine: [row for row in ROWS if row.fitted and row.profile.startswith(engine)] for engine in ("vllm", "tgi")
    }
    vllm = fit(rows["vllm"], EXPECTED)
    return {"vllm": vllm, "tgi": fit(rows["tgi"], vllm)}


def fit(rows: list[PublishedRow], expected: Fitted) -> Fitted:
    """Least squares over the logarithms, by Gauss-Newton from the expectation; rounded to four digits."""
    start = [math.log(value) for value in _values(expected)]

    def residuals(point: list[float]) -> list[float]:
        fitted = Fitted(*(math.exp(value) for value in point))
        misses = [math.log(predict(row, fitted) / row.published) / FIGURE_SIGMA for row in rows]
        return misses + [(value - origin) / EXPECTED_SIGMA for value, origin in zip(point, start, strict=True)]

    point = start
    for _ in range(8):
        step = _gauss_newton_step(residuals, point)
        point = [value - change for value, change in zip(point, step, strict=True)]
    return Fitted(*(float(f"{math.exp(value):.4g}") for value in point))


def prediction_table() -> str:
    """What each published row comes out as, and what it misses by: text for a terminal."""
    lines = ["row                                       published   simulated     miss", "-" * 70]
    for row in ROWS:
        figure = predict(row)
        unit = "s" if row.duration_s is not None else "tok/s"
        name = f"{row.profile} {row.requests}×{row.input_tokens}/{row.output_tokens}"
        part = "fitted" if row.fitted else "held out"
        miss = figure / row.published - 1
        lines.append(f"{name:<32} {part:<9}{row.published:>8.2f} {unit:<5}{figure:>6.2f} {unit:<5} {miss:>+7.1%}")
    for engine, fitted in FITTED.items():
        lines.append(
            f"{engine}: prefill efficiency {fitted.prefill_efficiency}, decode efficiency {fitted.decode_efficiency}, "
            f"overhead {fitted.overhead_s * 1e3:.4g} ms a step"
        )
    return "\n".join(lines) + "\n"


def _values(fitted: Fitted) -> tuple[float, float, float]:
    return fitted.prefill_efficiency, fitted.decode_efficiency, fitted.overhead_s


def _gauss_newton_step(residuals: Callable[[list[float]], list[float]], point: list[float]) -> list[float]:
    base = residuals(point)
    width = 1e-4
    columns = []
    for axis in range(len(point)):
        moved = list(point)
        moved[axis] += width
        columns.append([(after - before) / width for after, before in zip(residuals(moved), base, strict=True)])
    normal = [[sum(a * b for a, b in zip(left, right, strict=True)) for right in columns] for left in columns]
    gradient = [sum(a * b for a, b in zip(column, base, strict=True)) for column in columns]
    return _solve(normal, gradient)


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss-Jordan elimination of a small, positive definite system."""
    size = len(right)
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for pivot in range(size):
        scale = rows[pivot][pivot]
        rows[pivot] = [value / scale for value in rows[pivot]]
        for other in range(size):
            if other != pivot:
                factor = rows[other][pivot]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[pivot], strict=True)]
    return [rows[line][size] for line in range(size)]
