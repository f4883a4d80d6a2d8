"""What a run's client is worth: its stamps against a known answer, and which figures are finer than it can tell. Pure.

The load process is driven again, right after its window, by a server that replays a part of the run and keeps the
truth of every arrival and send. Both stamp the monotonic clock of one host, so each stamp's error is a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from bench_runner.measure.stats import percentile

#: metric -> the error that limits it
_LIMITED_BY = {
    "ttft_s": "ttft",
    "scheduled_ttft_s": "ttft",
    "e2e_s": "ttft",
    "scheduled_e2e_s": "ttft",
    "event_gap_s": "event_gap",
    "itl_s": "event_gap",
    "tpot_s": "tpot",
}


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """One replayed request: the client's stamps and the true ones, ns on one clock."""

    sent_ns: int
    event_ns: Sequence[int]
    #: of the request's last byte at the server
    arrival_ns: int
    #: just before each token was given to the socket
    token_ns: Sequence[int]


@dataclass(frozen=True, slots=True)
class ClientError:
    """How far one kind of the client's figures is from the truth."""

    n: int
    #: median of client - truth
    bias_s: float
    #: p99 of |client - truth|: differences below it are the client's
    noise_floor_s: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The client's error in one run, under that run's own load."""

    #: replayed, and of how much of the run
    requests: int
    events: int
    span_s: float
    #: all of it, the start of the server and of the load processes included
    took_s: float
    processes: int
    fresh_connections: bool
    tls: bool
    #: False: stopped at its time limit, the figures are of what came until then
    complete: bool
    ttft: ClientError
    #: of single event stamps
    event: ClientError
    #: of gaps between neighbours; `None` where no request had two events
    event_gap: ClientError | None
    #: of (last event - first) ÷ (events - 1)
    tpot: ClientError | None
    #: how late the server was with its tokens (p99): where it is large, the load was milder than the run's
    server_late_p99_s: float
    #: user stamp - kernel stamp of each read; `None` without kernel stamps
    client_lag_p99_s: float | None
    client_lag_max_s: float | None
    #: "kernel", "user" or "mixed": what the client's stamps were read from
    sent_clock: str
    event_clock: str
    #: while it was driven: time for which a load process had no CPU, and CPU time that the hypervisor gave to others;
    #: `None`: not told
    cpu_wait_s: float | None = None
    stolen_s: float | None = None

    def describe(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """As plain JSON types, with what of the Summary is below the noise floor: medians, and spreads (stddev)."""
        floors = {name: self._floor_s(name) for name in _LIMITED_BY if summary.get(name)}

        def below(figure: str) -> list[str]:
            return [
                name
                for name, floor_s in floors.items()
                if floor_s is not None and summary[name][figure] is not None and summary[name][figure] < floor_s
            ]

        return {
            **asdict(self),
            "below_noise_floor": below("p50"),
            "spread_below_noise_floor": below("stddev"),
        }

    def _floor_s(self, metric: str) -> float | None:
        error: ClientError | None = getattr(self, _LIMITED_BY[metric])
        return None if error is None else error.noise_floor_s


def errors_of(answers: Sequence[KnownAnswer]) -> dict[str, ClientError | None]:
    """The errors of TTFT, event stamps, event gaps and TPOT over all answers; `None` each where there is nothing.

    Streams that were cut short count as far as they went: bytes arrive in order.
    """
    ttft, event, gap, tpot = [], [], [], []
    for answer in answers:
        errors = [seen - true for seen, true in zip(answer.event_ns, answer.token_ns, strict=False)]
        if not errors:
            continue
        ttft.append(errors[0] - (answer.sent_ns - answer.arrival_ns))
        event += errors
        gap += [b - a for a, b in pairwise(errors)]
        if len(errors) > 1:
            tpot.append((errors[-1] - errors[0]) / (len(errors) - 1))
    return {"ttft": _error(ttft), "event": _error(event), "event_gap": _error(gap), "tpot": _error(tpot)}


def _error(errors_ns: Sequence[float]) -> ClientError | None:
    if not errors_ns:
        return None
    return ClientError(
        len(errors_ns),
        percentile(sorted(errors_ns), 0.5) / 1e9,
        percentile(sorted(map(abs, errors_ns)), 0.99) / 1e9,
    )
