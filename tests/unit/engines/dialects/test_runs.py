"""Events that are nearly the same, taken at once: the same comes of it as of taking them one by one."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engines.contract import Completion, Dialect
from engines.dialects import reading
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.dialects.runs import Run, Template, find_run, find_template
from tests.fakes.captures import chunked, cut, head, make_capture

DIALECTS = [OPENAI_COMPLETIONS, OPENAI_CHAT]
#: what engines write, and what trips up whoever cuts at quotes
TEXTS = st.one_of(
    st.sampled_from(
        [" tok", "", " a", "\n", '"', "\\", "é", "}}", '","text":"', "data: ", "\x7f", "\u2028", "😀", "{}", "1"]
    ),
    st.text(st.characters() | st.characters(categories=["Cs", "Cc"]), max_size=6),
)


def chunk(
    dialect: Dialect, text: str, count: int | None, *, reason: str | None = None, delta: str = "content"
) -> dict[str, Any]:
    """As vLLM writes them."""
    said: dict[str, Any] = {"text": text} if dialect is OPENAI_COMPLETIONS else {"delta": {delta: text}}
    value: dict[str, Any] = {
        "id": "cmpl-1",
        "model": "m",
        "choices": [{"index": 0} | said | {"logprobs": None, "finish_reason": reason}],
    }
    if count is not None:
        value["usage"] = {"prompt_tokens": 3, "total_tokens": 3 + count, "completion_tokens": count}
    return value


def both_ways(dialect: Dialect, reads: list[bytes], ended: str = "complete") -> Completion:
    """Decoded with runs, and held against the same without."""
    capture = make_capture(reads, ended=ended)
    found = dialect.decode(capture)
    with patch.object(reading, "_MOST_TRIES", 0):
        assert found == dialect.decode(capture)
    return found


def response(content: list[bytes]) -> bytes:
    return head(transfer_encoding="chunked") + b"".join(chunked(content))


def written(value: dict[str, Any], *, ascii_only: bool = True, tight: bool = True) -> bytes:
    separators = (",", ":") if tight else (", ", ": ")
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators)
    return b"data: " + text.encode("utf-8", "surrogatepass") + b"\n\n"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
@pytest.mark.parametrize("running", [False, True])
def test_a_stream_as_engines_send_it_is_taken_in_one_run(dialect: Dialect, running: bool) -> None:
    texts = [f" w{k}" for k in range(128)]
    values = [chunk(dialect, text, k if running else None) for k, text in enumerate(texts, 1)]
    values[-1]["choices"][0]["finish_reason"] = "length"
    usage = {"prompt_tokens": 3, "total_tokens": 131, "completion_tokens": 128}
    values.append({"id": "cmpl-1", "model": "m", "choices": [], "usage": usage})
    events = [*map(written, values), b"data: [DONE]\n\n"]
    found: list[Run] = []

    def spy(content: bytes, start: int, template: Template, pieces: list[bytes]) -> Run | None:
        run = find_run(content, start, template, pieces)
        found.extend([run] if run else [])
        return run

    with patch.object(reading, "find_run", spy):
        completion = dialect.decode(make_capture([response(events)]))
    assert completion == both_ways(dialect, [response(events)])
    assert completion.text == "".join(texts)
    assert list(completion.event_tokens) == [1 if running else -1] * 128
    assert completion.output_tokens == 128
    # All but the first, which shows what the others mean, and the last, which brings the finish reason.
    assert [len(run.texts) for run in found] == [126]


@given(
    dialect=st.sampled_from(DIALECTS),
    texts=st.lists(TEXTS, min_size=1, max_size=30),
    counts=st.none() | st.lists(st.integers(0, 5) | st.sampled_from([2**53, 10**15, 2**70]), min_size=30, max_size=30),
    deltas=st.lists(st.sampled_from(["content", "content", "content", "reasoning", "reasoning_content"]), min_size=1),
    ascii_only=st.booleans(),
    tight=st.booleans(),
    places=st.lists(st.integers(0, 20_000), max_size=20),
)
def test_any_texts_and_counts(
    dialect: Dialect, texts: list[str], counts: list[int] | None, deltas: list[str], ascii_only: bool, tight: bool,
    places: list[int],
) -> None:  # fmt: skip
    total, events = 0, []
    for k, text in enumerate(texts):
        total += counts[k] if counts else 1
        value = chunk(dialect, text, total if counts else None, delta=deltas[k % len(deltas)])
        value["choices"][0]["finish_reason"] = "length" if k == len(texts) - 1 else None
        events.append(written(value, ascii_only=ascii_only, tight=tight))
    both_ways(dialect, cut(response([*events, b"data: [DONE]\n\n"]), places))


#: bytes that are put in or over, somewhere in a stream
BLOTS = st.sampled_from(
    [b"\x01", b"\x02", b"\x03", b"\x00", b"\r", b"\n", b"\n\n", b"data: ", b"event: x\n", b": ping\n\n", b'"', b"\\",
     b",", b"}", b"1", b"01", b"-1", b"1.5", b"null", b"\xff",
     b'"text":"', b'"token_ids":[1],', b'"finish_reason":"stop",',
     b"data: [DONE]\n\n", b'data: {"error":"no"}\n\n', b'"index":1,', b'"total_tokens":7,', b'"usage":null,',
     b'"error":{"text":""},', b'"choices":[],']
)  # fmt: skip


@given(
    dialect=st.sampled_from(DIALECTS),
    number=st.integers(1, 12),
    running=st.booleans(),
    done=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 12), st.one_of(BLOTS, st.just(b""))), max_size=4),
    everywhere=st.none() | st.tuples(st.sampled_from([b'"id"', b'"text"', b'"usage"', b'"delta"', b" tok"]), BLOTS),
    ended=st.sampled_from(["complete", "eof", "timeout"]),
    together=st.integers(0, 2),
)
@example(OPENAI_COMPLETIONS, 5, True, True, [(100, 0, b"data: [DONE]\n\n")], None, "complete", 0)
@example(OPENAI_COMPLETIONS, 5, True, True, [], (b'"text"', b'"text":"",'), "complete", 0)
@example(OPENAI_COMPLETIONS, 5, True, True, [], (b'"usage"', b'"total_tokens":7,'), "complete", 0)
@example(OPENAI_COMPLETIONS, 5, False, True, [(300, 0, b'"')], None, "complete", 1)
@example(OPENAI_COMPLETIONS, 5, False, True, [(300, 0, b"\n\n")], None, "complete", 1)
def test_any_damage(
    dialect: Dialect, number: int, running: bool, done: bool, edits: list[tuple[int, int, bytes]],
    everywhere: tuple[bytes, bytes] | None, ended: str, together: int,
) -> None:  # fmt: skip
    """`together`: so many events in a chunk; 0: no chunks."""
    content = b"".join(written(chunk(dialect, " tok", k if running else None)) for k in range(1, number + 1))
    content += written(chunk(dialect, "", number if running else None, reason="stop")) + b"data: [DONE]\n\n" * done
    if everywhere is not None:
        content = content.replace(everywhere[0], everywhere[1] + everywhere[0])
    for place, length, blot in edits:
        at = place % (len(content) + 1)
        content = content[:at] + blot + content[at + length :]
    if not together:
        both_ways(dialect, [head(content_length=str(len(content))) + content], ended)
        return
    events = [event + b"\n\n" for event in content.split(b"\n\n")]
    chunks = [b"".join(events[k : k + together]) for k in range(0, len(events), together)]
    both_ways(dialect, [head(transfer_encoding="chunked"), *chunked(chunks)], ended)


def meaning(value: dict[str, Any]) -> tuple[str, int | None] | None:
    """Of an object that is nothing but a text, a count and a name for both."""
    return value["text"], value.get("completion_tokens")


@pytest.mark.parametrize(
    "data",
    [
        b'{"text":"a\\n"}',  # not its own JSON
        b'{"text":"a","text":"b"}',  # the first is not what counts
        b'{"text":"a","completion_tokens":01}',
        b'{"text":"a","completion_tokens":1.5}',
        b'{"text":"a","completion_tokens":-1}',
        b'{"text":"a","completion_tokens":1,"completion_tokens":1,"total_tokens":1}',
        b'{"text":["a"]}',
        b'{"text":"a"',
    ],
)
def test_what_is_no_template(data: bytes) -> None:
    template = find_template(data, meaning)
    # Where only the first text or count would be cut at, it must be the one that counts.
    assert template is None or template.literals[0].endswith(b'"text":"a","text":"')


def test_a_meaning_is_remembered_whatever_the_answer_is_called() -> None:
    """The first events of a hundred answers are decoded once, and each keeps its own name in its template."""
    asked = []

    def counted(value: dict[str, Any]) -> tuple[str, int | None] | None:
        asked.append(value)
        return meaning(value)

    for k in range(100):
        data = b'{"id":"cmpl-%d","created":%d,"text":" a%d"}' % (k, 1_700_000_000 + k, k)
        template = find_template(data, counted)
        assert template is not None
        assert b"cmpl-%d" % k in template.literals[0]
    assert len(asked) == 1
    # What may change how the rest is read is not passed over: an escape, or bytes that are no UTF-8.
    for name in (b'a\\"b', b"\xff"):
        find_template(b'{"id":"%b","text":" a"}' % name, counted)
    assert len(asked) == 2  # the second was no JSON at all


def test_where_a_run_begins_and_ends() -> None:
    events = [b'data: {"text":"%d","completion_tokens":%d}\n\n' % (k, k) for k in range(5)]
    content = b": hello\n\n" + b"".join(events) + b"data: [DONE]\n\n"
    start = len(b": hello\n\n")
    template = find_template(events[0][6:-2], meaning)
    assert template == Template((b'data: {"text":"', b'","completion_tokens":', b"}"), 0, 1)
    run = find_run(content, start, template)
    assert run is not None
    assert run.texts == ["1", "2", "3"]
    assert run.counts == [1, 2, 3]
    assert run.ends == [start + len(events[0]) * k - 1 for k in (2, 3, 4)]
    assert content[run.stop :].startswith(events[4])
    assert find_run(content, start + 1, template) is None
    assert find_run(content.replace(b'"4"', b'"4\x01"'), start, template) is None
    # one of another kind ends it
    broken = content.replace(b'"2","completion_tokens":2', b'"2","completion_tokens":02')
    assert find_run(broken, start, template) is None
    broken = content.replace(b'"2","completion', b'"2" ,"completion')
    run = find_run(broken, start, template)
    assert run is not None
    assert run.texts == ["1"]
