"""The incremental framer and the whole split are two implementations of one thing: each is held against the other."""

from __future__ import annotations

from bisect import bisect_left
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.dialects import http1_response
from engines.dialects.http1 import (
    LONGEST_READ_BYTES,
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    WHOLE_CHUNKS,
    ResponseFramer,
    are_whole_chunks,
)
from engines.dialects.http1_response import CLOSING_BYTES, ParsedResponse, split_response
from tests.fakes.captures import chunked, cut, head

JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

CUTS = st.lists(st.integers(0, 10_000), max_size=30)


def feed_all(framer: ResponseFramer, pieces: list[bytes]) -> bool:
    done = False
    for piece in pieces:
        done = framer.feed(piece)
    return done


def one_byte_each(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


@pytest.mark.parametrize(
    ("raw", "content", "keep_alive"),
    [
        (JSON_HEAD + b"content-length: 2\r\n\r\n{}", b"{}", True),
        (JSON_HEAD + b"content-length: 2, 2\r\nConnection: Close\r\n\r\n{}", b"{}", False),
        (JSON_HEAD + b"Content-Length: 0\r\n\r\n", b"", True),
        (CHUNKED_HEAD + b"2\r\nab\r\n0\r\n\r\n", b"ab", True),
        (CHUNKED_HEAD + b'0002;ext="x"\r\nab\r\n1 ;y\r\nc\r\n000\r\nt: 1\r\nu: 2\r\n\r\n', b"abc", True),
        (CHUNKED_HEAD + b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 50\r\n\r\n", b"", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + CHUNKED_HEAD + b"0\r\n\r\n",
            b"",
            True,
        ),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", b"x", False),
        (b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 1\r\n\r\nx", b"x", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n1\r\nx\r\n0\r\n\r\n", b"x", False),
        (b"HTTP/1.1 200\ncontent-length: 1\n\nx", b"x", True),
    ],
)
def test_where_a_response_ends(raw: bytes, content: bytes, keep_alive: bool) -> None:
    for pieces in ([raw], one_byte_each(raw)):
        framer = ResponseFramer()
        assert not any(framer.feed(p) for p in pieces[:-1])
        assert framer.feed(pieces[-1])
        assert framer.malformed is None
        assert framer.keep_alive is keep_alive
        assert not framer.until_close
    parsed = split_response(raw)
    assert (parsed.content, parsed.complete, parsed.malformed) == (content, True, None)
    assert parsed.status == framer.status
    assert not split_response(raw[:-1]).complete


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: x\n\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\ndata: x\n\n",
    ],
)
def test_a_body_without_framing_ends_with_the_connection(raw: bytes) -> None:
    for pieces in ([raw], one_byte_each(raw)):
        framer = ResponseFramer()
        assert not feed_all(framer, pieces)
        assert framer.headers_done
        assert framer.until_close
        assert not framer.keep_alive
    parsed = split_response(raw)
    assert parsed.until_close
    assert parsed.content == b"data: x\n\n"
    assert parsed.complete


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "status line"),
        (b"HTTP/2 200\r\n\r\n", "status line"),
        (b"HTTP/1.1 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header line"),
        (b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "header line"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1_0\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n", "content-length"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "switches"),
        (CHUNKED_HEAD + b"0x1\r\na\r\n", "chunk size"),
        (CHUNKED_HEAD + b"-1\r\na\r\n", "chunk size"),
        (CHUNKED_HEAD + b"1_0\r\na\r\n", "chunk size"),
        (CHUNKED_HEAD + b"\r\na\r\n", "chunk size"),
        (CHUNKED_HEAD + b"ffffffffffffffffffff\r\na\r\n", "chunk size"),
        (CHUNKED_HEAD + b"2\r\nabc\r\n0\r\n\r\n", "longer"),
        (CHUNKED_HEAD + b"2\r\nab\rc0\r\n\r\n", "longer"),
    ],
)
def test_what_is_not_http_is_said_so(raw: bytes, said: str) -> None:
    for pieces in ([raw], one_byte_each(raw)):
        framer = ResponseFramer()
        assert feed_all(framer, pieces)
        assert framer.malformed is not None
        assert said in framer.malformed
        assert not framer.keep_alive
    malformed = split_response(raw).malformed
    assert malformed is not None
    assert said in malformed


def test_nothing_grows_without_end() -> None:
    framer = ResponseFramer()
    assert framer.feed(b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD_BYTES)
    framer.reset()
    assert framer.feed(CHUNKED_HEAD + b"1;" + b"y" * MAX_LINE_BYTES)
    framer.reset()
    assert framer.feed(CHUNKED_HEAD + b"0\r\nx: " + b"y" * MAX_LINE_BYTES)
    assert framer.malformed == "a trailer does not end"


def test_chunk_data_that_looks_like_a_chunk_is_data() -> None:
    inner = b"5\r\nhello\r\n"
    raw = CHUNKED_HEAD + b"1\r\n:\r\n15\r\n" + inner + inner + b".\r\n15\r\nhello\r\n" + b"." * 14 + b"\r\n0\r\n\r\n"
    for first in range(len(raw)):
        for second in (first + 1, first + len(inner), first + len(inner) + 1):
            framer = ResponseFramer()
            parts = cut(raw, [first, min(second, len(raw))])
            assert [framer.feed(p) for p in parts] == [False] * (len(parts) - 1) + [True]
            assert framer.malformed is None


def test_bytes_nobody_asked_for_end_the_connection_not_the_response() -> None:
    for raw in (CHUNKED_HEAD + b"0\r\n\r\nHTTP", JSON_HEAD + b"content-length: 1\r\n\r\nxy"):
        framer = ResponseFramer()
        assert framer.feed(raw)
        assert framer.malformed is None
        assert not framer.keep_alive
        assert split_response(raw).complete
    framer = ResponseFramer()
    assert framer.feed(CHUNKED_HEAD + b"0\r\n\r\n")
    assert framer.keep_alive
    assert framer.feed(b"late")
    assert not framer.keep_alive


def test_a_framer_is_used_again() -> None:
    framer = ResponseFramer()
    for raw in (CHUNKED_HEAD + b"1\r\na\r\n0\r\n\r\n", b"junk", JSON_HEAD + b"content-length: 1\r\n\r\nx"):
        framer.reset()
        assert framer.status is None
        assert framer.feed(raw)
    assert (framer.status, framer.malformed, framer.keep_alive) == (200, None, True)


def test_a_framer_tells_reads_of_several_chunks() -> None:
    one, two, three, end = chunked([b"one", b"two", b"three"])
    seen = []
    framer = ResponseFramer()
    for piece in (CHUNKED_HEAD, one, two + three[:4], three[4:] + end):
        framer.feed(piece)
        seen.append(framer.several)
    assert seen == [False, False, True, False]
    for read in (CHUNKED_HEAD + one + two, one[:4], one[4:] + two):
        if read.startswith(b"HTTP"):
            framer.reset()
        framer.feed(read)
        seen.append(framer.several)
    assert seen[4:] == [True, False, True]
    # A body that has no chunks does not tell.
    framer.reset()
    framer.feed(b"HTTP/1.0 200 OK\r\n\r\n")
    assert not framer.several
    framer.feed(b"data: x\n\n")
    assert framer.several


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), CUTS)
def test_any_split_of_a_chunked_body_gives_the_same(pieces: list[bytes], places: list[int]) -> None:
    raw = CHUNKED_HEAD + b"".join(chunked(pieces))
    parts = cut(raw, places)
    framer = ResponseFramer()
    assert [framer.feed(p) for p in parts] == [False] * (len(parts) - 1) + [True]
    assert framer.malformed is None
    assert framer.keep_alive
    parsed = split_response(raw)
    assert parsed.content == b"".join(pieces)
    assert parsed.complete


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.integers(0, 400))
def test_content_offsets_point_into_the_raw_bytes(pieces: list[bytes], end: int) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED_HEAD + b"".join(chunked(pieces))
    parsed = split_response(raw)
    end = end % len(parsed.content) + 1
    # All content up to `end`, and no more, is known once the raw bytes up to there are.
    piece = bisect_left(parsed.content_ends, end)
    raw_end = parsed.raw_ends[piece] - CLOSING_BYTES - (parsed.content_ends[piece] - end)
    assert split_response(raw[:raw_end]).content == parsed.content[:end]
    assert len(split_response(raw[: raw_end - 1]).content) == end - 1


SMALL_CHUNKS = st.lists(
    st.one_of(st.binary(min_size=1, max_size=20), st.sampled_from([b"data: x\n\n", b"\r\n", b"a\r", b"\n"]))
)


@given(SMALL_CHUNKS, st.lists(st.tuples(st.integers(0, 2_000), st.sampled_from([b"", b"\r\n", b"0", b";x", b"a"]))))
def test_a_body_cut_at_its_line_ends_is_the_one_that_is_walked(
    pieces: list[bytes], edits: list[tuple[int, bytes]]
) -> None:
    body = b"".join(chunked(pieces))
    for place, put in edits[:3]:
        at = place % (len(body) + 1)
        body = body[:at] + put + body[at + (not put) :]
    with patch.object(http1_response, "_split_plain_chunks", return_value=None):
        walked = split_response(CHUNKED_HEAD + body)
    assert split_response(CHUNKED_HEAD + body) == walked


HEAD_FRAGMENTS = [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 No\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"connection: close\r\n"]
BODY_FRAGMENTS = [b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"5\r\n", b"hello", b"0\r\n\r\n"]
SMALL_FRAGMENTS = [b"\r\n", b"\n", b"\r", b"0", b": "]
FRAGMENTS = st.sampled_from([*HEAD_FRAGMENTS, *BODY_FRAGMENTS, *SMALL_FRAGMENTS])
MESSES = st.lists(st.one_of(FRAGMENTS, st.binary(max_size=6)), max_size=14).map(b"".join)


@given(MESSES, CUTS)
def test_framer_and_split_agree_whatever_the_bytes(raw: bytes, places: list[int]) -> None:
    framer = ResponseFramer()
    done = feed_all(framer, cut(raw, places)) if raw else False
    parsed: ParsedResponse = split_response(raw)
    assert framer.malformed == parsed.malformed or (framer.malformed is not None) == (parsed.malformed is not None)
    assert framer.status == parsed.status
    assert framer.until_close == parsed.until_close
    if parsed.until_close:
        assert not done
    elif parsed.malformed is None:
        assert done == parsed.complete
    else:
        assert done


@given(MESSES, CUTS)
def test_the_split_of_the_reads_makes_no_difference_to_the_framer(raw: bytes, places: list[int]) -> None:
    whole, pieced = ResponseFramer(), ResponseFramer()
    assert feed_all(whole, [raw]) == feed_all(pieced, cut(raw, places) or [b""])
    assert (whole.malformed is None, whole.status, whole.keep_alive) == (
        pieced.malformed is None,
        pieced.status,
        pieced.keep_alive,
    )


def feed_quickly(framer: ResponseFramer, pieces: list[bytes]) -> tuple[bool, int]:
    """As the load process feeds: reads that are one whole chunk are passed over. Says how many were."""
    done, passed = False, 0
    for piece in pieces:
        whole = len(piece) <= LONGEST_READ_BYTES and piece.startswith(WHOLE_CHUNKS[len(piece)])
        if framer.between_chunks and ((whole and piece.endswith(b"\r\n")) or are_whole_chunks(piece)):
            done = False
            passed += 1
        else:
            done = framer.feed(piece)
    return done, passed


def state(framer: ResponseFramer) -> tuple[object, ...]:
    return (framer.malformed, framer.status, framer.keep_alive, framer.until_close, framer.between_chunks)


#: chunk data that look like framing; chunks in every notation; sizes that lie
DATA = st.one_of(
    st.sampled_from([b"0\r\n\r\n", b"5\r\nhello\r\n", b"\r\n", b"data: x\n\n"]), st.binary(min_size=1, max_size=20)
)
CHUNKS = st.builds(
    lambda data, form, lie: form % (len(data) + lie) + data + b"\r\n",
    DATA,
    st.sampled_from([b"%x\r\n", b"%x\r\n", b"%X\r\n", b"%04x\r\n", b"%x ;a=1\r\n"]),
    st.sampled_from([0, 0, 0, 0, 0, 1, -1, 2]),
)
ENDS = st.sampled_from([b"", b"0\r\n\r\n", b"0\r\nt: 1\r\n\r\n", b"0\r\n\r\nmore"])


@pytest.mark.parametrize("begun", [b"5", b"5\r", b"5\r\n", b"5\r\nhello", b"5\r\nhello\r", b"ff\r", b"\r", b"\r\n"])
def test_a_read_that_ends_within_a_chunk_is_not_whole_chunks(begun: bytes) -> None:
    assert are_whole_chunks(b"3\r\nabc\r\n")
    assert not are_whole_chunks(b"3\r\nabc\r\n" + begun)
    assert not are_whole_chunks(b"5\r\nhello\r\n" + begun)
    assert not are_whole_chunks(begun)


@given(st.lists(CHUNKS, max_size=8), ENDS, st.lists(st.integers(0, 60), max_size=3), st.integers(1, 4))
def test_passing_over_whole_chunks_changes_nothing(
    chunks: list[bytes], end: bytes, places: list[int], together: int
) -> None:
    # Reads end where chunks do, as they nearly always do, but for a few.
    pieces = [
        CHUNKED_HEAD,
        *(piece for chunk in chunks for piece in cut(chunk, places) or [chunk]),
        *([end] if end else []),
    ]
    if together > 1:
        pieces = [pieces[0], *(b"".join(pieces[k : k + together]) for k in range(1, len(pieces), together))]
    asked, passing = ResponseFramer(), ResponseFramer()
    for k, piece in enumerate(pieces):
        assert feed_quickly(passing, [piece])[0] == asked.feed(piece), pieces[: k + 1]
        assert state(passing) == state(asked)


@given(MESSES, CUTS)
def test_passing_over_whole_chunks_changes_nothing_whatever_the_bytes(raw: bytes, places: list[int]) -> None:
    asked, passing = ResponseFramer(), ResponseFramer()
    pieces = cut(CHUNKED_HEAD + raw, places)
    assert feed_quickly(passing, pieces)[0] == feed_all(asked, pieces)
    assert state(passing) == state(asked)


@pytest.mark.parametrize("size", [1, 9, 10, 15, 16, 255, 256, 4095])
@pytest.mark.parametrize("form", [b"%x", b"%X"])
def test_whole_chunks_are_passed_over(size: int, form: bytes) -> None:
    framer = ResponseFramer()
    chunk = form % size + b"\r\n" + b"x" * size + b"\r\n"
    assert feed_quickly(framer, [CHUNKED_HEAD + chunk, chunk, chunk, b"0\r\n\r\n"]) == (True, 2)
    assert framer.malformed is None


def test_repeated_headers_are_joined() -> None:
    parsed = split_response(head(x_a="1")[:-2] + b"X-A:  2 \r\ncontent-length: 0\r\n\r\n")
    assert parsed.header("x-a") == "1, 2"
    assert parsed.header("x-b") == ""
