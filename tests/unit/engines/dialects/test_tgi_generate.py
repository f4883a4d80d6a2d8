from __future__ import annotations

from typing import Any

import pytest

from engines.contract import Completion, Failure, FailureKind, GenerationRequest
from engines.dialects.tgi_generate import TGI_GENERATE, body
from engines.errors import RequestNotPossible
from tests.fakes.captures import LAG_NS, READ_NS, STEP_NS, answer, head, make_capture, stream


def frame(index: int, text: str, *, special: bool = False, **last: Any) -> dict[str, Any]:
    """One frame of the stream; every frame but the last says null for text and details."""
    token = {"id": 100 + index, "text": text, "logprob": -0.5, "special": special}
    return {"index": index, "token": token, "generated_text": None, "details": None} | last


def details(tokens: int, reason: str = "length", prompt: int = 5) -> dict[str, Any]:
    return {"finish_reason": reason, "generated_tokens": tokens, "input_length": prompt, "seed": None}


def decode(*frames: dict[str, Any], ended: str = "complete") -> Completion:
    reads = stream(*frames, done=False)
    return TGI_GENERATE.decode(make_capture(reads if ended == "complete" else reads[:-1], ended=ended))


def failure_of(got: Completion) -> Failure:
    assert got.failure is not None
    return got.failure


def test_the_body_asks_for_counts() -> None:
    assert body(GenerationRequest("m", "hi", 7)) == {
        "inputs": "hi",
        "parameters": {"max_new_tokens": 7, "details": True, "decoder_input_details": False},
    }


def test_token_ids_are_refused() -> None:
    with pytest.raises(RequestNotPossible, match="token ids"):
        body(GenerationRequest("m", (1, 2), 7))


def test_a_stream_has_one_token_a_frame_and_no_done() -> None:
    got = decode(frame(1, "a"), frame(2, "b"), frame(3, "c", generated_text="abc", details=details(3)))
    assert got.failure is None
    assert got.text == "abc"
    assert list(got.event_tokens) == [1, 1, 1]
    assert list(got.event_ns) == [READ_NS + k * STEP_NS - LAG_NS for k in (1, 2, 3)]
    assert (got.input_tokens, got.output_tokens, got.count_source) == (5, 3, "details")
    assert (got.finish_reason, got.token_ids) == ("length", (101, 102, 103))


def test_eos_counts_as_a_token_but_is_no_text() -> None:
    last = frame(2, "</s>", special=True, generated_text="a", details=details(2, "eos_token"))
    got = decode(frame(1, "a"), last)
    assert got.failure is None
    assert (got.text, got.output_tokens, list(got.event_tokens)) == ("a", 2, [1, 1])
    assert got.finish_reason == "eos_token"


def test_a_token_without_text_is_a_token() -> None:
    got = decode(frame(1, ""), frame(2, "é", generated_text="é", details=details(2)))
    assert list(got.event_tokens) == [1, 1]


def test_text_is_kept_where_the_end_is_missing() -> None:
    got = decode(frame(1, "a"), frame(2, "</s>", special=True), frame(3, "b"), ended="eof")
    assert got.text == "ab"
    assert failure_of(got).kind is FailureKind.BROKEN_STREAM
    assert got.output_tokens is None


def test_a_stream_without_its_last_frame_is_incomplete() -> None:
    assert failure_of(decode(frame(1, "a"))).kind is FailureKind.INCOMPLETE


def test_fewer_frames_than_counted_are_incomplete() -> None:
    got = decode(frame(1, "a"), frame(3, "c", generated_text="abc", details=details(3)))
    assert failure_of(got) == Failure(FailureKind.INCOMPLETE, "2 tokens arrived, the engine counted 3", 200)


@pytest.mark.parametrize(
    ("error_type", "kind"),
    [
        ("overloaded", FailureKind.REJECTED),
        ("validation", FailureKind.REJECTED),
        ("generation", FailureKind.ENGINE_ERROR),
        ("incomplete_generation", FailureKind.ENGINE_ERROR),
        ("incomplete_generation_stream", FailureKind.ENGINE_ERROR),
    ],
)
def test_errors_come_as_events_of_a_200(error_type: str, kind: FailureKind) -> None:
    got = decode({"error": "what it says", "error_type": error_type})
    assert failure_of(got).kind is kind
    assert failure_of(got).status == 200
    assert "what it says" in failure_of(got).message


def test_an_error_behind_tokens_is_an_error() -> None:
    got = decode(frame(1, "a"), {"error": "died", "error_type": "generation"}, ended="reset")
    assert failure_of(got) == Failure(FailureKind.ENGINE_ERROR, "died", 200)
    assert got.text == "a"


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        ("422 Unprocessable Entity", "validation"),
        ("424 Failed Dependency", "generation"),
        ("429 Too Many Requests", "overloaded"),
        ("500 Internal Server Error", "incomplete_generation"),
    ],
)
def test_refusals_with_a_status(status: str, error_type: str) -> None:
    got = TGI_GENERATE.decode(make_capture(answer({"error": "what it says", "error_type": error_type}, status)))
    assert failure_of(got) == Failure(FailureKind.REJECTED, f"HTTP {status[:3]}: what it says", int(status[:3]))


def test_a_frame_without_a_token_is_malformed() -> None:
    assert failure_of(decode({"index": 1}, frame(2, "a", details=details(1)))).kind is FailureKind.MALFORMED


def test_an_answer_that_did_not_stream() -> None:
    tokens = [{"id": 100 + k, "text": t, "logprob": None, "special": False} for k, t in enumerate("ab")]
    value = {
        "generated_text": "ab",
        "details": {"finish_reason": "length", "generated_tokens": 2, "seed": None, "prefill": [], "tokens": tokens},
    }
    reads = answer(value, x_prompt_tokens="5", x_generated_tokens="2", x_compute_time="0.1")
    got = TGI_GENERATE.decode(make_capture(reads))
    assert got.failure is None
    assert (got.text, got.token_ids, list(got.event_tokens)) == ("ab", (100, 101), [2])
    assert (got.input_tokens, got.output_tokens, got.count_source) == (5, 2, "details")


def test_an_answer_without_details_is_counted_by_its_headers() -> None:
    reads = answer({"generated_text": "ab"}, x_prompt_tokens="5", x_generated_tokens="2")
    got = TGI_GENERATE.decode(make_capture(reads))
    assert (got.input_tokens, got.output_tokens, got.count_source) == (5, 2, "headers")
    assert failure_of(got).kind is FailureKind.INCOMPLETE


@pytest.mark.parametrize("bad", [{"details": 7}, {"details": {"generated_tokens": -1}}, {"details": {"tokens": [1]}}])
def test_odd_details_are_no_crash(bad: dict[str, Any]) -> None:
    got = TGI_GENERATE.decode(make_capture(answer({"generated_text": "x"} | bad)))
    assert failure_of(got).kind is FailureKind.INCOMPLETE
    assert got.output_tokens is None
    assert list(got.event_tokens) == [-1]


def test_an_empty_event_stream_is_incomplete() -> None:
    got = TGI_GENERATE.decode(make_capture([head(content_length="0")]))
    assert failure_of(got).kind is FailureKind.INCOMPLETE
