"""What the network does to one exchange, or to one question, is told and never raised past its own error."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from engines import control
from engines.clock import monotonic_ns, sleep_s
from engines.contract import FailureKind, Origin, WireRequest
from engines.control import ControlClient
from engines.dialects.http1 import encode_http
from engines.errors import TargetUnavailable
from engines.exchange import exchange
from tests.integration.engines.answering import Asked, Reply, answering
from tests.integration.engines.raw import EndConnection, Peer, raw_server

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OPEN_ENDED = b"HTTP/1.1 200 OK\r\n\r\nsome"


def origin_at(port: int) -> Origin:
    return Origin("http", "127.0.0.1", port, "", "127.0.0.1")


def cut(data: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.send(data)
        raise EndConnection

    return script


def reset(peer: Peer) -> None:
    peer.send(WHOLE[:20])
    peer.reset()
    raise EndConnection


@pytest.mark.parametrize(
    ("script", "ended", "body"),
    [
        (lambda peer: peer.send(WHOLE), "complete", WHOLE),
        (cut(OPEN_ENDED), "eof", OPEN_ENDED),
        (cut(WHOLE[:-1]), "eof", WHOLE[:-1]),
        (cut(b""), "eof", b""),
        (reset, "reset", None),
        (cut(b"SSH-2.0-OpenSSH_9.6\r\n"), "malformed", b"SSH-2.0-OpenSSH_9.6\r\n"),
        (lambda peer: peer.wait_for_close(), "timeout", b""),
    ],
)
def test_how_a_response_ends(script: Callable[[Peer], None], ended: str, body: bytes | None) -> None:
    with raw_server(script) as server:
        origin = origin_at(server.port)
        wire = WireRequest(3, encode_http(origin, "/v1/completions", b"{}", keep_alive=False))
        capture = exchange(origin, wire, timeout_s=2.0)
        assert server.requests == [wire.payload]
    assert (capture.index, capture.ended) == (3, ended)
    if body is not None:
        assert capture.body == body
        assert sum(capture.read_bytes) == len(body)
    assert len(capture.read_user_ns) == len(capture.read_kernel_ns) == len(capture.read_bytes)
    assert 0 < capture.sent_ns <= capture.ended_ns


def drip(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(200):
        peer.send(b"x")
        sleep_s(0.05)


def test_a_server_that_drips_does_not_hold_a_question_for_ever() -> None:
    with raw_server(drip) as server, ControlClient(origin_at(server.port), timeout_s=0.5) as client:
        before_ns = monotonic_ns()
        with pytest.raises(TargetUnavailable, match=r"did not answer in 0.5 s") as error:
            client.get("/metrics")
        assert monotonic_ns() - before_ns < 8e9
    assert error.value.failure is not None
    assert error.value.failure.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize(("keeps_asking", "asked"), [(False, 1), (True, 2)])
def test_what_a_server_leaves_unanswered_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, keeps_asking: bool, asked: int
) -> None:
    monkeypatch.setattr(control, "_GET_S", 0.2)
    released = threading.Event()

    def silent(_: Asked) -> Reply:
        released.wait(20)
        return Reply(200, b"late")

    try:
        with (
            answering({"/metrics": silent, "/version": Reply(200, b"1")}) as server,
            ControlClient(origin_at(server.port), keeps_asking=keeps_asking) as client,
        ):
            for _ in range(2):
                with pytest.raises(TargetUnavailable) as error:
                    client.get("/metrics")
                assert error.value.failure is not None
                assert error.value.failure.kind is FailureKind.TIMEOUT
            assert client.silent == {"/metrics"}
            assert client.get("/version").text == "1"
            assert [one.path for one in server.asked] == ["/metrics"] * asked + ["/version"]
    finally:
        released.set()


@pytest.mark.parametrize(("late", "asked"), [(2, 4), (9, 4)])
def test_what_a_server_has_answered_before_is_asked_a_few_times(
    monkeypatch: pytest.MonkeyPatch, late: int, asked: int
) -> None:
    monkeypatch.setattr(control, "_GET_S", 0.2)
    released = threading.Event()
    turns: list[int] = []

    def busy_for_a_while(_: Asked) -> Reply:
        turns.append(len(turns))
        if 1 <= turns[-1] <= late:
            released.wait(20)
        return Reply(200, b"told")

    try:
        with (
            answering({"/metrics": busy_for_a_while}) as server,
            ControlClient(origin_at(server.port)) as client,
        ):
            assert client.get("/metrics").text == "told"
            if late < asked - 1:
                assert client.get("/metrics").text == "told"
                assert client.silent == set()
            else:
                for _ in range(2):
                    with pytest.raises(TargetUnavailable):
                        client.get("/metrics")
                assert client.silent == {"/metrics"}
            assert len(server.asked) == asked
    finally:
        released.set()


def flood(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(40):
        peer.send(bytes(1 << 20))
    raise EndConnection


def test_a_server_that_floods_does_not_fill_the_memory() -> None:
    too_much = pytest.raises(TargetUnavailable, match="more than 32 MiB")
    with raw_server(flood) as server, ControlClient(origin_at(server.port)) as client, too_much:
        client.get("/metrics")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (cut(WHOLE[:-1]), FailureKind.BROKEN_STREAM),
        (cut(b"nonsense\r\n\r\n"), FailureKind.BROKEN_STREAM),
        (cut(b""), FailureKind.BROKEN_STREAM),
    ],
)
def test_a_question_without_a_whole_answer(script: Callable[[Peer], None], kind: FailureKind) -> None:
    broken = pytest.raises(TargetUnavailable)
    with raw_server(script) as server, ControlClient(origin_at(server.port)) as client, broken as error:
        client.get("/version")
    assert error.value.failure is not None
    assert error.value.failure.kind is kind


def test_a_kept_connection_that_is_closed_meanwhile_costs_no_answer() -> None:
    def once(peer: Peer) -> None:
        if peer.requests > 1:
            raise EndConnection
        peer.send(WHOLE)

    with raw_server(once) as server, ControlClient(origin_at(server.port)) as client:
        assert client.get("/metrics").body == b"ok"
        assert client.get("/metrics").body == b"ok"
        assert server.accepted == 2
