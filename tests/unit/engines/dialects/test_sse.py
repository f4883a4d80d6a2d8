from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.dialects.sse import Event, parse_events


def datas(content: bytes) -> list[bytes]:
    return [e.data for e in parse_events(content)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\ndata:  a\n\n", [b"a", b" a"]),
        (b": keepalive 1/14\n\n: ping\ndata: a\n\n:\n\n", [b"a"]),
        (b"data: a\ndata: b\ndata\n\n", [b"a\nb\n"]),
        (b"id: 7\nretry: 10\nunknown\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"data: a\n\ndata: b\n", [b"a", b"b"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"data:\n\n", [b""]),
        (b"", []),
        (b": only comments\n\n", []),
    ],
)
def test_events(content: bytes, expected: list[bytes]) -> None:
    assert datas(content) == expected


def test_an_event_knows_where_its_data_ends() -> None:
    content = b": c\n\nevent: error\ndata: one\nid: 1\n\ndata: tw"
    first, second = parse_events(content)
    assert first == Event(b"one", content.index(b"id:"), b"error", whole=True)
    assert second == Event(b"tw", len(content), b"", whole=False)


@given(
    st.lists(st.binary(max_size=20).filter(lambda b: not set(b) & set(b"\r\n")), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_written_is_read_whatever_ends_the_lines(values: list[bytes], line_end: bytes) -> None:
    content = b"".join(b"data: " + v + line_end + b": between" + line_end * 2 for v in values)
    events = list(parse_events(content))
    assert [e.data for e in events] == values
    assert all(e.whole for e in events)
    ends = [e.end for e in events]
    assert ends == sorted(ends)
    assert all(datas(content[: e.end])[-1] == e.data for e in events)


@given(st.binary(max_size=200))
def test_any_bytes_are_some_events(content: bytes) -> None:
    assert all(0 < e.end <= len(content) for e in parse_events(content))
