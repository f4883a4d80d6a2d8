"""What may be claimed of a share: bounds, and how many independent requests a run is worth."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_runner.measure.record import RequestRecord, to_json
from bench_runner.measure.summary import RunFacts, summarise
from bench_runner.plan.spec import Slo
from engines.contract import FailureKind
from services.domain.attainment import Attained, Tally, beta_share, effective_count, lower_bound, pool, upper_bound
from tests.fakes.records import START_NS, make_record


def at_least(requests: int, met: int, share: float) -> float:
    """P(X >= met) of a binomial, summed term by term."""
    return sum(math.comb(requests, k) * share**k * (1 - share) ** (requests - k) for k in range(met, requests + 1))


@given(st.integers(1, 300), st.data())
def test_the_beta_share_is_the_tail_of_a_binomial(requests: int, data: st.DataObject) -> None:
    met = data.draw(st.integers(1, requests))
    share = data.draw(st.floats(0.001, 0.999))
    assert beta_share(share, met, requests - met + 1) == pytest.approx(at_least(requests, met, share), abs=1e-9)


@pytest.mark.parametrize(("requests", "met"), [(10, 7), (100, 99), (459, 459), (5000, 4900)])
def test_the_bounds_are_where_the_tails_are_the_error(requests: int, met: int) -> None:
    seen = Attained(requests, met, requests)
    low = lower_bound(seen, 0.01)
    assert beta_share(low, met, requests - met + 1) == pytest.approx(0.01)
    if met < requests:
        high = upper_bound(seen, 0.01)
        assert 1 - beta_share(high, met + 1, requests - met) == pytest.approx(0.01)
        assert low < met / requests < high


def test_loadgens_count_is_the_least_that_shows_99_percent() -> None:
    assert lower_bound(Attained(459, 459, 459), 0.01) >= 0.99
    assert lower_bound(Attained(458, 458, 458), 0.01) < 0.99


def test_nothing_seen_says_nothing() -> None:
    nothing = pool([])
    assert (lower_bound(nothing, 0.05), upper_bound(nothing, 0.05)) == (0, 1)
    assert effective_count([]) == 0


def test_independent_requests_are_worth_themselves() -> None:
    draws = random.Random(1)
    worth = [effective_count([draws.expovariate(3) for _ in range(2000)]) / 2000 for _ in range(50)]
    assert 0.4 < sum(worth) / len(worth) <= 1


def test_requests_that_miss_together_are_worth_less() -> None:
    draws = random.Random(1)
    bunches = [strain for _ in range(100) for strain in [2.0 if draws.random() < 0.1 else 0.5] * 20]
    assert effective_count(bunches) < 2000 / 8


def test_without_a_miss_the_slowest_tell() -> None:
    slow_in_one_place = [0.9 if 500 <= k < 700 else 0.1 + k % 7 / 100 for k in range(2000)]
    assert effective_count(slow_in_one_place) < 50
    assert effective_count([0.1] * 2000) == 2000


@given(st.lists(st.floats(0, 3), min_size=1, max_size=300))
def test_requests_are_never_worth_more_than_they_are(strains: list[float]) -> None:
    assert 0 < effective_count(strains) <= len(strains)


def tally_of(records: list[RequestRecord], slo: Slo, **more: float) -> Attained:
    tally = Tally(slo, from_scheduled=True, ramp_up_s=more.get("ramp_up_s", 0.0), skipped=int(more.get("skipped", 0)))
    assert [*tally.watch(map(to_json, records))] == [to_json(record) for record in records]
    return tally.attained()


@pytest.mark.parametrize("slo", [{"ttft_s": 0.11}, {"tpot_s": 0.42}, {"e2e_s": 0.95}, {"ttft_s": 0.15, "e2e_s": 0.9}])
def test_it_counts_what_goodput_counts(slo: dict[str, float]) -> None:
    limits = Slo.model_validate(slo)
    records = [make_record(k, events_ms=(100 + k, 500, 850 + 10 * k)) for k in range(20)]
    facts = RunFacts(
        "poisson", slo_ttft_s=limits.ttft_s, slo_tpot_s=limits.tpot_s, slo_e2e_s=limits.e2e_s, concurrency=None
    )
    summary, _ = summarise(records, facts)
    expected = round(summary["scheduled_goodput_requests_per_s"] * summary["duration_s"])
    assert 0 < expected < 20
    found = tally_of(records, limits)
    assert (found.requests, found.met) == (20, expected)


def test_failures_miss_and_what_we_cancelled_does_not_count() -> None:
    records = [
        make_record(0),
        make_record(1, failure=FailureKind.TIMEOUT),
        make_record(2, sent_ms=None, events_ms=(), failure=FailureKind.CANCELLED),
        make_record(3, events_ms=(100,)),
    ]
    found = tally_of(records, Slo(tpot_s=0.2))
    assert (found.requests, found.met) == (3, 2)


def test_what_is_due_in_the_ramp_up_or_skipped_does_not_count() -> None:
    records = [make_record(k, sent_ms=1000 * k) for k in reversed(range(10))]
    assert tally_of(records, Slo(ttft_s=1), ramp_up_s=3).requests == 7
    assert tally_of(records, Slo(ttft_s=1), skipped=4).requests == 6
    assert tally_of(records, Slo(ttft_s=1), skipped=40).requests == 0


def test_the_wait_from_the_scheduled_moment_counts() -> None:
    late = make_record(0, scheduled_ns=START_NS - 10**9)
    assert tally_of([late], Slo(ttft_s=1)).met == 0
    tally = Tally(Slo(ttft_s=1), from_scheduled=False)
    assert len([*tally.watch([to_json(late)])]) == 1
    assert tally.attained().met == 1
