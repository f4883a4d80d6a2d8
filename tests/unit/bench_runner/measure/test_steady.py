"""The steady window: when it opens, when it closes, when there is none."""

from __future__ import annotations

import pytest

from bench_runner.measure.steady import steady_window_ns, sustained_tokens_per_s
from engines.contract import FailureKind
from tests.fakes.records import START_NS, make_record


def window_ms(*args: object) -> tuple[float, float] | None:
    found = steady_window_ns(*args)  # type: ignore[arg-type]
    return None if found is None else ((found[0] - START_NS) / 1e6, (found[1] - START_NS) / 1e6)


def test_a_burst_is_steady_from_its_last_first_token_to_its_first_last_token() -> None:
    records = [make_record(0, events_ms=(10, 50, 90)), make_record(1, events_ms=(30, 60, 100))]
    assert window_ms(records, None) == (30, 90)


def test_a_closed_loop_is_steady_until_a_slot_is_not_filled_again() -> None:
    records = [
        make_record(0, sent_ms=0, events_ms=(10, 40)),
        make_record(1, sent_ms=0, events_ms=(20, 70)),
        make_record(2, sent_ms=41, events_ms=(50, 90)),
        make_record(3, sent_ms=71, events_ms=(80, 120)),
    ]
    assert window_ms(records, 2) == (20, 90)


def test_a_burst_served_one_after_the_other_has_no_steady_window() -> None:
    records = [make_record(0, events_ms=(10, 20)), make_record(1, events_ms=(30, 40))]
    assert window_ms(records, None) is None
    assert sustained_tokens_per_s(records, None, 0.04) is None
    assert window_ms([], None) is None
    assert window_ms([make_record(sent_ms=None, events_ms=())], None) is None


def test_a_window_that_is_too_short_gives_no_rate() -> None:
    records = [make_record(0, events_ms=(10, 14, 1000)), make_record(1, events_ms=(12, 14, 20))]
    assert window_ms(records, None) == (12, 20)
    assert sustained_tokens_per_s(records, None, 1.0) is None
    assert sustained_tokens_per_s(records, None, None) is None


def test_tokens_are_counted_by_event_or_spread_where_the_wire_does_not_tell() -> None:
    told = make_record(0, events_ms=(0, 100, 200), event_tokens=(1, 5, 2), engine_output_tokens=8)
    assert sustained_tokens_per_s([told], None, 0.2) == pytest.approx(7 / 0.2)
    untold = make_record(0, events_ms=(0, 100, 200), event_tokens=(-1, -1, -1), engine_output_tokens=6)
    assert sustained_tokens_per_s([untold], None, 0.2) == pytest.approx(4 / 0.2)
    uncounted = make_record(0, events_ms=(0, 100), event_tokens=(-1, -1), engine_output_tokens=None)
    assert sustained_tokens_per_s([uncounted], None, 0.1) is None


def test_failed_requests_fill_a_slot_and_give_no_tokens() -> None:
    records = [
        make_record(0, events_ms=(0, 50, 100)),
        make_record(1, events_ms=(0, 50, 100), failure=FailureKind.ABORTED),
    ]
    assert sustained_tokens_per_s(records, None, 0.1) == pytest.approx(2 / 0.1)
