"""Whatever the bytes and however they are cut: the same understanding, or a Failure, and never an exception."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.contract import Completion, Dialect
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.dialects.tgi_generate import TGI_GENERATE
from tests.fakes.captures import chunked, cut, event, head, make_capture, stream

DIALECTS = [OPENAI_COMPLETIONS, OPENAI_CHAT, TGI_GENERATE]
ENDINGS = ["complete", "eof", "reset", "timeout", "connect", "cancelled", "malformed", "something new"]
CUTS = st.lists(st.integers(0, 10_000), max_size=20)
TEXTS = st.lists(st.text(max_size=4), min_size=1, max_size=12)


def openai_stream(texts: list[str], running: bool) -> bytes:
    """A stream of one chunk a text, each of two tokens."""
    events: list[dict[str, Any]] = []
    for k, text in enumerate(texts):
        reason = "length" if k == len(texts) - 1 else None
        events.append({"choices": [{"index": 0, "text": text, "delta": {"content": text}, "finish_reason": reason}]})
        if running:
            events[-1]["usage"] = {"prompt_tokens": 3, "completion_tokens": 2 * k + 2}
    events.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2 * len(texts)}})
    return b"".join(stream(*events))


def tgi_stream(texts: list[str]) -> bytes:
    frames: list[dict[str, Any]] = [
        {"index": k, "token": {"id": k, "text": t, "special": False}, "generated_text": None, "details": None}
        for k, t in enumerate(texts, 1)
    ]
    frames[-1]["generated_text"] = "".join(texts)
    frames[-1]["details"] = {"finish_reason": "length", "generated_tokens": len(texts), "input_length": 3}
    return b"".join(stream(*frames, done=False))


def facts(got: Completion) -> tuple[object, ...]:
    """Everything but stamps."""
    return (got.text, list(got.event_tokens), got.input_tokens, got.output_tokens, got.finish_reason, got.failure)


@given(TEXTS, st.booleans(), CUTS)
def test_any_split_of_an_openai_stream(texts: list[str], running: bool, places: list[int]) -> None:
    raw = openai_stream(texts, running)
    for dialect in (OPENAI_COMPLETIONS, OPENAI_CHAT):
        got = dialect.decode(make_capture(cut(raw, places)))
        assert got.failure is None
        assert got.text == "".join(texts)
        assert list(got.event_tokens) == ([2] * len(texts) if running else [-1 for t in texts if t])
        assert got.output_tokens == 2 * len(texts)
        assert facts(got) == facts(dialect.decode(make_capture(raw)))
        assert list(got.event_ns) == sorted(got.event_ns)


@given(TEXTS, CUTS)
def test_any_split_of_a_tgi_stream(texts: list[str], places: list[int]) -> None:
    raw = tgi_stream(texts)
    got = TGI_GENERATE.decode(make_capture(cut(raw, places)))
    assert got.failure is None
    assert facts(got) == facts(TGI_GENERATE.decode(make_capture(raw)))
    assert list(got.event_tokens) == [1] * len(texts)


@given(TEXTS, st.integers(0, 10_000), CUTS)
def test_a_truncated_stream_is_a_failure_that_keeps_what_came(texts: list[str], length: int, places: list[int]) -> None:
    for dialect, raw in ((OPENAI_COMPLETIONS, openai_stream(texts, running=True)), (TGI_GENERATE, tgi_stream(texts))):
        got = dialect.decode(make_capture(cut(raw[: length % len(raw)], places), ended="eof"))
        assert got.failure is not None
        assert "".join(texts).startswith(got.text)


def check_is_valid(got: Completion) -> None:
    assert len(got.event_ns) == len(got.event_tokens) == len(got.event_shared)
    assert list(got.event_ns) == sorted(got.event_ns)
    assert got.clock in ("", "kernel", "user", "mixed")
    assert (got.clock == "") == (not got.event_ns)
    assert got.failure is not None or got.finish_reason
    assert all(n is None or n >= 0 for n in (got.input_tokens, got.output_tokens, got.cached_tokens))
    assert (got.count_source is None) == (got.output_tokens is None)
    json.dumps([got.text, got.failure and got.failure.message], ensure_ascii=False).encode()


KEYS = [
    "choices", "usage", "error", "detail", "message", "text", "delta", "content", "index", "finish_reason",
    "token_ids", "details", "token", "generated_text", "generated_tokens", "input_length",
    "completion_tokens", "prompt_tokens", "prompt_tokens_details", "tool_calls", "function", "name", "model",
    "object", "id", "tokens", "error_type", "special", "cached_tokens",
]  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
@given(st.data())
def test_any_json_is_a_completion_or_a_failure(dialect: Dialect, data: st.DataObject) -> None:
    values = data.draw(st.lists(JSON, max_size=4))
    if data.draw(st.booleans()):
        raw = head(transfer_encoding="chunked") + b"".join(chunked(event(json.dumps(v)) for v in values))
    else:
        body = json.dumps(values[0] if values else {}).encode()
        status = data.draw(st.sampled_from(["200 OK", "400 Bad Request", "307 Temporary Redirect"]))
        raw = head(status, content_type="application/json", content_length=str(len(body))) + body
    check_is_valid(dialect.decode(make_capture(raw, ended=data.draw(st.sampled_from(ENDINGS)))))


PIECES = st.sampled_from(
    [
        head(transfer_encoding="chunked"),
        head(version="1.0"),
        head("500 Oops", content_type="text/html", content_length="3"),
        b"5\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"data: ",
        b"data: [DONE]\n\n",
        b'{"choices":[{"text":"x","finish_reason":"stop"}]}',
        b'{"token":{"id":1,"text":"x"}}\n\n',
        b"[" * 5000,
        b"<html>",
    ]
)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
@given(
    st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=8).map(b"".join),
    st.sampled_from(ENDINGS),
    CUTS,
    st.booleans(),
)
def test_any_bytes_are_a_completion_or_a_failure(
    dialect: Dialect, raw: bytes, ended: str, places: list[int], sent: bool
) -> None:
    capture = make_capture(cut(raw, places), ended=ended, sent_ns=int(sent), error="\x00 \ud800 why")
    check_is_valid(dialect.decode(capture))
    # A capture whose stamps were lost is still no crash.
    check_is_valid(
        dialect.decode(
            replace(capture, read_bytes=capture.read_bytes[:1], read_user_ns=type(capture.read_user_ns)("q"))
        )
    )
