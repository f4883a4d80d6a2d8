"""The fast decoder of events gives what the standard library's gives, whatever the bytes."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engines.dialects.failures import parse_json


def plain(data: bytes) -> Any:
    """What `parse_json` promises: the standard library's value, None where it has none."""
    try:
        return json.JSONDecoder().decode(data.decode())
    except (ValueError, RecursionError):
        return None


def assert_equal(data: bytes) -> None:
    # repr tells 1 from 1.0 and from True, -0.0 from 0.0, NaN from nothing, and the order of keys
    assert repr(parse_json(data)) == repr(plain(data)), data


#: lone surrogates and control characters included
texts = st.text(st.characters() | st.characters(categories=["Cs", "Cc"]), max_size=20)
numbers = st.integers() | st.integers(-(2**70), 2**70) | st.floats()
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans(), st.sampled_from([None, 1, "\t"]), st.text(" \t\r\n\x0b\x0c\xa0\ufeff", max_size=3))
def test_valid_json(value: Any, ascii_only: bool, indent: int | str | None, around: str) -> None:
    """NaN and infinities included, as Python writes them."""
    text = around + json.dumps(value, ensure_ascii=ascii_only, indent=indent) + around
    assert_equal(text.encode("utf-8", "surrogatepass"))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "error", ""]), st.integers(0, 9)), max_size=8))
def test_keys_that_come_twice(pairs: list[tuple[str, int]]) -> None:
    """The last value counts, at the place of the first."""
    assert_equal(("{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}").encode())


@given(st.lists(st.sampled_from(['"', "\\", "u", "d83d", "dc00", "ud800", "\\u", "{", "}", "[", "]", ":", ",", "a", " ",
                                 "0", "-", "1", ".", "e", "+", "E", "true", "null", "NaN", "Infinity", "\x00", "\n",
                                 "\x7f", "é", "\ufeff", "\u2028"]), max_size=12))  # fmt: skip
def test_nearly_json(parts: list[str]) -> None:
    """What a scanner may stumble over, in any order, in a text and by itself."""
    text = "".join(parts)
    assert_equal(text.encode())
    assert_equal(f'{{"text":"{text}"}}'.encode())
    assert_equal(f'{{"n":{text}}}'.encode())


@given(st.binary(max_size=30))
@example(b"\xef\xbb\xbf{}")
@example('{"a":"é"}'.encode("utf-16"))
@example(b'"\xed\xa0\x80"')
def test_garbage(data: bytes) -> None:
    """Not UTF-8, a byte order mark, other encodings; inside a text too."""
    assert_equal(data)
    assert_equal(b'{"text":"' + data + b'"}')
    assert_equal(b'{"' + data + b'":1}')


@given(st.binary(min_size=8, max_size=8))
def test_any_float(bits: bytes) -> None:
    """Rounded alike to the last bit."""
    assert_equal(repr(struct.unpack("<d", bits)[0]).encode())


@given(st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
@example("1e400")
@example("-0")
@example("-0.0")
@example("0.1000000000000000055511151231257827021181583404541015625")
def test_any_number(text: str) -> None:
    """As long as it likes, beyond every float and every machine integer."""
    assert_equal(text.encode())


@pytest.mark.parametrize("depth", [1, 50, 500, 100_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_nesting(depth: int, pair: str) -> None:
    """Deep nesting is a value, far too deep nesting is none."""
    data = (pair[:-1] * depth + "1" + pair[-1] * depth).encode()
    assert repr(parse_json(data)) == repr(plain(data))
    assert (parse_json(data) is None) == (depth == 100_000)


def test_integer_longer_than_python_reads() -> None:
    """Python refuses to read thousands of digits, so there is no value."""
    assert parse_json(b'{"n":' + b"9" * 5000 + b"}") is None
