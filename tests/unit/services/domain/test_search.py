"""A search against engines whose truth is known: where it goes, when it stops, and how often what it says is wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench_runner.measure.stats import minimum_samples
from services.domain.attainment import Attained, effective_count
from services.domain.search import (
    MOST_INVALID,
    Probe,
    ProbeResult,
    Search,
    Verdict,
    error_of_one_test,
    first_requests,
    most_values,
    next_step,
)

#: value, requests -> the strain of each
Engine = Callable[[float, int], list[float]]


def search_of(**more: Any) -> Search:
    return Search.model_validate({"low": 1, "high": 64, "slo": {"ttft_s": 1}} | more)


def run(search: Search, engine: Engine, *, most: int = 1000) -> tuple[Verdict, list[ProbeResult]]:
    history: list[ProbeResult] = []
    while isinstance(step := next_step(search, history), Probe):
        assert len(history) < most
        requests = max(step.requests, math.ceil(step.value * search.least_s))
        strains = engine(step.value, requests)
        met = sum(strain <= 1 for strain in strains)
        history.append(ProbeResult(step.value, Attained(requests, met, effective_count(strains)), valid=True))
    return step, history


def sharp(limit: float) -> Engine:
    return lambda value, requests: [0.5 if value <= limit else 2.0] * requests


def independent(share_at: Callable[[float], float], draws: random.Random) -> Engine:
    return lambda value, requests: [
        draws.random() if draws.random() < share_at(value) else 2.0 for _ in range(requests)
    ]


def queue(served_per_s: float, limit_s: float, draws: random.Random) -> Engine:
    """One server, exponential gaps and service: the wait of each request, by Lindley's recursion. Starts warm."""

    def strains(value: float, requests: int) -> list[float]:
        wait_s, found = 0.0, []
        warm = math.ceil(10 * value)
        for _ in range(warm + requests):
            found.append(wait_s / limit_s)
            wait_s = max(0.0, wait_s + draws.expovariate(served_per_s) - draws.expovariate(value))
        return found[warm:]

    return strains


def queue_truth(served_per_s: float, limit_s: float) -> Callable[[float], float]:
    """Share of waits within the limit: 1 - ρ exp(-(μ - λ) t), as every textbook on queues has it."""

    def share(value: float) -> float:
        if value >= served_per_s:
            return 0.0
        return 1 - value / served_per_s * math.exp(-(served_per_s - value) * limit_s)

    return share


def is_wrong(search: Search, verdict: Verdict, truth: Callable[[float], float]) -> bool:
    """Any of all that is said of any value does not hold."""
    return any(
        (value.said == "meets" and truth(value.value) < search.attainment)
        or (value.said == "fails" and truth(value.value) >= search.attainment)
        for value in verdict.values
    )


def test_it_doubles_and_then_halves_the_ratio() -> None:
    verdict, history = run(search_of(resolution=0.1), sharp(11.0))
    assert [probe.value for probe in history] == [1, 2, 4, 8, 16, 11.31, 9.512, 10.37]
    assert (verdict.state, verdict.highest_meeting, verdict.lowest_failing) == ("found", 10.37, 11.31)
    assert "10.37 requests/s" in verdict.words
    assert "0.95 confidence" in verdict.words


def test_a_concurrency_is_whole_and_found_to_the_slot() -> None:
    verdict, history = run(search_of(axis="concurrency", resolution=0.01), sharp(37))
    assert all(probe.value == int(probe.value) for probe in history)
    assert (verdict.highest_meeting, verdict.lowest_failing) == (37, 38)


def test_the_ends_are_said() -> None:
    verdict, history = run(search_of(), sharp(1000))
    assert (verdict.state, verdict.highest_meeting, verdict.lowest_failing) == ("all_meet", 64, None)
    assert max(probe.value for probe in history) == 64
    verdict, history = run(search_of(), sharp(0.5))
    assert (verdict.state, verdict.highest_meeting, verdict.lowest_failing) == ("none_meets", None, 1)
    assert len(history) == 1


@given(
    st.floats(0.01, 50),
    st.floats(1.1, 1000),
    st.floats(0.01, 1),
    st.sampled_from(["rate_per_s", "concurrency"]),
    st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_it_ends_within_its_resolution_and_visits_no_more_values_than_it_counted(
    low: float, factor: float, resolution: float, axis: str, where: float
) -> None:
    high = low * factor
    if axis == "concurrency":
        low, high = math.ceil(low), min(20_000, math.ceil(high) + math.ceil(low))
    search = search_of(low=low, high=high, resolution=resolution, axis=axis, least_s=0, attainment=0.5)
    limit = low * (high / low) ** where
    verdict, history = run(search, sharp(limit))
    assert len({probe.value for probe in history}) <= most_values(search)
    best, worst = verdict.highest_meeting, verdict.lowest_failing
    assert best is not None
    assert best <= limit
    if worst is not None:
        assert worst > limit
        # Rates have four figures, concurrencies none.
        step = max(1.0 if axis == "concurrency" else 0.0, 0.0011 * best)
        assert worst - best <= resolution * best + step


def test_the_requests_are_what_the_claim_takes() -> None:
    search = search_of()
    assert most_values(search) == 11
    assert error_of_one_test(search) == pytest.approx(0.05 / (11 * 5))
    assert first_requests(search) == minimum_samples(0.99, 1 - error_of_one_test(search)) == 697
    step = next_step(search, ())
    assert step == Probe(1, 697)


def test_requests_that_come_bound_together_are_asked_for_in_greater_number() -> None:
    search = search_of()
    bound = ProbeResult(1, Attained(697, 697, 697 / 3), valid=True)
    assert next_step(search, [bound]) == Probe(1, 3 * 697)


def lost(value: float, code: str) -> ProbeResult:
    return ProbeResult(value, Attained(697, 697, 697), False, (code,), f"because of {code}")


def test_what_is_not_valid_is_repeated_so_often_and_no_more() -> None:
    search = search_of()
    history = [lost(1, "client_cpu") for _ in range(MOST_INVALID)]
    assert next_step(search, history) == Probe(1, 697)
    verdict = next_step(search, [*history, lost(1, "client_cpu")])
    assert isinstance(verdict, Verdict)
    assert (verdict.state, verdict.highest_meeting, verdict.probes) == ("inconclusive", None, 3)
    assert "because of client_cpu" in verdict.words


def test_an_engine_that_cannot_follow_makes_a_value_undecided_and_not_the_search() -> None:
    search = search_of()
    meets = ProbeResult(1, Attained(697, 697, 697), valid=True)
    history = [meets, *(lost(2, "not_stationary") for _ in range(MOST_INVALID + 1))]
    step = next_step(search, history)
    assert isinstance(step, Probe)
    assert 1 < step.value < 2
    crushed = ProbeResult(2, Attained(697, 300, 697), False, ("failures", "not_stationary"))
    step = next_step(search, [meets, crushed])
    assert isinstance(step, Probe)
    assert 1 < step.value < 2


def test_an_invalid_run_never_shows_that_a_value_meets() -> None:
    search = search_of()
    for code in ("failures", "client_cpu"):
        assert next_step(search, [lost(1, code)]) == Probe(1, 697)


def test_the_order_of_the_runs_does_not_matter() -> None:
    search = search_of()
    _, history = run(search, sharp(11))
    for seed in range(5):
        shuffled = random.Random(seed).sample(history, len(history))
        assert next_step(search, shuffled) == next_step(search, history)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"high": 1}, "low must be below high"),
        ({"low": 0.001, "high": 100_000}, "a million times"),
        ({"axis": "concurrency", "low": 1.5}, "whole number"),
        ({"axis": "concurrency", "arrival": "poisson"}, "closed loop"),
        ({"slo": {}}, "at least one"),
        ({"confidence": 1}, "confidence"),
    ],
)
def test_what_is_no_search_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        search_of(**more)


@pytest.mark.parametrize("attainment", [0.9, 0.99])
@pytest.mark.parametrize("beyond", [-1e-9, 0.0])
def test_the_claim_holds_where_it_is_hardest(attainment: float, beyond: float) -> None:
    """Every value lies just below the attainment, or at it: each "meets", or each "fails", is wrong."""
    draws = random.Random(f"{attainment} {beyond}")
    search = search_of(attainment=attainment, confidence=0.8, least_s=0)
    share = attainment + beyond
    engine = independent(lambda _: share, draws)
    wrong = [is_wrong(search, run(search, engine)[0], lambda _: share) for _ in range(100)]
    assert sum(wrong) <= allowed(0.2, 100)


def allowed(error: float, runs: int) -> float:
    """What so many searches may get wrong, with four standard deviations of chance."""
    return error * runs + 4 * math.sqrt(error * (1 - error) * runs)


@pytest.mark.parametrize("limit", [3.0, 11.0, 40.0])
def test_the_claim_holds_over_engines_that_fade(limit: float) -> None:
    def share(value: float) -> float:
        return 1 / (1 + math.exp(8 * (value / limit - 1.5)))

    draws = random.Random(limit)
    search = search_of(attainment=0.95, confidence=0.8)
    found = [run(search, independent(share, draws)) for _ in range(30)]
    wrong = sum(is_wrong(search, verdict, share) for verdict, _ in found)
    assert wrong <= 0.2 * 30
    # It claims what is so, and comes near to what it looks for.
    true = limit * (1.5 - math.log(19) / 8)
    best = sorted(verdict.highest_meeting or 0.0 for verdict, _ in found)[15]
    assert 0.7 * true < best <= true


@pytest.mark.parametrize(("limit_s", "attainment"), [(1.0, 0.9), (0.3, 0.9), (0.3, 0.95)])
def test_the_claim_holds_where_requests_wait_for_each_other(limit_s: float, attainment: float) -> None:
    draws = random.Random(f"{limit_s} {attainment}")
    truth = queue_truth(20, limit_s)
    search = search_of(attainment=attainment, confidence=0.8)
    found = [run(search, queue(20, limit_s, draws)) for _ in range(20)]
    wrong = sum(is_wrong(search, verdict, truth) for verdict, _ in found)
    assert wrong <= 0.2 * 20


def test_no_run_is_asked_for_more_than_it_can_send() -> None:
    search = search_of()
    bound = ProbeResult(1, Attained(697, 697, 697 / 6), valid=True)
    assert next_step(search, [bound], 3600) == Probe(1, int(0.8 * 3600 - 10))
    assert next_step(search, [bound]) == Probe(1, 6 * 697)


def test_a_run_that_the_engine_could_not_follow_is_not_left_out_for_a_luckier_one() -> None:
    search = search_of()
    lost = ProbeResult(1, Attained(697, 488, 697), False, ("not_stationary",))
    lucky = ProbeResult(1, Attained(697, 697, 697), True)
    after_luck, after_both = next_step(search, [lucky]), next_step(search, [lost, lucky])
    assert isinstance(after_luck, Probe)
    assert after_luck.value == 2, "one good run is enough"
    assert isinstance(after_both, Verdict)
    assert after_both.lowest_failing == 1, "unless another spoke against it"
