"""Every recording of a real engine decodes right, in any framing and however its bytes are cut."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from engines.contract import Completion, Dialect, FailureKind
from engines.dialects.http1 import ResponseFramer
from engines.dialects.http1_response import split_response
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from tests.fakes.captures import RECORDINGS, chunked, cut, make_capture, read_recording


@dataclass(frozen=True)
class Expected:
    """What a recording says, read by a person. `None`: the wire does not say."""

    text: str
    #: number of token events, and the tokens in each (-1 unknown)
    events: int
    tokens_each: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None = None
    token_ids: tuple[int, ...] | None = None


COL = " col\ufffd col\ufffd col\ufffd col"
QWEN = "64uffereditleoc\n       sesPPinter"
NOTICE = " ob notice actypeppritenclose"

GENERATIONS = {
    "mlx-lm-0.32.2/chat_stream": Expected("ob notice actype", 4, -1, 14, 4, cached_tokens=0),
    "mlx-lm-0.32.2/cmpl": Expected(QWEN, 1, 8, 3, 8, cached_tokens=0),
    "mlx-lm-0.32.2/cmpl_stream": Expected("64uffereditleoc", 4, -1, 3, 4, cached_tokens=2),
    "transformers-5.23.0/chat": Expected("ob notice actypeppritenclose", 1, 8, 18, 8),
    "transformers-5.23.0/chat_stream": Expected(NOTICE, 8, -1, 18, 8),
    "transformers-5.23.0/chat_stream_plain": Expected(NOTICE, 8, -1, 18, 8),
    "transformers-5.23.0/cmpl": Expected(QWEN, 1, 8, 3, 8),
    "transformers-5.23.0/cmpl_stream": Expected(QWEN, 8, -1, 3, 8),
    "vllm-0.32.0/chat": Expected(COL, 1, 8, 18, 8),
    # 8 tokens, 8 chunks, 4 of them without text: without running usage those are not known to be tokens.
    "vllm-0.32.0/chat_stream": Expected(COL, 4, -1, 18, 8),
    "vllm-0.32.0/chat_stream_mct": Expected(COL, 4, -1, None, None),
    "vllm-0.32.0/cmpl": Expected("context Codecontext Codecontext Codecontext Code", 1, 8, 3, 8),
    "vllm-0.32.0/cmpl_ids": Expected("Precedencen" * 4, 1, 8, 8, 8, token_ids=(1838, 80) * 4),
    "vllm-0.32.0/cmpl_stream": Expected("context Code" * 4, 8, -1, 3, 8),
    "vllm-0.32.0/cmpl_stream_ids": Expected("Precedencen" * 4, 8, 1, 8, 8),
    "vllm-0.32.0/cmpl_stream_nousage": Expected("am matandleper", 4, -1, None, None),
    "vllm-0.32.0/err_unknown_field": Expected("decodednegative", 1, 2, 1, 2),
}

REFUSALS = {
    "transformers-5.23.0/cmpl_ids": (400, "prompt must be a string."),
    "transformers-5.23.0/err_extra": (422, "Unexpected fields in the request: {'ignore_eos'}"),
    "transformers-5.23.0/err_model": (400, "Server is pinned to '/models/tiny-qwen2'; requested 'nope'."),
    "transformers-5.23.0/metrics": (404, "Not Found"),
    "transformers-5.23.0/version": (404, "Not Found"),
    "vllm-0.32.0/err_404": (404, "Not Found"),
    "vllm-0.32.0/err_badjson": (400, "JSON decode error"),
    "vllm-0.32.0/err_model": (404, "The model `nope` does not exist. Valid aliases: tiny."),
    "vllm-0.32.0/err_toolong": (400, "max_tokens=100000 cannot be greater than max_model_len=512."),
    "vllm-0.32.0/err_toolong_stream": (400, "max_tokens=100000 cannot be greater than max_model_len=512."),
    "vllm-0.32.0/info": (404, "Not Found"),
    "vllm-0.32.0/root": (404, "Not Found"),
    "mlx-lm-0.32.2/metrics": (404, "Not Found"),
}

#: answers of other routes: whole HTTP, but no generation
OTHERS = {
    "mlx-lm-0.32.2/health",
    "mlx-lm-0.32.2/models",
    "transformers-5.23.0/health",
    "transformers-5.23.0/models",
    "transformers-5.23.0/responses_stream",
    "vllm-0.32.0/health",
    "vllm-0.32.0/metrics",
    "vllm-0.32.0/models",
    "vllm-0.32.0/tokenize",
    "vllm-0.32.0/tokenize_chat",
    "vllm-0.32.0/version",
}

ALL = sorted(p.relative_to(RECORDINGS).with_suffix("").as_posix() for p in RECORDINGS.rglob("*.headers"))


def dialect_of(name: str) -> Dialect:
    return OPENAI_CHAT if "/chat" in name else OPENAI_COMPLETIONS


def frame(name: str, seed: int) -> bytes:
    """The recording as it was on the wire; bodies that were chunked are chunked again, at random places."""
    head, body = read_recording(name)
    if b"transfer-encoding: chunked" not in head.lower():
        return head + body
    draw = random.Random(seed)
    return head + b"".join(chunked(cut(body, [draw.randrange(len(body)) for _ in range(draw.randrange(40))])))


def decode(name: str, raw: bytes, seed: int) -> Completion:
    framer = ResponseFramer()
    draw = random.Random(seed)
    reads = cut(raw, [draw.randrange(len(raw)) for _ in range(draw.randrange(60))])
    done = [framer.feed(read) for read in reads]
    assert framer.malformed is None
    assert done == [False] * (len(reads) - 1) + [not framer.until_close]
    return dialect_of(name).decode(make_capture(reads, ended="eof" if framer.until_close else "complete"))


def test_every_recording_is_described() -> None:
    assert sorted([*GENERATIONS, *REFUSALS, *OTHERS]) == [n for n in ALL if n != "vllm-0.32.0/metrics_after_load"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", GENERATIONS)
def test_a_generation(name: str, seed: int) -> None:
    expected = GENERATIONS[name]
    got = decode(name, frame(name, seed), seed)
    assert got.failure is None
    assert got.text == expected.text
    assert list(got.event_tokens) == [expected.tokens_each] * expected.events
    assert got.input_tokens == expected.input_tokens
    assert got.output_tokens == expected.output_tokens
    assert got.count_source == (None if expected.output_tokens is None else "usage")
    assert got.cached_tokens == expected.cached_tokens
    assert got.token_ids == expected.token_ids
    assert got.finish_reason == "length"
    assert got.status == 200
    assert got.clock == "kernel"
    assert list(got.event_ns) == sorted(got.event_ns)
    assert got.closed_ns >= got.event_ns[-1]


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_keeps_status_and_the_engines_words(name: str) -> None:
    status, said = REFUSALS[name]
    got = decode(name, frame(name, 1), 1)
    assert got.failure is not None
    assert got.failure.kind is FailureKind.REJECTED
    assert got.failure.status == got.status == status
    assert said in got.failure.message
    assert not got.event_ns


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_an_answer_of_another_route_is_no_generation(name: str) -> None:
    got = decode(name, frame(name, 2), 2)
    assert got.failure is not None
    assert got.failure.kind in (FailureKind.MALFORMED, FailureKind.INCOMPLETE)
    assert not got.event_ns


@pytest.mark.parametrize("name", [n for n in ALL if n in GENERATIONS and "stream" in n])
def test_a_cut_anywhere_is_no_success(name: str) -> None:
    raw = frame(name, 3)
    head_end = raw.index(b"\r\n\r\n") + 4
    for length in range(0, len(raw), 7):
        got = dialect_of(name).decode(make_capture(raw[:length], ended="eof"))
        until_close = length >= head_end and split_response(raw[:length]).until_close
        if got.failure is None:
            # HTTP/1.0: a body that ends early but behind its finish reason is not known to be cut.
            assert until_close
            assert got.finish_reason == "length"
        else:
            kinds = (FailureKind.BROKEN_STREAM, FailureKind.INCOMPLETE) if until_close else (FailureKind.BROKEN_STREAM,)
            assert got.failure.kind in kinds
