"""The traps of the OpenAI routes, one by one, as real servers set them."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import pytest

from engines.contract import Completion, Failure, FailureKind
from engines.dialects import openai_chat, openai_completions
from tests.fakes.captures import (
    LAG_NS,
    READ_NS,
    STEP_NS,
    answer,
    chunked,
    event,
    head,
    make_capture,
    stream,
)

OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}


def text(value: str, reason: str | None = None, *, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk of a text completion."""
    return {"model": "tiny", "choices": [{"index": index, "text": value, "finish_reason": reason}], **more}


def delta(reason: str | None = None, **content: Any) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"choices": [{"index": 0, "delta": content, "finish_reason": reason}]}


def usage(output: int, prompt: int = 3, **more: Any) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, **more}}


def last(output: int) -> dict[str, Any]:
    """The chunk that carries nothing but usage."""
    return {"choices": [], **usage(output)}


def decode(*events: dict[str, Any] | str, done: bool = True, ended: str = "complete") -> Completion:
    return openai_completions.decode(make_capture(stream(*events, done=done), ended=ended))


def failure_of(got: Completion) -> Failure:
    assert got.failure is not None
    return got.failure


def stamp(read: int) -> int:
    return READ_NS + read * STEP_NS - LAG_NS


def test_a_plain_stream() -> None:
    got = decode(text("a"), text("b", "length"), last(2))
    assert got.failure is None
    assert got.text == "ab"
    assert got.model == "tiny"
    # Read 0 is the head, 1 and 2 the tokens, 3 the usage, 4 `[DONE]`, 5 the last chunk.
    assert list(got.event_ns) == [stamp(1), stamp(2)]
    assert got.closed_ns == stamp(5)
    assert (got.input_tokens, got.output_tokens, got.count_source) == (3, 2, "usage")


def test_a_role_chunk_is_no_token() -> None:
    opening = delta(role="assistant", content="")
    got = openai_chat.decode(make_capture(stream(opening, delta(content="hi"), delta("stop"), last(1))))
    assert got.failure is None
    assert list(got.event_ns) == [stamp(2)]


def test_a_role_on_every_delta_hides_no_text() -> None:
    deltas = [delta(role="assistant", content=c) for c in "ab"]
    got = openai_chat.decode(make_capture(stream(*deltas, delta("length", role="assistant"), last(2))))
    assert got.text == "ab"
    assert len(got.event_ns) == 2


def test_a_role_chunk_without_content_is_no_token() -> None:
    events = [delta(role="assistant"), delta(content="a"), delta("stop") | usage(1)]
    got = openai_chat.decode(make_capture(stream(*events, done=False)))
    assert got.failure is None
    assert list(got.event_tokens) == [-1]


def test_an_empty_chunk_is_a_token_where_running_usage_says_so() -> None:
    events = [
        text("", **usage(1)),
        text("", **usage(1)),
        text("é", **usage(2)),
        text("", "length", **usage(4)),
        last(4),
    ]
    got = decode(*events)
    assert got.failure is None
    assert list(got.event_tokens) == [1, 1, 2]
    assert list(got.event_ns) == [stamp(1), stamp(3), stamp(4)]


def test_an_empty_chunk_is_a_token_where_ids_say_so() -> None:
    events = [text("x"), text(""), text("y", "length"), last(4)]
    for value, ids in zip(events, ([5], [6, 7], [8]), strict=False):
        value["choices"][0]["token_ids"] = ids
    got = decode(*events)
    assert got.failure is None
    assert got.token_ids == (5, 6, 7, 8)
    assert list(got.event_tokens) == [1, 2, 1]


def test_an_empty_chunk_is_none_where_nothing_says_so() -> None:
    got = decode(text(""), text("a"), text(""), text("", "length"), last(3))
    assert list(got.event_ns) == [stamp(2)]
    assert got.output_tokens == 3


def test_several_tokens_in_a_chunk_are_told_by_running_usage() -> None:
    got = decode(text("a b c", **usage(3)), text(" d", **usage(4)), text(" e f", "length", **usage(6)), last(6))
    assert list(got.event_tokens) == [3, 1, 2]
    assert got.output_tokens == 6


def test_a_role_chunk_with_running_usage_is_no_token() -> None:
    events = [delta(role="assistant", content="") | usage(0), delta(content="a") | usage(1), delta("stop") | usage(2)]
    got = openai_chat.decode(make_capture(stream(*events, last(2))))
    assert list(got.event_tokens) == [1, 1]


def test_usage_that_comes_once_at_the_end_is_not_running() -> None:
    got = decode(text("a", ""), text("b", ""), text("c", "length", **usage(3)))
    assert got.failure is None
    assert got.finish_reason == "length"
    assert list(got.event_tokens) == [-1, -1, -1]
    assert got.output_tokens == 3


def test_text_without_a_new_token_is_an_event_of_none() -> None:
    got = decode(text("a", **usage(1)), text("b", **usage(1)), text("c", "length", **usage(2)))
    assert list(got.event_tokens) == [1, 0, 1]


def test_running_usage_that_runs_backwards_tells_nothing() -> None:
    got = decode(text("a", **usage(5)), text("b", "length", **usage(2)))
    assert list(got.event_tokens) == [5, -1]


def test_null_usage_is_none() -> None:
    got = decode(text("a", usage=None), text("b", "length", usage=None), last(2))
    assert list(got.event_tokens) == [-1, -1]
    assert got.output_tokens == 2


def test_without_usage_there_is_no_count_and_no_failure() -> None:
    got = decode(text("a"), text("b", "length"))
    assert got.failure is None
    assert (got.input_tokens, got.output_tokens, got.count_source) == (None, None, None)


def test_cached_tokens_are_kept() -> None:
    got = decode(text("a", "length"), {"choices": [], **usage(1, prompt_tokens_details={"cached_tokens": 2})})
    assert got.cached_tokens == 2


def test_a_missing_done_is_fine_behind_a_finish_reason() -> None:
    assert decode(text("a", "length"), last(1), done=False).failure is None


def test_a_done_is_not_yet_a_success() -> None:
    got = decode(text("a"), last(1))
    assert failure_of(got).kind is FailureKind.INCOMPLETE
    assert "finish reason" in failure_of(got).message


def test_nothing_behind_done_counts() -> None:
    assert decode(text("a", "length"), "[DONE]", text("b"), done=False).text == "a"


def test_an_empty_stream_is_incomplete() -> None:
    assert failure_of(decode()).kind is FailureKind.INCOMPLETE


def test_an_error_event_inside_a_200() -> None:
    got = decode(text("a"), {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}})
    assert failure_of(got) == Failure(FailureKind.ENGINE_ERROR, "EngineCore died", 200)
    assert got.text == "a"
    assert got.output_tokens is None


def test_an_error_of_the_old_shape() -> None:
    got = decode({"object": "error", "message": "out of memory", "code": 50001})
    assert failure_of(got) == Failure(FailureKind.ENGINE_ERROR, "out of memory", 200)


def test_an_error_in_an_answer_with_200() -> None:
    got = openai_completions.decode(make_capture(answer({"error": {"code": 7}})))
    assert failure_of(got) == Failure(FailureKind.ENGINE_ERROR, '{"code": 7}', 200)


def test_an_abort_is_no_success() -> None:
    got = decode(text("a"), text("", "abort"), last(1))
    assert failure_of(got).kind is FailureKind.ABORTED
    assert got.finish_reason == "abort"


def test_a_finish_reason_of_error_is_the_engines_error() -> None:
    assert failure_of(decode(text("a"), text("", "error"), last(1))).kind is FailureKind.ENGINE_ERROR


def test_tgi_overload_inside_a_200_is_a_rejection() -> None:
    got = decode(OVERLOADED)
    assert failure_of(got).kind is FailureKind.REJECTED
    assert failure_of(got).status == 200
    assert "overloaded (in an event of a 200): Model is overloaded" in failure_of(got).message


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Model is overloaded", FailureKind.REJECTED),
        ("Input validation error: `inputs` must have less than 1024 tokens", FailureKind.REJECTED),
        ("Request failed during generation: CUDA out of memory", FailureKind.ENGINE_ERROR),
    ],
)
def test_tgi_errors_in_openais_shape(said: str, kind: FailureKind) -> None:
    got = decode({"error": {"message": said, "http_status_code": 422}})
    assert failure_of(got).kind is kind
    assert said in failure_of(got).message


def test_keepalive_comments_are_nothing() -> None:
    body = b": keepalive 1/2\n\n" + event(text("a")) + b": ping\n\n" + event(text("b", "stop")) + b":\n\n"
    got = openai_completions.decode(make_capture([head(version="1.0"), body], ended="eof"))
    assert got.failure is None
    assert got.text == "ab"


@pytest.mark.parametrize("lost", [1, 5, 6, 20])
def test_a_stream_cut_behind_its_finish_reason_is_still_broken(lost: int) -> None:
    raw = b"".join(stream(text("a", "length"), last(1)))
    got = openai_completions.decode(make_capture(raw[:-lost], ended="eof"))
    assert failure_of(got).kind is FailureKind.BROKEN_STREAM
    assert got.output_tokens == 1


def test_a_cut_inside_an_event_of_a_body_without_framing_is_broken() -> None:
    body = event(text("a")) + event(text("b", "stop"))[:-9]
    got = openai_completions.decode(make_capture([head(version="1.0"), body], ended="eof"))
    assert failure_of(got) == Failure(FailureKind.BROKEN_STREAM, "the stream ends inside an event", 200)
    assert got.text == "a"


def test_a_cut_answer_is_broken() -> None:
    raw = b"".join(answer({"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}))
    assert failure_of(openai_completions.decode(make_capture(raw[:-1], ended="eof"))).kind is FailureKind.BROKEN_STREAM


def test_a_closed_connection_without_an_answer_is_broken() -> None:
    got = openai_completions.decode(make_capture(b"", ended="eof"))
    assert failure_of(got).kind is FailureKind.BROKEN_STREAM
    assert "before any byte" in failure_of(got).message
    assert (got.status, got.clock, list(got.event_ns)) == (None, "", [])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "The model `nope` does not exist.", "code": 404}}, "The model `nope` does not exist."),
        ({"error": "Input validation error", "error_type": "validation"}, "Input validation error"),
        ({"detail": "prompt must be a string."}, "prompt must be a string."),
        ({"detail": [{"loc": ["body", "prompt"], "msg": "Field required"}]}, "body.prompt: Field required"),
        ({"message": "no healthy upstream"}, "no healthy upstream"),
        (b"upstream connect error\x00\r\n", "upstream connect error"),
        (b"", "no message"),
        (b"[1]", "[1]"),
    ],
)
def test_a_refusal_of_a_streaming_request_keeps_the_engines_words(body: dict[str, Any] | bytes, said: str) -> None:
    got = openai_completions.decode(make_capture(answer(body, "429 Too Many Requests")))
    assert failure_of(got) == Failure(FailureKind.REJECTED, f"HTTP 429: {said}", 429)


def test_a_refusal_cut_short_is_still_a_refusal() -> None:
    raw = b"".join(answer({"detail": "x" * 50}, "503 Service Unavailable"))
    got = openai_completions.decode(make_capture(raw[:-20], ended="timeout"))
    assert failure_of(got).kind is FailureKind.REJECTED


def test_a_long_message_is_cut() -> None:
    got = openai_completions.decode(make_capture(answer({"detail": "x" * 5000}, "400 Bad Request")))
    assert len(failure_of(got).message) == 500


def test_html_is_told() -> None:
    page = b"<!DOCTYPE html><html><head><title>Sign in &amp; go</title></head></html>"
    got = openai_completions.decode(make_capture(answer(page, content_type="text/html")))
    assert failure_of(got).kind is FailureKind.MALFORMED
    assert "HTML page titled 'Sign in &amp; go'" in failure_of(got).message
    got = openai_completions.decode(make_capture(answer(page, "502 Bad Gateway", content_type="text/html")))
    assert failure_of(got).kind is FailureKind.REJECTED
    assert "HTML page" in failure_of(got).message


@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed(status: str) -> None:
    reads = answer(b"", status, location="http://other/v1/completions?token=s3cret")
    got = openai_completions.decode(make_capture(reads))
    assert failure_of(got).kind is FailureKind.REJECTED
    assert "redirects to http://other/v1/completions; redirects are not followed" in failure_of(got).message
    assert "s3cret" not in failure_of(got).message


def test_an_encoding_that_was_not_asked_for_is_malformed() -> None:
    got = openai_completions.decode(make_capture(answer(b"\x1f\x8b", content_encoding="gzip")))
    assert failure_of(got).kind is FailureKind.MALFORMED
    assert "gzip" in failure_of(got).message


@pytest.mark.parametrize(
    "body", [event("not json"), event("7"), event({"hello": 1}), event({"choices": [3]}), event({"choices": "x"})]
)
def test_events_that_are_no_completions_are_malformed(body: bytes) -> None:
    reads = [head(transfer_encoding="chunked"), *chunked([event(text("a", "length")), body])]
    assert failure_of(openai_completions.decode(make_capture(reads))).kind is FailureKind.MALFORMED


def test_bytes_that_are_no_http_are_malformed() -> None:
    got = openai_completions.decode(make_capture(b"SSH-2.0-OpenSSH_9.2\r\n", ended="malformed", error="not HTTP"))
    assert failure_of(got).kind is FailureKind.MALFORMED
    assert "SSH-2.0" in failure_of(got).message


@pytest.mark.parametrize(
    ("ended", "error", "kind"),
    [
        ("timeout", "", FailureKind.TIMEOUT),
        ("cancelled", "", FailureKind.CANCELLED),
        ("reset", "Connection reset by peer", FailureKind.BROKEN_STREAM),
        ("eof", "", FailureKind.BROKEN_STREAM),
        ("malformed", "no chunk size", FailureKind.MALFORMED),
    ],
)
def test_how_a_capture_ended_is_its_failure(ended: str, error: str, kind: FailureKind) -> None:
    reads = stream(text("a"), text("b", "length"))[:-2]
    got = openai_completions.decode(make_capture(reads, ended=ended, error=error))
    assert failure_of(got).kind is kind
    assert error in failure_of(got).message
    assert got.text == "ab"
    assert got.closed_ns == READ_NS + len(reads) * STEP_NS


@pytest.mark.parametrize("ended", ["connect", "reset", "eof"])
def test_what_was_never_sent_had_no_connection(ended: str) -> None:
    got = openai_completions.decode(make_capture(b"", ended=ended, error="Connection refused", sent_ns=0))
    assert failure_of(got) == Failure(FailureKind.CONNECT, "Connection refused")


def test_a_request_that_was_cancelled_before_it_was_sent() -> None:
    got = openai_completions.decode(make_capture(b"", ended="cancelled", sent_ns=0))
    assert failure_of(got).kind is FailureKind.CANCELLED


def test_what_the_engine_said_counts_before_how_the_connection_ended() -> None:
    reads = stream(text("a"), {"error": {"message": "died"}}, text("", "abort"))[:-1]
    assert failure_of(openai_completions.decode(make_capture(reads, ended="reset"))).kind is FailureKind.ENGINE_ERROR
    reads = stream(text("a"), text("", "abort"))[:-1]
    assert failure_of(openai_completions.decode(make_capture(reads, ended="eof"))).kind is FailureKind.ABORTED
    reads = stream(text("a"), "no json")[:-1]
    assert failure_of(openai_completions.decode(make_capture(reads, ended="eof"))).kind is FailureKind.BROKEN_STREAM
    assert failure_of(decode(text("a"), "no json")).kind is FailureKind.MALFORMED


def test_fewer_tokens_than_counted_are_incomplete() -> None:
    value = text("ab", "length")
    value["choices"][0]["token_ids"] = [1, 2]
    got = decode(value, last(3))
    assert failure_of(got) == Failure(FailureKind.INCOMPLETE, "2 tokens arrived, the engine counted 3", 200)


def test_several_choices_all_count() -> None:
    events = [
        text("a", index=0, **usage(1)),
        text("x", index=1, **usage(1)),
        text("b", "length", index=0, **usage(3)),
        text("y", "stop", index=1, **usage(2)),
    ]
    got = decode(*events, last(5))
    assert got.failure is None
    assert got.text == "abxy"
    assert list(got.event_tokens) == [1, 1, 2, 1]
    assert got.output_tokens == 5


def test_each_choice_must_finish_and_none_may_be_aborted() -> None:
    assert failure_of(decode(text("a", "length"), text("x", index=1))).kind is FailureKind.INCOMPLETE
    assert failure_of(decode(text("a", "length"), text("x", "abort", index=1))).kind is FailureKind.ABORTED


def test_several_choices_in_one_chunk() -> None:
    both = {"choices": [text("a")["choices"][0], text("x", index=1)["choices"][0]], **usage(2)}
    got = decode(both, text("b", "length"), text("y", "length", index=1))
    assert got.failure is None
    assert list(got.event_tokens) == [-1, -1, -1, -1]
    assert list(got.event_shared) == [0, 1, 0, 0]
    # The usage of such a chunk is nobody's alone.
    reasons = [text("a", "stop")["choices"][0], text("x", "stop", index=1)["choices"][0]]
    assert list(decode({"choices": reasons, **usage(2)}).event_tokens) == [-1, -1]


def test_events_that_share_a_read_are_marked() -> None:
    parts = stream(text("a"), text("b"), text("c", "length"))
    got = openai_completions.decode(make_capture([parts[0], parts[1] + parts[2], *parts[3:]]))
    assert list(got.event_shared) == [0, 1, 0]
    assert got.event_ns[0] == got.event_ns[1]
    assert got.merged_events == 1


def test_events_of_one_chunk_came_together() -> None:
    one, two, three = (event(text(letter)) for letter in "abc")
    parts = [head(transfer_encoding="chunked"), *chunked([one + two, three, event(text("d", "length"))])]
    got = openai_completions.decode(make_capture(parts))
    assert list(got.event_shared) == [0, 1, 0, 0]
    assert got.merged_events == 0
    # … and another chunk in the same read did not, as far as anybody knows
    got = openai_completions.decode(make_capture([parts[0], parts[1] + parts[2], *parts[3:]]))
    assert list(got.event_shared) == [0, 1, 1, 0]
    assert got.merged_events == 1


def test_without_chunks_nobody_knows_what_came_together() -> None:
    events = [event(text("a")), event(text("b")), event(text("c", "length"))]
    got = openai_completions.decode(make_capture([head(version="1.0"), events[0] + events[1], events[2]], ended="eof"))
    assert (list(got.event_shared), got.merged_events) == ([0, 1, 0], 1)


def test_two_choices_of_one_event_came_together() -> None:
    both = {"choices": [text("a")["choices"][0], text("x", index=1)["choices"][0]]}
    got = decode(both, text("b", "length"), text("y", "length", index=1))
    assert (list(got.event_shared), got.merged_events) == ([0, 1, 0, 0], 0)


def test_an_event_is_stamped_by_the_read_that_completed_it() -> None:
    parts = stream(text("a"), text("b", "length"))
    got = openai_completions.decode(make_capture([parts[0], parts[1][:50], parts[1][50:], *parts[2:]]))
    assert list(got.event_ns) == [stamp(2), stamp(3)]


@pytest.mark.parametrize(
    ("kernel", "clock"),
    [([True] * 5, "kernel"), ([False] * 5, "user"), ([True, True, False, True, True], "mixed")],
)
def test_the_clock_is_named(kernel: list[bool], clock: str) -> None:
    got = openai_completions.decode(make_capture(stream(text("a"), text("b", "length")), kernel=kernel))
    assert got.clock == clock
    assert got.event_ns[1] == READ_NS + 2 * STEP_NS - (LAG_NS if kernel[2] else 0)


def test_mixed_stamps_do_not_run_backwards() -> None:
    capture = make_capture(stream(text("a"), text("b", "length")), kernel=[True, False, True, True, True])
    capture.read_user_ns[1] += 5 * STEP_NS
    got = openai_completions.decode(capture)
    assert got.clock == "mixed"
    # We read "a" late; the kernel saw "b", which came behind it, at its stamp.
    assert list(got.event_ns) == [stamp(2), stamp(2)]


def test_without_stamps_the_end_is_the_stamp() -> None:
    capture = make_capture(stream(text("a", "length")))
    got = openai_completions.decode(replace(capture, read_kernel_ns=array("q")))
    assert (list(got.event_ns), got.clock) == ([capture.ended_ns], "user")


def test_an_answer_that_did_not_stream_is_one_event() -> None:
    value = {"choices": [{"index": 0, "text": "abc", "finish_reason": "length"}], **usage(3)}
    got = openai_completions.decode(make_capture(answer(value)))
    assert got.failure is None
    assert (list(got.event_ns), list(got.event_tokens)) == ([stamp(1)], [3])


def test_tgi_counts_an_unstreamed_prompt_in_its_header() -> None:
    value = {"choices": [{"index": 0, "text": "abc", "finish_reason": "length"}], **usage(3, prompt=0)}
    reads = answer(value, x_prompt_tokens="17", x_generated_tokens="3")
    got = openai_completions.decode(make_capture(reads))
    assert (got.input_tokens, got.output_tokens, got.count_source) == (17, 3, "usage")


def test_headers_count_where_usage_does_not() -> None:
    value = {"choices": [{"index": 0, "text": "abc", "finish_reason": "length"}]}
    reads = answer(value, x_prompt_tokens="17", x_generated_tokens="3")
    got = openai_completions.decode(make_capture(reads))
    assert (got.input_tokens, got.output_tokens, got.count_source) == (17, 3, "headers")


def test_mislabelled_content_is_understood_by_its_looks() -> None:
    body = event(text("a", "length"))
    got = openai_completions.decode(make_capture(answer(body, content_type="text/plain")))
    assert got.failure is None
    refusal = answer({"error": {"message": "no"}}, content_type="text/event-stream")
    assert failure_of(openai_completions.decode(make_capture(refusal))).kind is FailureKind.ENGINE_ERROR


def test_reasoning_and_tool_calls_are_generated_text() -> None:
    calls = [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]
    events = [delta(reasoning="hm", reasoning_content="hm"), delta(content="a"), delta(tool_calls=calls), delta("stop")]
    got = openai_chat.decode(make_capture(stream(*events)))
    assert got.text == "hmaf{}"
    assert len(got.event_ns) == 3


@pytest.mark.parametrize("bad", [-1, True, 1.5, "7", None, 10**30, [1]])
def test_a_count_that_is_none_is_missing(bad: Any) -> None:
    got = decode(text("a", "length"), {"choices": [], "usage": {"completion_tokens": bad, "prompt_tokens": bad}})
    assert got.failure is None
    assert (got.input_tokens, got.output_tokens) == (None, None)


def test_text_can_be_written_as_utf8() -> None:
    raw = b'{"choices":[{"index":0,"text":"\\ud83d","finish_reason":null}]}'
    rest = b'{"choices":[{"index":0,"text":"\\ude00 \\ud800","finish_reason":"stop"}]}'
    got = decode(raw.decode(), rest.decode())
    assert got.text == "\U0001f600 \ufffd"


def test_half_the_tokens_with_full_usage_are_no_success() -> None:
    """Running usage tells how many tokens came; the closing usage claims the planned length."""
    half = [text(" w", "length" if k == 2 else None, **usage(k)) for k in (1, 2)]
    failure = failure_of(decode(*half, last(4)))
    assert failure.kind is FailureKind.INCOMPLETE
    assert failure.message == "2 tokens arrived, the engine counted 4"
    assert decode(*half, last(2)).failure is None


def test_a_stream_that_does_not_tell_its_tokens_is_not_accused() -> None:
    """Two chunks may well carry four tokens."""
    assert decode(text("one two"), text(" three four", "length"), last(4)).failure is None


def test_running_usage_of_zero_is_no_running_usage() -> None:
    got = decode(text("a", **usage(0)), text("b", "length", **usage(0)), last(2))
    assert got.failure is None
    assert list(got.event_tokens) == [-1, -1]


@pytest.mark.parametrize("reason", ["stop", "eos_token", "stop_sequence"])
def test_the_end_of_sequence_token_has_no_text_and_comes_with_the_finish_reason(reason: str) -> None:
    """It was generated and is counted, so its arrival is the last token's."""
    got = decode(text("a"), text("b"), text("", reason), last(3))
    assert list(got.event_ns) == [stamp(1), stamp(2), stamp(3)]
    assert list(got.event_tokens) == [-1, -1, 1]
    assert got.text == "ab"


@pytest.mark.parametrize(("reason", "counted"), [("stop", 2), ("stop", 4), ("length", 3), ("stop", None)])
def test_an_empty_closing_chunk_is_a_token_only_where_the_count_says_so(reason: str, counted: int | None) -> None:
    got = decode(text("a"), text("b"), text("", reason), *([] if counted is None else [last(counted)]))
    assert list(got.event_ns) == [stamp(1), stamp(2)]
    assert got.failure is None


def test_where_chunks_tell_their_tokens_the_one_missing_came_with_the_end() -> None:
    """A closing chunk without running usage, behind text with it: a special token at the length asked for."""
    got = decode(text("a", **usage(1)), text("b", **usage(2)), text("", "length"), last(3))
    assert list(got.event_tokens) == [1, 1, 1]
    assert got.failure is None
    short = decode(text("a", **usage(1)), text("b", **usage(2)), text("", "length"), last(4))
    assert failure_of(short).kind is FailureKind.INCOMPLETE


def test_several_choices_may_each_end_with_a_token_of_no_text() -> None:
    got = decode(text("a"), text("b", index=1), text("", "stop", index=1), text("", "stop"), last(4))
    assert list(got.event_ns) == [stamp(k) for k in range(1, 5)]
