"""Prompts from a file: own JSONL, or ShareGPT's JSON. Errors name file and line, and never repeat what stands there.

Own JSONL, one object a line: `prompt` (text), and where wanted `output_tokens` (whole number from 1) and `id` (text or
number). Empty lines are passed over; a field of any other name is an error.

ShareGPT: a JSON list of `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}`; the first
human turn that is answered is the prompt, the tokens of its answer are the output length. Conversations without one
are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

from bench_runner.errors import DatasetError

_FIELD = "workload.prompts.path"
_MAX_OUTPUT_TOKENS = 10_000_000
_HUMAN = frozenset({"human", "user"})
_ASSISTANT = frozenset({"gpt", "assistant", "chatgpt"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt of a dataset."""

    prompt: str
    #: `None`: the workload's own length holds
    output_tokens: int | None = None
    #: text whose tokens are the output length, where the file gives an answer and no number
    answer: str | None = None


def read_dataset(path: str | Path, form: Literal["jsonl", "sharegpt"]) -> tuple[Entry, ...]:
    """All entries of a dataset file, in its order.

    Raises:
        DatasetError: unreadable, not UTF-8, malformed (with the line), or without any entry.
    """
    file = Path(path)
    text = _read_text(file)
    entries = tuple(_read_jsonl(file, text) if form == "jsonl" else _read_sharegpt(file, text))
    if not entries:
        what = "an empty file" if not text.strip() else "no usable entry in it"
        _refuse(file, None, f"{what}; give at least one prompt")
    return entries


def _read_text(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():
            _refuse(file, None, "not a regular file; give the path of a dataset file")
        raw = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        _refuse(file, None, f"cannot be read: {reason}; give the path of a readable file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind a byte order mark.
        line = raw.count(b"\n", 0, error.start) + 1
        _refuse(file, line, "not UTF-8; save the file as UTF-8")


def _read_jsonl(file: Path, text: str) -> Iterator[Entry]:
    # Only "\n" ends a line: JSON text may hold U+2028 and its like.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _jsonl_entry(file, number, line)


def _jsonl_entry(file: Path, number: int, line: str) -> Entry:
    value = _parse(file, number, line)
    if not isinstance(value, dict):
        _refuse(file, number, 'not a JSON object; write {"prompt": "…"}')
    if unknown := sorted(value.keys() - {"prompt", "output_tokens", "id"}):
        _refuse(file, number, f"unknown field {unknown[0][:40]!a}; known are prompt, output_tokens and id")
    if "prompt" not in value:
        _refuse(file, number, "no field prompt; give the text to send")
    prompt = _text(file, number, "prompt", value["prompt"])
    if not prompt:
        _refuse(file, number, "prompt is empty; give the text to send")
    tokens = value.get("output_tokens")
    if tokens is not None and (type(tokens) is not int or not 1 <= tokens <= _MAX_OUTPUT_TOKENS):
        _refuse(file, number, f"output_tokens must be a whole number from 1 to {_MAX_OUTPUT_TOKENS}")
    if not isinstance(value.get("id"), str | int | None):
        _refuse(file, number, "id must be text or a whole number")
    return Entry(prompt, tokens)


def _read_sharegpt(file: Path, text: str) -> Iterator[Entry]:
    for number, value in _list_items(file, text):
        turns = value.get("conversations") if isinstance(value, dict) else None
        if not isinstance(turns, list):
            _refuse(file, number, 'not {"conversations": [{"from": …, "value": …}, …]}')
        said: list[tuple[str, str]] = []
        for turn in turns:
            if not isinstance(turn, dict):
                _refuse(file, number, 'a turn is not {"from": …, "value": …}')
            said.append(
                (_text(file, number, "from", turn.get("from")), _text(file, number, "value", turn.get("value")))
            )
        for (asker, prompt), (answerer, answer) in pairwise(said):
            if asker in _HUMAN and answerer in _ASSISTANT and prompt.strip() and answer.strip():
                yield Entry(prompt, answer=answer)
                break


def _list_items(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Items of a JSON list, each with the line it starts on; parsed one by one so that an error knows its line."""
    decoder = json.JSONDecoder()
    position, line, counted = _skip(text, 0), 1, 0
    if text[position : position + 1] != "[":
        if not text.strip():
            return
        _refuse(file, 1, "not a JSON list; a ShareGPT file is one list of conversations (format jsonl reads lines)")
    position = _skip(text, position + 1)
    closing = text[position : position + 1] == "]"
    position += closing
    while not closing:
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            _refuse(file, at, f"not JSON: {_reason(error)}")
        yield line, value
        position = _skip(text, position)
        after = text[position : position + 1]
        if after != "," and after != "]":
            _refuse(
                file, text.count("\n", 0, position) + 1, "not JSON: a comma or the closing ] of the list is missing"
            )
        closing = after == "]"
        position = _skip(text, position + 1)
    if text[position:].strip():
        _refuse(file, text.count("\n", 0, position) + 1, "not JSON: text after the end of the list")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _parse(file: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        _refuse(file, number, f"not JSON: {_reason(error)}")


def _reason(error: Exception) -> str:
    """What is wrong with it, without a word of what stands there."""
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep or too long"


def _text(file: Path, number: int, name: str, value: object) -> str:
    if not isinstance(value, str):
        _refuse(file, number, f"{name} must be text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            _refuse(file, number, f"{name} holds half of a surrogate pair; write whole characters")
    return value


def _refuse(file: Path, line: int | None, problem: str) -> NoReturn:
    where = f"{file}, line {line}" if line is not None else f"{file}"
    raise DatasetError(f"dataset {where}: {problem}", field=_FIELD)
