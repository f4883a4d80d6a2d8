"""Each check: what it catches, how gravely, what it says, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench_runner.measure.cards import HeldBack
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.record import RequestRecord
from bench_runner.measure.result import Reason, ValidityState
from bench_runner.measure.validity import judge
from engines.contract import FailureKind
from tests.fakes.records import START_NS, make_record

GOOD = [make_record(k) for k in range(100)]


def failing(count: int, total: int, kind: FailureKind = FailureKind.REJECTED) -> list[RequestRecord]:
    return [make_record(k, failure=kind if k < count else None) for k in range(total)]


def found(code: str, records: list[RequestRecord] | None = None, **facts: Any) -> Reason | None:
    reasons = judge(Evidence(GOOD if records is None else records, **facts)).reasons
    return next((reason for reason in reasons if reason.code == code), None)


def severity(code: str, records: list[RequestRecord] | None = None, **facts: Any) -> str | None:
    reason = found(code, records, **facts)
    return reason.severity if reason else None


def test_a_clean_run_is_valid_and_has_nothing_to_say() -> None:
    validity = judge(
        Evidence(GOOD, cpu_s=0.1, wall_s=1.0, max_lag_s=0.001, counted_input_tokens=1000, counted_cached_tokens=0)
    )
    assert validity.state is ValidityState.VALID
    assert validity.reasons == ()


def test_the_worst_finding_decides_and_comes_first() -> None:
    records = [make_record(0, resends=1), *failing(1, 200)[:199]]
    validity = judge(Evidence(records, lengths="natural", counted_cached_tokens=0))
    assert validity.state is ValidityState.INCONCLUSIVE
    assert [reason.severity for reason in validity.reasons] == ["inconclusive", "note", "note"]
    validity = judge(Evidence(records, lengths="natural", ended="timeout"))
    assert validity.state is ValidityState.INVALID
    assert validity.reasons[0].code == "run_timeout"


def test_notes_leave_a_run_valid() -> None:
    assert judge(Evidence(GOOD, lengths="natural", approximate_prompts=True)).state is ValidityState.VALID


@pytest.mark.parametrize(
    ("failed", "total", "state"),
    [(1, 100, ValidityState.INVALID), (1, 101, ValidityState.INCONCLUSIVE), (50, 100, ValidityState.INVALID)],
)
def test_a_run_with_failures_is_never_valid(failed: int, total: int, state: ValidityState) -> None:
    validity = judge(Evidence(failing(failed, total)))
    assert validity.state is state
    assert f"{failed} of {total} requests failed" in validity.reasons[0].message
    assert f"{failed} rejected" in validity.reasons[0].message


def test_failures_of_several_kinds_are_told_apart() -> None:
    records = [*failing(2, 10), *failing(1, 10, FailureKind.ENGINE_ERROR)]
    reason = found("failures", records)
    assert reason is not None
    assert "2 rejected, 1 engine_error" in reason.message


@pytest.mark.parametrize("records", [[], failing(3, 3)])
def test_no_successes(records: list[RequestRecord]) -> None:
    assert severity("no_successes", records) == "invalid"


@pytest.mark.parametrize(
    ("ended", "code"), [("cancelled", "cancelled"), ("timeout", "run_timeout"), ("lapsed", "lease_lapsed")]
)
def test_a_run_cut_short(ended: str, code: str) -> None:
    reason = found(code, failing(40, 100, FailureKind.CANCELLED), ended=ended)
    assert reason is not None
    assert reason.severity == "invalid"
    assert "after 60 of 100 requests" in reason.message


def test_a_target_that_failed() -> None:
    reason = found("target_failed", [], target_failure="connection refused")
    assert reason is not None
    assert (reason.severity, reason.message) == ("invalid", "the target failed: connection refused")


@pytest.mark.parametrize(("lag_ms", "expected"), [(19, None), (30, "inconclusive"), (101, "invalid")])
def test_send_lag_of_a_short_burst(lag_ms: float, expected: str | None) -> None:
    late = [make_record(k, sent_ms=lag_ms, events_ms=(lag_ms + 100, 500), scheduled_ns=START_NS) for k in range(100)]
    assert severity("send_lag", late) == expected


def test_send_lag_of_a_long_burst_is_held_against_the_burst() -> None:
    late = [make_record(k, sent_ms=60, events_ms=(100, 7060), scheduled_ns=START_NS) for k in range(100)]
    assert severity("send_lag", late) is None
    assert severity("send_lag", late, arrival_kind="closed_loop") is None
    reason = found("send_lag", [make_record(k, sent_ms=80, scheduled_ns=START_NS) for k in range(100)])
    assert reason is not None
    assert "80.0 ms after their planned moment" in reason.message
    assert "the limit is 20.0 ms" in reason.message


def test_a_single_late_send_in_a_thousand_is_forgiven() -> None:
    records = [make_record(k) for k in range(999)]
    assert severity("send_lag", [*records, make_record(999, sent_ms=5, scheduled_ns=START_NS - 10**9)]) is None


@pytest.mark.parametrize(
    ("cpu_s", "wall_s", "expected"),
    [(0.8, 1.0, None), (0.9, 1.0, "inconclusive"), (0.96, 1.0, "invalid"), (0.05, 0.05, None), (None, 1.0, None)],
)
def test_a_busy_load_process(cpu_s: float | None, wall_s: float, expected: str | None) -> None:
    assert severity("client_cpu", cpu_s=cpu_s, wall_s=wall_s) == expected


def test_lag_behind_the_kernel_matters_less_where_the_kernel_stamped_everything() -> None:
    assert severity("client_lag", max_lag_s=0.5) is None
    assert severity("client_lag", max_lag_s=1.5) == "inconclusive"
    mixed = [make_record(0), make_record(1, event_clock="mixed")]
    assert severity("client_lag", mixed, max_lag_s=0.5) == "inconclusive"
    assert severity("client_lag", mixed, max_lag_s=0.005) is None
    assert severity("user_stamps", mixed) == "note"
    assert severity("user_stamps") is None


def test_a_stepped_clock_spoils_kernel_stamps_only() -> None:
    assert severity("clock_stepped", clock_stepped=True) == "invalid"
    user = [make_record(event_clock="user", sent_clock="user")]
    assert severity("clock_stepped", user, clock_stepped=True) == "note"


def short(by: int, count: int = 1, total: int = 100) -> list[RequestRecord]:
    """`count` of `total` outputs of 128 tokens that are `by` tokens short."""
    return [
        make_record(k, planned_output_tokens=128, engine_output_tokens=128 - (by if k < count else 0))
        for k in range(total)
    ]


@pytest.mark.parametrize(
    ("records", "facts", "expected"),
    [
        (short(0), {}, None),
        (short(1), {}, "invalid"),
        (short(-1), {}, "invalid"),
        (short(50), {"fixed_length": False}, "note"),
        (short(128, 2), {"fixed_length": False}, "note"),
        (short(128, 3), {"fixed_length": False}, "invalid"),
        (short(1), {"fixed_length": False, "lengths": "overlay"}, "invalid"),
        (short(1), {"fixed_length": True, "lengths": "length-matched"}, "invalid"),
        (short(50), {"lengths": "natural"}, None),
    ],
)
def test_outputs_off_their_plan(records: list[RequestRecord], facts: dict[str, Any], expected: str | None) -> None:
    assert severity("tokens_off_plan", records, **facts) == expected


def test_the_engine_that_gives_the_lengths_may_stop_early() -> None:
    """A fifth of its tokens short, because the model had no more to say."""
    ended = [
        make_record(k, planned_output_tokens=128, engine_output_tokens=100, finish_reason="eos_token") for k in range(4)
    ]
    gives: dict[str, Any] = {"lengths": "length-matched", "fixed_length": False}
    validity = judge(Evidence(ended, **gives))
    assert validity.state is ValidityState.VALID
    reason = found("lengths_given", ended, **gives)
    assert reason is not None
    assert reason.message.startswith("4 of 4 outputs ended by themselves, after 400 of 512 tokens")
    # … but not be cut short, nor be too long, and what it gave is asked of the others exactly.
    assert severity("tokens_off_plan", short(28, 4, 4), **gives) == "invalid"
    assert severity("tokens_off_plan", short(-28, 4, 4), **gives) == "invalid"
    assert severity("tokens_off_plan", ended, **gives, matched=True) == "invalid"
    assert severity("tokens_off_plan", short(0), **gives, matched=True) is None
    assert severity("tokens_off_plan", ended, lengths="length-matched", fixed_length=True) == "invalid"


def test_the_published_shortfall_is_put_in_words() -> None:
    reason = found("tokens_off_plan", short(50), fixed_length=False)
    assert reason is not None
    assert "the engine counted 12750 tokens of 12800 (0.39% off" in reason.message


def test_too_long_and_too_short_do_not_cancel_out() -> None:
    records = [*short(-1), *short(1)]
    reason = found("tokens_off_plan", records)
    assert reason is not None
    assert reason.message.startswith("2 of 200")


def test_natural_lengths_are_noted() -> None:
    assert severity("natural_lengths", lengths="natural") == "note"


@pytest.mark.parametrize(("off", "approximate", "expected"), [(0, False, None), (1, False, "inconclusive")])
def test_inputs_off_their_plan(off: int, approximate: bool, expected: str | None) -> None:
    records = [make_record(k, engine_input_tokens=10 + (off if k == 0 else 0)) for k in range(100)]
    assert severity("input_tokens_off_plan", records, approximate_prompts=approximate) == expected


def test_inputs_far_off_their_plan() -> None:
    records = [make_record(k, engine_input_tokens=11) for k in range(100)]
    assert severity("input_tokens_off_plan", records) == "invalid"
    assert severity("input_tokens_off_plan", records, approximate_prompts=True) == "note"
    assert severity("approximate_prompts", records, approximate_prompts=True) == "note"


def test_successes_that_nobody_counted() -> None:
    silent = [make_record(k, engine_output_tokens=None) for k in range(3)]
    assert severity("no_token_counts", silent) == "inconclusive"
    local = [make_record(k, engine_output_tokens=None, local_output_tokens=3) for k in range(3)]
    assert severity("no_token_counts", local) == "note"
    assert severity("no_token_counts") is None


def test_prompts_that_nobody_counted() -> None:
    silent = [make_record(k, engine_input_tokens=None) for k in range(3)]
    reason = found("no_token_counts", silent)
    assert reason is not None
    assert reason.severity == "inconclusive"
    assert reason.message.startswith("the engine gave no input token count for 3 of 3 successes")
    local = [make_record(k, engine_input_tokens=None, local_input_tokens=10) for k in range(3)]
    assert severity("no_token_counts", local) == "note"


UNTOLD = (-1,) * 3


def test_text_that_is_missing_is_found_by_a_local_tokenizer() -> None:
    """Chunks that do not tell their tokens, and a closing count that claims all of them."""
    whole: dict[str, Any] = {"planned_output_tokens": 128, "engine_output_tokens": 128, "event_tokens": UNTOLD}
    half = [make_record(k, **whole, local_output_tokens=64) for k in range(4)]
    assert severity("token_counts_disagree", half) == "inconclusive"
    all_there = [make_record(k, **whole, local_output_tokens=126) for k in range(99)]
    assert severity("token_counts_disagree", all_there) is None
    one_cut = [*all_there, make_record(99, **whole, local_output_tokens=64)]
    reason = found("token_counts_disagree", one_cut)
    assert reason is not None
    assert reason.severity == "inconclusive"
    assert "of 1 of 100 outputs" in reason.message
    # A few tokens of a short answer are noise.
    few: dict[str, Any] = {"planned_output_tokens": 4, "engine_output_tokens": 4, "event_tokens": UNTOLD}
    assert severity("token_counts_disagree", [*all_there, make_record(99, **few, local_output_tokens=1)]) is None


def test_more_tokens_than_the_engine_counted_is_a_wrong_count() -> None:
    """Three events, each of one token or more."""
    fewer: dict[str, Any] = {"planned_output_tokens": 2, "engine_output_tokens": 2}
    assert severity("token_counts_disagree", [make_record(**fewer)]) == "inconclusive"
    untold: dict[str, Any] = {"event_tokens": (-1, -1, -1)}
    assert severity("token_counts_disagree", [make_record(**fewer, **untold)]) is None
    one: dict[str, Any] = {"planned_output_tokens": 1, "engine_output_tokens": 1}
    assert severity("token_counts_disagree", [make_record(**one, **untold)]) == "inconclusive"
    assert severity("token_counts_disagree", [make_record(event_tokens=(0, 1, 1), **fewer)]) is None
    # an end-of-sequence token is counted and carries nothing
    assert severity("token_counts_disagree", [make_record(planned_output_tokens=4, engine_output_tokens=4)]) is None


def test_fewer_tokens_than_the_engine_counted_is_a_wrong_count_where_its_metrics_say_so() -> None:
    cut = make_record(7, failure=FailureKind.INCOMPLETE, engine_output_tokens=5, planned_output_tokens=5)
    records = [*GOOD[:7], cut, *GOOD[8:]]

    def message(**facts: Any) -> str:
        reason = found("token_counts_disagree", records, **facts)
        assert reason is not None
        return reason.message

    told = "1 of 100 responses carried fewer tokens than the engine counted in them (the first: 3 arrived, 5 counted): "
    assert message(counted_output_tokens=300) == (
        f"{told}its metrics counted the 300 that arrived, so its answers' count is wrong"
    )
    for facts in ({}, {"counted_output_tokens": 302}):
        assert message(**facts) == f"{told}its count is wrong, or tokens were lost on the way"
    # Cut before its end, it was not to have them all.
    open_end = replace(cut, finish_reason=None)
    assert found("token_counts_disagree", [*GOOD[:7], open_end]) is None


def test_tokens_that_came_to_us_are_nobody_elses() -> None:
    under = [make_record(k, engine_output_tokens=2) for k in range(100)]
    assert severity("foreign_traffic", under, counted_output_tokens=300) is None
    assert severity("foreign_traffic", under, counted_output_tokens=302) == "inconclusive"


@pytest.mark.parametrize(("local", "expected"), [(30, None), (27, None), (26, "note"), (34, "note")])
def test_a_local_count_far_from_the_engines_is_noted(local: int, expected: str | None) -> None:
    records = [make_record(engine_output_tokens=30, planned_output_tokens=30, local_output_tokens=local)]
    assert severity("token_counts_disagree", records) == expected


@pytest.mark.parametrize(("cached", "expected"), [(0, None), (1, "note"), (11, "invalid")])
def test_a_prefix_cache_that_served_prompts(cached: int, expected: str | None) -> None:
    """1,000 prompt tokens in all; told by the responses, or by the engine's counter."""
    told = [make_record(k, cached_tokens=cached if k == 0 else 0) for k in range(100)]
    assert severity("prefix_cache", told) == expected
    assert severity("prefix_cache", counted_cached_tokens=cached) == expected


def test_a_cache_that_nobody_tells_of_is_noted() -> None:
    assert severity("prefix_cache_unknown") == "note"
    assert severity("prefix_cache_unknown", counted_cached_tokens=0) is None
    assert severity("prefix_cache_unknown", [make_record(cached_tokens=0)]) is None
    assert severity("prefix_cache_unknown", [make_record(cached_tokens=0), make_record(1)]) == "note"


def test_a_prefix_that_all_prompts_share_may_be_cached() -> None:
    assert severity("prefix_cache", counted_cached_tokens=500, shared_prefix_tokens=5) == "note"
    assert severity("prefix_cache", counted_cached_tokens=511, shared_prefix_tokens=5) == "invalid"
    assert severity("prefix_cache", counted_cached_tokens=900, distinct_prompts=False) == "note"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None),
        ({"counted_input_tokens": 1005, "counted_output_tokens": 301, "counted_requests": 100}, None),
        ({"counted_input_tokens": 900, "counted_output_tokens": 200, "counted_requests": 90}, None),
        ({"counted_input_tokens": 1006}, "inconclusive"),
        ({"counted_output_tokens": 302}, "inconclusive"),
        ({"counted_requests": 101}, "inconclusive"),
    ],
)
def test_somebody_elses_traffic(facts: dict[str, Any], expected: str | None) -> None:
    """Our 100 requests account for 1,000 prompt and 300 generated tokens; a percent more is too much."""
    assert severity("foreign_traffic", **facts) == expected


def test_strangers_who_hardly_take_a_token_may_be_a_health_check() -> None:
    small = found("foreign_traffic", counted_input_tokens=1004, counted_output_tokens=301, counted_requests=101)
    large = found("foreign_traffic", counted_input_tokens=1010, counted_output_tokens=303, counted_requests=101)
    untold = found("foreign_traffic", counted_requests=101)
    assert "a health check that generates" in (small.message if small else "")
    for reason in (large, untold):
        assert reason is not None
        assert reason.message.endswith("let nobody else use it while runs go on")


def test_requests_sent_twice_may_be_what_looks_foreign() -> None:
    records = [make_record(0, resends=1), *GOOD[1:]]
    reason = found("foreign_traffic", records, counted_requests=101)
    assert reason is not None
    assert reason.message.endswith("(1 requests were sent twice, which it may have counted)")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None),
        ({"counted_input_tokens": 995, "counted_output_tokens": 299}, None),
        ({"counted_input_tokens": 994}, "inconclusive"),
        ({"counted_output_tokens": 298}, "inconclusive"),
        ({"counted_output_tokens": 0}, "note"),
    ],
)
def test_answers_that_claim_more_than_the_engine_counted(facts: dict[str, Any], expected: str | None) -> None:
    """Counters that do not move at all are those of another server."""
    assert severity("counters_disagree", **facts) == expected
    assert severity("counters_disagree", failing(1, 100), **facts) is None


def test_counters_that_were_lost_are_told() -> None:
    reason = found("counters_unread", counters_unread="after")
    assert reason is not None
    assert reason.severity == "note"
    assert reason.message.startswith("the engine's counters could not be read after the load")
    assert found("counters_unread") is None


def test_beside_a_failure_nobody_is_accused() -> None:
    assert severity("foreign_traffic", failing(1, 100), counted_output_tokens=10_000) is None
    uncounted = [make_record(engine_output_tokens=None, engine_input_tokens=None)]
    assert severity("foreign_traffic", uncounted, counted_output_tokens=10_000) is None


def test_what_is_only_worth_a_note() -> None:
    records = [make_record(0, resends=2, shared_events=1), make_record(1)]
    assert severity("resends", records) == "note"
    reason = found("shared_events", records)
    assert reason is not None
    assert reason.severity == "note"
    assert reason.message.startswith("1 of 6 token events")


@pytest.mark.parametrize(
    ("record", "facts", "expected"),
    [
        # two of three gaps of 100 ms, and the first token, rest on one late stamp
        ({"merged_events": 1, "client_wait_s": 0.099}, {}, "inconclusive"),
        # it was read at once, so what it carried came together
        ({"merged_events": 1, "client_wait_s": 0.0014}, {}, None),
        # the engine wrote them together
        ({"merged_events": 0, "client_wait_s": 0.099}, {}, None),
        # others had our CPU: that we looked in time is not known
        ({"merged_events": 1, "client_wait_s": 0.0}, {"cpu_wait_s": 0.06, "wall_s": 1.0}, "inconclusive"),
        ({"merged_events": 1, "client_wait_s": 0.0}, {"cpu_wait_s": 0.04, "wall_s": 1.0}, None),
    ],
)
def test_events_that_waited_for_one_another(
    record: dict[str, Any], facts: dict[str, Any], expected: str | None
) -> None:
    records = [make_record(0, events_ms=(200, 200, 300), shared_events=1, **record), make_record(1)]
    reason = found("client_lag", records, **facts)
    assert (reason.severity if reason else None) == expected
    if reason is not None:
        assert reason.message.startswith(
            "1 token events (25.0% of the gaps; the first of 1 of 2 responses) were read together"
        )


def test_few_events_that_waited_are_no_matter() -> None:
    late = make_record(0, events_ms=(100, 200, 300, 300), shared_events=1, merged_events=1, client_wait_s=0.1)
    assert severity("client_lag", [late, *GOOD[:49]]) is None  # 1 of 101 gaps
    assert severity("client_lag", [late, *GOOD[:48]]) == "inconclusive"
    # One of 101 requests has a first token too late, one of a hundred is one too many.
    first = make_record(0, events_ms=(200, 200, 300), shared_events=1, merged_events=1, client_wait_s=0.1)
    many = [make_record(k, events_ms=tuple(range(100, 400))) for k in range(100)]
    assert severity("client_lag", [first, *many]) is None
    assert severity("client_lag", [first, *many[:98]]) == "inconclusive"


def test_several_tokens_in_an_event_are_told() -> None:
    coalesced = make_record(0, events_ms=(100, 200), event_tokens=(4, 4), engine_output_tokens=8)
    reason = found("tokens_per_event", [coalesced, make_record(1)])
    assert reason is not None
    assert reason.severity == "note"
    assert reason.message.startswith("1 of 2 responses came in fewer events than tokens (2 events, 8 tokens)")
    assert found("tokens_per_event") is None


@pytest.mark.parametrize(("ratio", "expected"), [(None, None), (0.26, None), (1.0, None), (1.25, "inconclusive")])
def test_nothing_is_faster_than_its_hardware(ratio: float | None, expected: str | None) -> None:
    assert severity("above_roofline", roofline_ratio=ratio) == expected


def test_how_much_too_fast_is_put_in_words() -> None:
    reason = found("above_roofline", roofline_ratio=1.25)
    assert reason is not None
    assert "took 0.80 of the least time" in reason.message


@pytest.mark.parametrize(
    ("card", "code", "expected"),
    [
        (HeldBack(0.02, 0.0, 0.0), "throttled", None),
        (HeldBack(0.03, 0.0, 0.0), "throttled", "inconclusive"),
        (HeldBack(0.0, 0.03, 0.0), "throttled", "inconclusive"),
        (HeldBack(0.0, 0.0, 1.9), "throttled", None),
        (HeldBack(0.0, 0.0, 1.9), "power_capped", "note"),
        (HeldBack(0.0, 0.0, 0.0), "power_capped", None),
        (HeldBack(None, None, None), "throttled", None),
        (HeldBack(None, None, None), "power_capped", None),
        (HeldBack(None, 0.03, None), "throttled", "inconclusive"),
    ],
)
def test_a_card_that_was_slowed_down(card: HeldBack, code: str, expected: str | None) -> None:
    """Within two seconds, of which a hundredth is allowed."""
    assert severity(code, cards={"0": card}, wall_s=2.0) == expected


def test_a_card_that_may_be_another_s_is_told_and_not_judged() -> None:
    hot = found("throttled", cards={"0": HeldBack(0.5, 0, 1.9)}, cards_judged=False, wall_s=2.0)
    assert hot is not None
    assert hot.severity == "note"
    assert hot.message.endswith("the target does not say whether it is its own: name its cards (resources)")
    assert severity("power_capped", cards={"0": HeldBack(0, 0, 1.9)}, cards_judged=False, wall_s=2.0) is None


def test_the_card_and_the_cause_are_named() -> None:
    hot = found("throttled", cards={"0": HeldBack(0, 0, 0), "3": HeldBack(0.5, 0.1, 0)}, wall_s=2.0)
    assert hot is not None
    assert hot.message.startswith(
        "card 3 of the engine's host was slowed down for 0.50 s of 2.00 s because it was too hot; 1% is the limit"
    )
    braked = found("throttled", cards={"0": HeldBack(0.1, 0.5, 0)}, wall_s=2.0)
    assert braked is not None
    assert "because the power supply braked it" in braked.message
