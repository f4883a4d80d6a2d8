"""A record from a capture and a completion, and through JSON and back."""

from __future__ import annotations

import json
from array import array
from dataclasses import replace

import pytest

from bench_runner.measure.record import (
    DERIVED_FIELDS,
    LIST_FIELDS,
    TABLE_FIELDS,
    RequestRecord,
    from_json,
    record_of,
    to_json,
)
from engines.contract import Capture, Completion, Failure, FailureKind
from tests.fakes.records import make_record

CAPTURE = Capture(
    index=7,
    scheduled_ns=1_000,
    sent_ns=2_000,
    sent_clock="kernel",
    connect_s=0.004,
    local_port=41_234,
    process=1,
    resends=1,
    read_user_ns=array("q", [5_000, 9_000]),
    read_kernel_ns=array("q", [4_000, 0]),
    read_bytes=array("q", [3, 4]),
    body=b"1234567",
    ended="complete",
    ended_ns=9_000,
    waited_ns=20_000_000,
)
COMPLETION = Completion(
    event_ns=array("q", [4_000, 9_000, 9_000]),
    event_tokens=array("q", [1, 2, 1]),
    event_shared=array("q", [0, 0, 1]),
    clock="mixed",
    text="four",
    input_tokens=11,
    output_tokens=4,
    count_source="usage",
    cached_tokens=0,
    finish_reason="length",
    closed_ns=9_500,
    status=200,
    failure=None,
    merged_events=1,
)


def record(capture: Capture = CAPTURE, completion: Completion = COMPLETION) -> RequestRecord:
    return record_of(capture, completion, planned_input_tokens=11, planned_output_tokens=4, input_characters=40)


def test_a_success_keeps_its_stamps_and_its_three_counts() -> None:
    done = record_of(
        CAPTURE,
        COMPLETION,
        planned_input_tokens=12,
        planned_output_tokens=5,
        input_characters=40,
        local_input_tokens=10,
        local_output_tokens=3,
    )
    assert done.ok
    assert (done.index, done.process, done.local_port, done.resends) == (7, 1, 41_234, 1)
    assert (done.sent_ns, done.sent_clock, done.event_clock) == (2_000, "kernel", "mixed")
    assert done.event_ns == (4_000, 9_000, 9_000)
    assert (done.shared_events, done.merged_events, done.client_wait_s) == (1, 1, 0.02)
    assert done.closed_ns == 9_500
    assert done.connect_s == 0.004
    assert (done.planned_input_tokens, done.engine_input_tokens, done.local_input_tokens) == (12, 11, 10)
    assert (done.planned_output_tokens, done.engine_output_tokens, done.local_output_tokens) == (5, 4, 3)
    assert (done.input_characters, done.output_characters) == (40, 4)


def test_times_are_worked_out_from_the_stamps() -> None:
    done = record()
    assert done.ttft_s == pytest.approx(2e-6)
    assert done.e2e_s == pytest.approx(7e-6)
    assert done.tpot_s == pytest.approx(5e-6 / 3)
    assert done.closed_s == pytest.approx(7.5e-6)
    assert done.send_lag_s == pytest.approx(1e-6)


def test_client_lag_looks_only_at_reads_with_a_kernel_stamp() -> None:
    assert record().client_lag_s == pytest.approx(1e-6)
    bare = replace(CAPTURE, read_kernel_ns=array("q", [0, 0]))
    assert record(bare).client_lag_s is None


def test_a_request_never_sent_has_no_times() -> None:
    empty = array("q")
    never = replace(
        CAPTURE, sent_ns=0, connect_s=0.0, read_user_ns=empty, read_kernel_ns=empty, read_bytes=empty, body=b""
    )
    nothing = replace(COMPLETION, event_ns=empty, event_tokens=empty, event_shared=empty, text="", closed_ns=0)
    done = record(never, replace(nothing, failure=Failure(FailureKind.CONNECT, "refused")))
    assert done.sent_ns is None
    assert done.closed_ns is None
    assert done.connect_s is None
    assert [getattr(done, name) for name in DERIVED_FIELDS] == [False, None, None, None, None, None]


def test_a_request_never_sent_is_no_success_even_where_nobody_said_so() -> None:
    done = record(replace(CAPTURE, sent_ns=0))
    assert done.failure is not None
    assert done.failure.kind is FailureKind.CANCELLED


def test_fewer_token_ids_than_counted_tokens_is_incomplete() -> None:
    done = record(completion=replace(COMPLETION, token_ids=(1, 2, 3)))
    assert done.failure is not None
    assert done.failure.kind is FailureKind.INCOMPLETE
    assert "3 token ids" in done.failure.message
    assert record(completion=replace(COMPLETION, token_ids=(1, 2, 3, 4))).ok


def test_the_dialects_failure_is_kept_as_it_is() -> None:
    failure = Failure(FailureKind.ABORTED, "the engine gave up", 200)
    assert record(completion=replace(COMPLETION, failure=failure, token_ids=())).failure == failure


@pytest.mark.parametrize(
    ("tokens", "counted", "singly"),
    [
        ((1, 1, 1), 3, True),
        ((1, 2, 1), 4, False),
        ((-1, -1, -1), 3, True),
        ((-1, -1, -1), 4, False),
        ((0, 1, 1), 2, False),
    ],
)
def test_one_token_an_event(tokens: tuple[int, ...], counted: int, singly: bool) -> None:
    done = make_record(event_tokens=tokens, engine_output_tokens=counted)
    assert done.one_token_per_event is singly


def test_no_events_are_not_one_token_each() -> None:
    assert not make_record(events_ms=()).one_token_per_event


@pytest.mark.parametrize("failure", [None, FailureKind.REJECTED])
def test_json_is_flat_and_comes_back_the_same(failure: FailureKind | None) -> None:
    one = make_record(3, failure=failure, connect_s=0.001)
    flat = json.loads(json.dumps(to_json(one)))
    assert from_json(flat) == one
    assert not any(isinstance(value, dict) for value in flat.values())
    assert {name for name, value in flat.items() if isinstance(value, list)} == set(LIST_FIELDS)
    assert set(TABLE_FIELDS) | set(LIST_FIELDS) == set(flat)
    assert flat["failure_kind"] == (failure.value if failure else None)
    assert flat["ttft_s"] == pytest.approx(0.1)


def test_json_without_a_field_is_refused() -> None:
    flat = to_json(make_record())
    del flat["sent_ns"]
    with pytest.raises(KeyError, match="sent_ns"):
        from_json(flat)
