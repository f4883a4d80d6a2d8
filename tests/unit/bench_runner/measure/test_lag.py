from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_runner.measure.evidence import Evidence
from bench_runner.measure.lag import own_lags_s
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.validity import judge
from engines.contract import FailureKind
from tests.fakes.records import START_NS, make_record


def sent(index: int, due_ms: float, sent_ms: float, closed_ms: float) -> RequestRecord:
    return make_record(
        index,
        sent_ms=sent_ms,
        events_ms=(closed_ms,),
        scheduled_ns=START_NS + round(due_ms * 1e6),
        closed_ns=START_NS + round(closed_ms * 1e6),
    )


#: two slots: the third waits for the first to end, the fourth for the second
CAPPED = [
    sent(0, 0, 1, 500),
    sent(1, 10, 10, 700),
    sent(2, 20, 503, 900),
    sent(3, 30, 700, 1000),
    sent(4, 950, 951, 1200),
]


def test_waiting_for_a_slot_is_not_the_client_s_lag() -> None:
    assert own_lags_s(CAPPED, 2) == pytest.approx([0.001, 0, 0.003, 0, 0.001])
    assert own_lags_s(CAPPED, None) == pytest.approx([0.001, 0, 0.483, 0.670, 0.001])


def test_a_slot_left_free_is() -> None:
    idle = [sent(0, 0, 0, 100), sent(1, 50, 400, 500)]
    assert own_lags_s(idle, 1) == pytest.approx([0, 0.3])


def test_what_was_never_sent_has_no_lag() -> None:
    never = make_record(1, sent_ms=None, events_ms=(), failure=FailureKind.CONNECT)
    assert own_lags_s([sent(0, 0, 1, 9), never], 1) == pytest.approx([0.001])


def test_a_capped_run_says_what_its_cap_held_back() -> None:
    held = judge(Evidence(CAPPED, arrival_kind="poisson", max_concurrency=2))
    assert {reason.code for reason in held.reasons if reason.severity != "note"} == set()
    message = next(reason.message for reason in held.reasons if reason.code == "held_back_by_cap")
    assert "2 of 5 requests waited for one of the 2 slots, up to 670 ms" in message
    uncapped = judge(Evidence(CAPPED, arrival_kind="poisson"))
    assert "send_lag" in {reason.code for reason in uncapped.reasons if reason.severity == "invalid"}


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50), st.integers(1, 300)), min_size=1, max_size=30),
    st.integers(1, 6),
)
def test_a_client_that_is_never_late_has_no_lag_whatever_the_cap(lives: list[tuple[int, int, int]], cap: int) -> None:
    ends: list[float] = []
    records = []
    due = 0.0
    for index, (gap, _, took) in enumerate(lives):
        due += gap
        at = due if len(ends) < cap else max(due, sorted(ends)[0])
        if len(ends) >= cap:
            ends.remove(min(ends))
        ends.append(at + took)
        records.append(sent(index, due, at, at + took))
    assert own_lags_s(records, cap) == [0] * len(records)


@pytest.mark.parametrize("cap", [None, 2])
def test_what_the_engine_made_us_send_again_is_not_our_lag(cap: int | None) -> None:
    records = [*CAPPED[:3], make_record(3, sent_ms=900.0, events_ms=(1000.0,), scheduled_ns=START_NS, resends=1)]
    assert own_lags_s(records, cap) == own_lags_s(records[:3], cap)
    again = [make_record(k, sent_ms=25.0, scheduled_ns=START_NS, events_ms=(100.0, 200.0), resends=1) for k in range(9)]
    first = [make_record(9, events_ms=(100.0, 200.0))]
    assert "send_lag" not in {reason.code for reason in judge(Evidence([*again, *first])).reasons}
