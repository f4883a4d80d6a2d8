"""Schedules: bursts, closed loops, and open loops that are what they are called."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_runner.errors import SpecError
from bench_runner.plan.arrival import Schedule, measured_window, schedule, window_notes
from bench_runner.plan.spec import (
    ArrivalSpec,
    Burst,
    ClosedLoop,
    Constant,
    Gamma,
    Poisson,
    Ramp,
    Step,
    Trace,
    expected_requests,
    most_requests,
)

SEEDS = range(20)
RATE, REQUESTS = 60.0, 2400


def plan(arrival: ArrivalSpec, requests: int, seed: int = 1, **more: object) -> Schedule:
    arguments: dict[str, object] = {"seed": seed, "repeat": 0, "attempt": 1}
    return schedule(arrival, requests, **(arguments | more))  # type: ignore[arg-type]


def seconds(planned: Schedule) -> list[float]:
    assert planned.offsets_ns is not None
    return [offset / 1e9 for offset in planned.offsets_ns]


def gaps_of(offsets: list[float]) -> list[float]:
    return [b - a for a, b in pairwise([0.0, *offsets])]


def dispersion(offsets: list[float], bin_s: float) -> float:
    """Variance of the counts in bins ÷ their mean: 1 for Poisson. The last bin, which is not full, is left out."""
    counts = [0] * int(offsets[-1] / bin_s)
    for offset in offsets:
        if (at := int(offset / bin_s)) < len(counts):
            counts[at] += 1
    return statistics.variance(counts) / statistics.fmean(counts)


def kolmogorov_smirnov(gaps: list[float], rate: float) -> float:
    """√n × the largest distance of the gaps' distribution from the exponential one; one in a hundred is above 1.63."""
    ordered, n = sorted(gaps), len(gaps)
    below = (1 - math.exp(-rate * gap) for gap in ordered)
    return math.sqrt(n) * max(max((k + 1) / n - p, p - k / n) for k, p in enumerate(below))


def correlation(gaps: list[float]) -> float:
    return statistics.correlation(gaps[:-1], gaps[1:])


@settings(deadline=None)
@given(st.integers(0, 5000))
def test_a_burst_is_all_at_once(requests: int) -> None:
    planned = plan(Burst(), requests)
    assert planned.offsets_ns is not None
    assert planned.offsets_ns.typecode == "q"
    assert list(planned.offsets_ns) == [0] * requests
    assert planned == Schedule(planned.offsets_ns, None, span_ns=0)


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 100))
def test_a_closed_loop_has_no_schedule(concurrency: int, requests: int) -> None:
    assert plan(ClosedLoop(concurrency=concurrency), requests) == Schedule(None, concurrency)


def test_a_closed_loop_by_duration_sends_nothing_new_after_it() -> None:
    assert plan(ClosedLoop(concurrency=2), 9, duration_s=1.5) == Schedule(None, 2, send_until_ns=1_500_000_000)


def test_think_times() -> None:
    fixed = plan(ClosedLoop(concurrency=2, think_time_s=0.25), 5)
    assert fixed.think_ns is not None
    assert list(fixed.think_ns) == [250_000_000] * 5
    drawn = plan(ClosedLoop(concurrency=2, think_time_s=0.25, think_time="exponential"), 4000)
    assert drawn.think_ns is not None
    assert statistics.fmean(drawn.think_ns) == pytest.approx(0.25e9, rel=0.05)
    assert kolmogorov_smirnov([gap / 1e9 for gap in drawn.think_ns], 4) < 1.95
    assert drawn == plan(ClosedLoop(concurrency=2, think_time_s=0.25, think_time="exponential"), 4000)


class TestPoisson:
    """Poisson that is Poisson, over 20 seeds of 2,400 requests at 60 a second."""

    offsets = tuple(seconds(plan(Poisson(rate_per_s=RATE), REQUESTS, seed)) for seed in SEEDS)

    def test_counts_vary_as_much_as_their_mean(self) -> None:
        spread = [dispersion(offsets, 0.1) for offsets in self.offsets]
        assert 0.95 <= statistics.fmean(spread) <= 1.05
        assert all(0.7 < one < 1.4 for one in spread)

    def test_gaps_are_exponential(self) -> None:
        found = [kolmogorov_smirnov(gaps_of(offsets), RATE) for offsets in self.offsets]
        assert max(found) < 1.95, "one seed in a thousand is above"
        assert statistics.median(found) < 1.1
        pooled = [gap for offsets in self.offsets for gap in gaps_of(offsets)]
        assert kolmogorov_smirnov(pooled, RATE) < 1.63

    def test_a_gap_says_nothing_of_the_next(self) -> None:
        assert abs(statistics.fmean(correlation(gaps_of(offsets)) for offsets in self.offsets)) < 0.02

    def test_no_sequence_of_gaps_comes_twice(self) -> None:
        pairs = [pair for offsets in self.offsets for pair in pairwise(gaps_of(offsets))]
        assert len(set(pairs)) == len(pairs) == len(SEEDS) * (REQUESTS - 1)

    def test_the_rate_is_kept(self) -> None:
        rates = [REQUESTS / offsets[-1] for offsets in self.offsets]
        assert statistics.fmean(rates) == pytest.approx(RATE, rel=0.02)

    @pytest.mark.parametrize("processes", [2, 4])
    def test_dealt_to_several_processes_it_is_the_same_schedule(self, processes: int) -> None:
        whole = self.offsets[0]
        dealt = [whole[process::processes] for process in range(processes)]
        assert sorted(offset for share in dealt for offset in share) == whole
        firsts = {tuple(gaps_of(share)[:3]) for share in dealt}
        assert len(firsts) == processes

    def test_repeats_and_attempts_have_gaps_of_their_own(self) -> None:
        first = [
            gaps_of(seconds(schedule(Poisson(rate_per_s=5), 2, seed=1, repeat=repeat, attempt=attempt)))[0]
            for repeat in range(3)
            for attempt in (1, 2)
        ]
        assert len(set(first)) == 6

    def test_it_stays_the_same(self) -> None:
        """Held to values: two results with one spec were sent at the same moments, whichever version planned them."""
        planned = schedule(Poisson(rate_per_s=10), 4, seed=7, repeat=1, attempt=2)
        assert planned == Schedule(
            planned.offsets_ns, None, span_ns=planned.offsets_ns[-1] if planned.offsets_ns else 0
        )
        assert [round(offset * 1e3) for offset in seconds(planned)] == HELD_MS


def test_gamma_of_shape_one_is_poisson() -> None:
    gamma = seconds(plan(Gamma(rate_per_s=60, burstiness=1), 500))
    assert gamma == pytest.approx(seconds(plan(Poisson(rate_per_s=60), 500)), rel=1e-9)


@pytest.mark.parametrize(("burstiness", "low", "high"), [(0.25, 2.5, 5.5), (4.0, 0.1, 0.5)])
def test_burstiness_is_the_inverse_of_the_dispersion(burstiness: float, low: float, high: float) -> None:
    offsets = seconds(plan(Gamma(rate_per_s=RATE, burstiness=burstiness), 10_000))
    assert low < dispersion(offsets, 1.0) < high
    gaps = gaps_of(offsets)
    assert statistics.fmean(gaps) == pytest.approx(1 / RATE, rel=0.05)
    assert statistics.pvariance(gaps) * RATE**2 == pytest.approx(1 / burstiness, rel=0.15)


def test_a_constant_rate_is_even_and_ends_where_the_next_would_be_due() -> None:
    planned = plan(Constant(rate_per_s=4, max_concurrency=3), 5)
    assert seconds(planned) == [0, 0.25, 0.5, 0.75, 1.0]
    assert (planned.concurrency, planned.span_ns) == (3, 1_250_000_000)


def test_the_duration_cuts_an_open_loop_and_is_the_length_of_its_sending() -> None:
    planned = plan(Constant(rate_per_s=4), 100, duration_s=1.0)
    assert seconds(planned) == [0, 0.25, 0.5, 0.75]
    assert planned.span_ns == 1_000_000_000
    assert planned.send_until_ns is None
    drawn = plan(Poisson(rate_per_s=100), 10_000, duration_s=2.0)
    assert seconds(drawn) == [one for one in seconds(plan(Poisson(rate_per_s=100), 400)) if one < 2]
    assert drawn.span_ns == 2_000_000_000


def test_the_count_ends_it_first_where_it_is_the_smaller() -> None:
    planned = plan(Constant(rate_per_s=4), 2, duration_s=10)
    assert (seconds(planned), planned.span_ns) == ([0, 0.25], 500_000_000)


def test_nothing_due_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"no request is due within 0\.001 s"):
        plan(Poisson(rate_per_s=0.001), 5, duration_s=0.001)


def test_a_line_reaches_its_rates() -> None:
    line = Ramp(from_rate_per_s=10, to_rate_per_s=30, duration_s=10, spacing="even")
    offsets = seconds(plan(line, 500))
    assert sum(offset < 10 for offset in offsets) == 200
    # After t seconds there are 10 t + t² of them.
    assert offsets[100] == pytest.approx(-5 + math.sqrt(125), abs=1e-9)
    assert gaps_of(offsets[:2])[-1] == pytest.approx(0.1, rel=0.01)
    # The last rate holds.
    assert gaps_of(offsets)[-1] == pytest.approx(1 / 30, abs=1e-9)


def test_a_line_down_to_nothing_ends() -> None:
    planned = plan(Ramp(from_rate_per_s=8, to_rate_per_s=0, duration_s=5, spacing="even"), 1000)
    offsets = seconds(planned)
    assert len(offsets) in (20, 21)
    assert offsets[-1] <= 5
    assert planned.span_ns == round(offsets[-1] * 1e9)


def test_steps_hold_each_rate_for_its_time() -> None:
    steps = (Step(rate_per_s=0, duration_s=1), Step(rate_per_s=10, duration_s=2), Step(rate_per_s=50, duration_s=1))
    offsets = seconds(plan(Ramp(steps=steps, spacing="even"), 70))
    assert offsets[0] == 1
    assert [sum(low <= one < low + 1 for one in offsets) for low in range(4)] == [0, 10, 10, 50]


def test_a_ramp_of_independent_requests_is_poisson_at_each_moment() -> None:
    steps = (Step(rate_per_s=20, duration_s=60), Step(rate_per_s=60, duration_s=60))
    counts = {20: 0, 60: 0}
    for seed in SEEDS:
        offsets = seconds(plan(Ramp(steps=steps), 10_000, seed, duration_s=120))
        first, second = [one for one in offsets if one < 60], [one - 60 for one in offsets if one >= 60]
        counts[20] += len(first)
        counts[60] += len(second)
        assert kolmogorov_smirnov(gaps_of(second)[1:], 60) < 1.95
    assert counts[20] / 20 / 60 == pytest.approx(20, rel=0.05)
    assert counts[60] / 20 / 60 == pytest.approx(60, rel=0.05)


def test_a_trace_is_what_it_is() -> None:
    planned = plan(Trace(path="x", max_concurrency=2), 9, trace_s=[0.5, 0.5, 2.25])
    assert seconds(planned) == [0.5, 0.5, 2.25]
    assert (planned.concurrency, planned.span_ns) == (2, 2_250_000_000)


OPEN = st.one_of(
    st.builds(Constant, rate_per_s=st.floats(0.01, 1e4)),
    st.builds(Poisson, rate_per_s=st.floats(0.01, 1e4)),
    st.builds(Gamma, rate_per_s=st.floats(0.01, 1e4), burstiness=st.floats(0.05, 50)),
    st.builds(
        Ramp,
        from_rate_per_s=st.floats(0, 100),
        to_rate_per_s=st.floats(0.1, 100),
        duration_s=st.floats(0.01, 100),
        spacing=st.sampled_from(["even", "poisson"]),
    ),
    st.builds(
        Ramp,
        steps=st.lists(st.builds(Step, rate_per_s=st.floats(0, 50), duration_s=st.floats(0.1, 9)), max_size=4).map(
            lambda steps: (*steps, Step(rate_per_s=5, duration_s=1))
        ),
    ),
)


@settings(deadline=None, max_examples=60)
@given(OPEN, st.integers(1, 300), st.integers(0, 2**40))
def test_offsets_never_fall_and_fewer_are_the_first_of_more(arrival: ArrivalSpec, requests: int, seed: int) -> None:
    planned = plan(arrival, requests, seed)
    assert planned.offsets_ns is not None
    assert planned.span_ns is not None
    assert len(planned.offsets_ns) == requests
    assert planned.offsets_ns[0] >= 0
    assert all(a <= b for a, b in pairwise(planned.offsets_ns))
    assert planned.span_ns >= planned.offsets_ns[-1]
    more = plan(arrival, requests + 7, seed)
    assert more.offsets_ns is not None
    assert more.offsets_ns[:requests] == planned.offsets_ns


@pytest.mark.parametrize(
    "arrival",
    [
        Constant(rate_per_s=50),
        Poisson(rate_per_s=50),
        Poisson(rate_per_s=0.5),
        Gamma(rate_per_s=50, burstiness=0.1),
        Ramp(from_rate_per_s=1, to_rate_per_s=99, duration_s=5),
    ],
)
def test_the_most_requests_are_never_reached(arrival: ArrivalSpec) -> None:
    most, expected = most_requests(arrival, 10), expected_requests(arrival, 10)
    assert most is not None
    assert expected is not None
    counts = [len(seconds(plan(arrival, most, seed, duration_s=10))) for seed in range(30)]
    assert max(counts) < most
    assert statistics.fmean(counts) == pytest.approx(expected, rel=0.3)


def test_what_has_no_rates_has_no_expectation() -> None:
    assert expected_requests(Burst(), 5) is None
    assert most_requests(ClosedLoop(concurrency=4), 5) is None
    assert most_requests(Trace(path="x"), 5) is None


class TestMeasuredWindow:
    """What part of a window is measured: 10 s to 40 s on its clock."""

    window = (10_000_000_000, 40_000_000_000)

    def seconds_of(self, planned: Schedule, **more: object) -> tuple[float, float] | None:
        arguments: dict[str, object] = {"ramp_up_s": None, "unsent": 0} | more
        found = measured_window(planned, self.window, **arguments)  # type: ignore[arg-type]
        return None if found is None else (found[0] / 1e9, found[1] / 1e9)

    def test_a_burst_is_measured_whole(self) -> None:
        assert self.seconds_of(plan(Burst(), 3)) is None
        assert self.seconds_of(plan(Trace(path="x"), 3, trace_s=[0, 0, 0])) is None

    def test_an_open_loop_up_to_the_end_of_its_sending(self) -> None:
        planned = plan(Constant(rate_per_s=1), 20)
        assert self.seconds_of(planned) == (10, 30)
        assert self.seconds_of(planned, ramp_up_s=5) == (15, 30)

    def test_a_window_that_was_cut_short_ends_where_it_was(self) -> None:
        planned = plan(Constant(rate_per_s=1), 90)
        assert self.seconds_of(planned) == (10, 100)
        assert self.seconds_of(planned, complete=False) == (10, 40)

    def test_a_closed_loop_only_behind_its_ramp_up(self) -> None:
        assert self.seconds_of(plan(ClosedLoop(concurrency=2), 9)) is None
        assert self.seconds_of(plan(ClosedLoop(concurrency=2), 9, duration_s=20)) is None
        timed = plan(ClosedLoop(concurrency=2), 9, duration_s=20)
        assert self.seconds_of(timed, ramp_up_s=5, unsent=3) == (15, 30)
        # Where every request was sent, the last of them says when sending ended.
        assert self.seconds_of(timed, ramp_up_s=5) == (15, 15)

    def test_a_window_never_ends_before_it_begins(self) -> None:
        planned = plan(Constant(rate_per_s=1), 90)
        assert self.seconds_of(planned, ramp_up_s=35, complete=False) == (45, 45)

    def test_what_the_reader_must_know(self) -> None:
        def notes(planned: Schedule, duration_s: float | None, unsent: int = 0) -> str:
            return " ".join(window_notes(planned, self.window, duration_s=duration_s, unsent=unsent))

        assert notes(plan(Constant(rate_per_s=1), 25), None) == ""
        assert notes(plan(Constant(rate_per_s=1), 90, duration_s=25), 25) == ""
        assert "every request was sent before the 25 s were over" in notes(plan(Constant(rate_per_s=1), 20), 25)
        closed = plan(ClosedLoop(concurrency=2), 9, duration_s=20)
        assert notes(closed, 20, unsent=1) == ""
        assert "allow more of them" in notes(closed, 20)
        assert "answers came for 28.0 s after 2.0 s of sending" in notes(plan(Constant(rate_per_s=10), 20), None)
        assert notes(plan(Burst(), 5), None) == ""


#: of Poisson at 10 a second, seed 7, repeat 1, attempt 2
HELD_MS = [193, 383, 397, 448]
