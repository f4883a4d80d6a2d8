from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.contract import Origin
from engines.dialects.http1 import encode_http
from engines.errors import RequestNotPossible


def make_origin(base_path: str = "", **headers: str) -> Origin:
    return Origin("http", "engine.test", 8000, base_path, "127.0.0.1", headers)


def test_a_request_is_whole() -> None:
    origin = make_origin("/gateway", Authorization="Bearer s3cret")
    raw = encode_http(origin, "/v1/completions", '{"prompt":"né"}'.encode(), keep_alive=True)
    top, _, body = raw.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    assert lines[0] == "POST /gateway/v1/completions HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers == {
        "host": "engine.test:8000",
        "user-agent": "enginebench",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "16",
        "connection": "keep-alive",
        "authorization": "Bearer s3cret",
    }
    assert body == '{"prompt":"né"}'.encode()


def test_a_fresh_connection_is_asked_to_close() -> None:
    assert b"\r\nconnection: close\r\n" in encode_http(make_origin(), "/generate", b"{}", keep_alive=False)


def test_a_target_may_name_its_own_host() -> None:
    raw = encode_http(make_origin(Host="model.example"), "/x", b"", keep_alive=True)
    assert raw.count(b"host: ") == 1
    assert b"host: model.example\r\n" in raw


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Accept-Encoding"])
def test_headers_that_frame_the_request_are_refused(name: str) -> None:
    origin = Origin("http", "h", 80, "", "127.0.0.1", {name: "1"})
    with pytest.raises(RequestNotPossible, match="leave it out") as caught:
        encode_http(origin, "/x", b"", keep_alive=True)
    assert caught.value.field == "headers"


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "a\r\nevil: 1"), ("x", "a\nb"), ("x\r\ny", "1"), ("x y", "1"), ("", "1"), ("x", "a\x00"), ("x", "☃")],
)
def test_a_header_cannot_become_two(name: str, value: str) -> None:
    origin = Origin("http", "h", 80, "", "127.0.0.1", {name: value})
    with pytest.raises(RequestNotPossible) as caught:
        encode_http(origin, "/x", b"", keep_alive=True)
    assert caught.value.field == "headers"


def test_a_refused_header_does_not_show_its_value() -> None:
    with pytest.raises(RequestNotPossible) as caught:
        encode_http(make_origin(authorization="Bearer s3cret\n"), "/x", b"", keep_alive=True)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx: 1", "a", "/ä", ""])
def test_a_path_cannot_leave_its_line(path: str) -> None:
    with pytest.raises(RequestNotPossible, match="not a path"):
        encode_http(make_origin(), path, b"", keep_alive=True)


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_the_header_there_is_one_line_more_or_a_refusal(name: str, value: str) -> None:
    plain = encode_http(make_origin(), "/x", b"", keep_alive=True)
    try:
        raw = encode_http(Origin("http", "h", 80, "", "a", {name: value}), "/x", b"", keep_alive=True)
    except RequestNotPossible:
        return
    overridden = name.lower() in ("host", "user-agent", "accept")
    assert raw.count(b"\n") == plain.count(b"\n") + (0 if overridden else 1)
    assert raw.count(b"\r") == raw.count(b"\n")
