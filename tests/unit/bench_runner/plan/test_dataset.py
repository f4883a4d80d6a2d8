from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_runner.errors import DatasetError
from bench_runner.plan.dataset import Entry, read_dataset

Form = Literal["jsonl", "sharegpt"]


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "prompts.data"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def talk(*turns: tuple[str, str]) -> dict[str, object]:
    return {"id": "x", "conversations": [{"from": who, "value": text} for who, text in turns]}


def test_own_jsonl(tmp_path: Path) -> None:
    path = write(
        tmp_path, '{"prompt": "one"}\n\n{"prompt": "two\\n", "output_tokens": 7, "id": 3}\r\n{"prompt":"ü","id":"a"}'
    )
    assert read_dataset(path, "jsonl") == (Entry("one"), Entry("two\n", 7), Entry("ü"))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert read_dataset(write(tmp_path, b'\xef\xbb\xbf{"prompt": "one"}'), "jsonl") == (Entry("one"),)


def test_line_separators_inside_a_text_end_no_line(tmp_path: Path) -> None:
    assert read_dataset(write(tmp_path, '{"prompt": "one\u2028two\x85"}\n'), "jsonl") == (Entry("one\u2028two\x85"),)


def test_sharegpt(tmp_path: Path) -> None:
    content = [
        talk(("human", "hello"), ("gpt", "good day"), ("human", "more"), ("gpt", "no")),
        talk(("system", "be kind"), ("user", "and now?"), ("assistant", "later")),
        talk(),
        talk(("gpt", "I begin"), ("human", "odd")),
        talk(("human", " "), ("gpt", "to nothing"), ("human", "why"), ("gpt", "because")),
    ]
    expected = (
        Entry("hello", answer="good day"),
        Entry("and now?", answer="later"),
        Entry("why", answer="because"),
    )
    for indent in (None, 2):
        assert read_dataset(write(tmp_path, json.dumps(content, indent=indent)), "sharegpt") == expected


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("{}", "no field prompt"),
        ('{"prompt": ""}', "prompt is empty"),
        ('{"prompt": 5}', "prompt must be text"),
        ('{"prompt": null}', "prompt must be text"),
        ('{"prompt": "x", "promt": 1}', "unknown field 'promt'"),
        ('{"prompt": "x", "output_tokens": 0}', "output_tokens must be a whole number from 1"),
        ('{"prompt": "x", "output_tokens": true}', "output_tokens must be"),
        ('{"prompt": "x", "output_tokens": 1.5}', "output_tokens must be"),
        ('{"prompt": "x", "output_tokens": "9"}', "output_tokens must be"),
        ('{"prompt": "x", "output_tokens": 99999999999}', "output_tokens must be"),
        ('{"prompt": "x", "id": []}', "id must be"),
        ('{"prompt": "\\ud800"}', "surrogate"),
        ("[" * 100_000, "not JSON: too deep"),
        ('{"prompt": "x", "output_tokens": ' + "9" * 5000 + "}", "not JSON: too deep or too long"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path, '{"prompt": "good"}\n\n' + line + '\n{"prompt": "good"}\n')
    with pytest.raises(DatasetError, match="line 3: .*" + problem) as caught:
        read_dataset(path, "jsonl")
    assert str(path) in str(caught.value)
    assert caught.value.field == "workload.prompts.path"


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ('{"conversations": []}', 1, "not a JSON list"),
        ('[\n{"a": 1}\n]', 2, "not {"),
        ("[\n[]\n]", 2, "not {"),
        ('[\n{"conversations": 5}]', 2, "not {"),
        ('[\n\n{"conversations": [5]}]', 3, "a turn is not"),
        ('[{"conversations": [{"from": "human"}]}]', 1, "value must be text"),
        ('[{"conversations": [{"value": "x"}]}]', 1, "from must be text"),
        ('[{"conversations": [{"from": "human", "value": "\\udfff"}]}]', 1, "surrogate"),
        ('[{"conversations": []}\n{"conversations": []}]', 2, "a comma or the closing"),
        ('[{"conversations": []},\n]', 2, "not JSON"),
        ('[{"conversations": []}', 1, "a comma or the closing"),
        ('[{"conversations": [\n}]', 2, "not JSON"),
        ('[{"conversations": []}]\n]', 2, "text after the end"),
        ("[]]", 1, "text after the end"),
        ("[", 1, "not JSON"),
        ("\n\n[" + "[" * 100_000, 3, "not JSON: too deep"),
    ],
)
def test_a_malformed_conversation_is_named(tmp_path: Path, content: str, line: int, problem: str) -> None:
    with pytest.raises(DatasetError, match=f"line {line}: .*{problem}"):
        read_dataset(write(tmp_path, content), "sharegpt")


@pytest.mark.parametrize("form", ["jsonl", "sharegpt"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file(tmp_path: Path, form: Form, content: bytes) -> None:
    with pytest.raises(DatasetError, match="an empty file; give at least one prompt"):
        read_dataset(write(tmp_path, content), form)


@pytest.mark.parametrize("content", ["[]", json.dumps([talk(("gpt", "alone"))])])
def test_nothing_usable(tmp_path: Path, content: str) -> None:
    with pytest.raises(DatasetError, match="no usable entry"):
        read_dataset(write(tmp_path, content), "sharegpt")


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="line 2: not UTF-8"):
        read_dataset(write(tmp_path, b'{"prompt": "good"}\n{"prompt": "\xfc"}\n'), "jsonl")


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        read_dataset(tmp_path / "none.jsonl", "jsonl")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_dataset(tmp_path, "jsonl")
    for name in ("n" * 300, "a\0b"):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_dataset(tmp_path / name, "jsonl")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_dataset(tmp_path / "pipe", "jsonl")


@pytest.mark.parametrize("form", ["jsonl", "sharegpt"])
def test_errors_do_not_repeat_what_the_file_holds(tmp_path: Path, form: Form) -> None:
    """A path may name any file that the service can read."""
    with pytest.raises(DatasetError) as caught:
        read_dataset(write(tmp_path, "root:secret:0:0:root\n"), form)
    assert "secret" not in str(caught.value)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.none() | st.integers(1, 10_000)), min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int | None]]) -> None:
    lines = [
        json.dumps({"prompt": text} | ({} if tokens is None else {"output_tokens": tokens})) for text, tokens in rows
    ]
    path = write(tmp_path_factory.mktemp("rows"), "\n".join(lines))
    assert read_dataset(path, "jsonl") == tuple(Entry(text, tokens) for text, tokens in rows)
