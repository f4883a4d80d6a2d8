"""Requests out of bytes, however they are cut; and what is no request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.simulated.http import BadRequest, HttpRequest, RequestReader, chunk, whole_response
from tests.fakes.captures import cut

POST = b"POST /v1/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /generate HTTP/1.1\r\ntransfer-encoding: chunked\r\nConnection: close\r\n\r\n"
    + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n"
)


def read_all(pieces: list[bytes]) -> list[HttpRequest]:
    reader = RequestReader()
    found = []
    for piece in pieces:
        reader.buffer += piece
        while (request := reader.next()) is not None:
            found.append(request)
    return found


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_pipelined_requests_come_out_however_the_bytes_are_cut(places: list[int]) -> None:
    first, second, third = read_all(cut(POST + CHUNKED + POST, places))
    assert (first.method, first.path, first.query, first.body) == ("POST", "/v1/completions", "x=1", b"hello")
    assert (second.path, second.body) == ("/generate", b"hello")
    assert (first.keep_alive, second.keep_alive) == (True, False)
    assert third == first


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: \xb2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcdef\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n", 413),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 70_000, 431),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        read_all([data])
    assert refused.value.status == status


@given(st.binary(max_size=300))
def test_garbage_is_a_request_or_refused(data: bytes) -> None:
    refusals: list[BadRequest] = []
    requests: list[HttpRequest] = []
    try:
        requests = read_all([data])
    except BadRequest as refused:
        refusals.append(refused)
    assert all(request.path.startswith("/") for request in requests)
    assert all(400 <= refused.status <= 505 for refused in refusals)


def test_http_1_0_closes_unless_asked() -> None:
    assert [r.keep_alive for r in read_all([b"GET / HTTP/1.0\r\n\r\n"])] == [False]
    assert [r.keep_alive for r in read_all([b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"])] == [True]


def test_a_client_that_waits_to_continue_is_noticed() -> None:
    reader = RequestReader()
    reader.buffer += b"POST / HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    assert reader.next() is None
    assert reader.expects_continue


def test_every_response_says_that_it_is_simulated() -> None:
    response = whole_response(200, b"{}", {"content-type": "application/json"})
    assert b"\r\nserver: enginebench-simulated\r\n" in response
    assert response.endswith(b"\r\n\r\n{}")
    assert chunk(b"x" * 16) == b"10\r\n" + b"x" * 16 + b"\r\n"
