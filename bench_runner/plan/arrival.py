"""When each request is sent. Pure: an arrival process and a number of requests in, send offsets out."""

from __future__ import annotations

from array import array
from typing import assert_never

from bench_runner.plan.spec import ArrivalSpec, Burst, ClosedLoop


def schedule(arrival: ArrivalSpec, requests: int) -> tuple[array[int] | None, int | None]:
    """Send offsets and the cap on requests in flight.

    Args:
        arrival: the process; one class of `spec` and one `case` here for each.
        requests: how many are sent.

    Returns:
        Offset of each request from the window's start in ns, as signed 64-bit integers, or `None` for a closed loop,
        which sends as answers come; and the most requests in flight, or `None` for no cap.
    """
    match arrival:
        case Burst():
            return array("q", bytes(8 * requests)), None
        case ClosedLoop(concurrency=concurrency):
            return None, concurrency
        case _ as unknown:
            assert_never(unknown)
