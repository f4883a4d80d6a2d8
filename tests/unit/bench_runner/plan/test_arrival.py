from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bench_runner.plan.arrival import schedule
from bench_runner.plan.spec import Burst, ClosedLoop


@settings(deadline=None)
@given(st.integers(0, 5000))
def test_a_burst_is_all_at_once(requests: int) -> None:
    offsets, concurrency = schedule(Burst(), requests)
    assert offsets is not None
    assert offsets.typecode == "q"
    assert list(offsets) == [0] * requests
    assert concurrency is None


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 100))
def test_a_closed_loop_has_no_schedule(concurrency: int, requests: int) -> None:
    assert schedule(ClosedLoop(concurrency=concurrency), requests) == (None, concurrency)
