"""HTTPS: certificates are verified, and stamps stay those of the ciphertext's arrival."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from bench_runner.errors import LoadFailed
from bench_runner.load.contract import RunControl
from bench_runner.load.process import drive
from tests.integration.load.plans import closed_loop, make_plan
from tests.integration.load.scripted import CHUNK, LAST_CHUNK, SSE_HEAD, EndConnection, Peer, scripted_server

#: key and self-signed certificate of "localhost" and 127.0.0.1, made for these tests and nothing else
CERTIFICATE = Path(__file__).with_name("localhost.pem")
RESPONSE = SSE_HEAD + 3 * CHUNK + LAST_CHUNK


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.mark.usefixtures("trusted")
def test_burst(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with scripted_server(lambda peer: peer.stream(3, gap_s=0.02), tls=tls) as server:
        plan = make_plan(tmp_path / "spool", server.port, 10, scheme="https", name="localhost")
        outcome = drive(plan, RunControl())
        captures = list(outcome.captures())
    assert {(capture.ended, capture.body) for capture in captures} == {("complete", RESPONSE)}
    assert all(0 < k <= u for c in captures for k, u in zip(c.read_kernel_ns, c.read_user_ns, strict=True))
    assert all(len(capture.read_bytes) >= 3 and sum(capture.read_bytes) == len(RESPONSE) for capture in captures)
    assert all(capture.connect_s > 0 for capture in captures)


@pytest.mark.usefixtures("trusted")
def test_reused_connections_and_large_bodies(tmp_path: Path, tls: ssl.SSLContext) -> None:
    body = bytes(range(256)) * 20_000
    with scripted_server(lambda peer: peer.stream(3), tls=tls) as server:
        plan = closed_loop(
            tmp_path / "spool", server.port, 6, 2, scheme="https", name="localhost", reused=True, body=body
        )
        captures = list(drive(plan, RunControl()).captures())
    assert {(capture.ended, capture.body) for capture in captures} == {("complete", RESPONSE)}
    assert len(server.seen.accepted_ns) == 2
    assert {request.partition(b"\r\n\r\n")[2] for request in server.seen.requests} == {body}


@pytest.mark.usefixtures("trusted")
def test_cut_off(tmp_path: Path, tls: ssl.SSLContext) -> None:
    def cut(peer: Peer) -> None:
        peer.send(SSE_HEAD + CHUNK)
        raise EndConnection

    with scripted_server(cut, tls=tls) as server:
        plan = make_plan(tmp_path / "spool", server.port, 1, scheme="https", name="localhost")
        (capture,) = drive(plan, RunControl()).captures()
    assert (capture.ended, capture.body, capture.error) == ("eof", SSE_HEAD + CHUNK, "")


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with scripted_server(lambda peer: peer.stream(1), tls=tls) as server:
        plan = make_plan(tmp_path / "spool", server.port, 2, scheme="https", name="localhost")
        captures = list(drive(plan, RunControl()).captures())
    assert [(capture.ended, capture.sent_ns) for capture in captures] == [("connect", 0)] * 2
    assert all("CERTIFICATE_VERIFY_FAILED" in capture.error for capture in captures)
    assert server.seen.requests == []


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_host(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with scripted_server(lambda peer: peer.stream(1), tls=tls) as server:
        plan = make_plan(tmp_path / "spool", server.port, 1, scheme="https", name="elsewhere.example")
        (capture,) = drive(plan, RunControl()).captures()
    assert capture.ended == "connect"
    assert "Hostname mismatch" in capture.error


@pytest.mark.usefixtures("trusted")
def test_https_asked_of_a_plain_server(tmp_path: Path) -> None:
    def plain(peer: Peer) -> None:
        raise AssertionError("no request can arrive")

    with scripted_server(plain) as server:
        plan = make_plan(tmp_path / "spool", server.port, 1, scheme="https", name="localhost", connect_timeout_s=0.4)
        (capture,) = drive(plan, RunControl()).captures()
    assert (capture.ended, capture.sent_ns) == ("connect", 0)


def test_authorities_of_the_plan_are_trusted(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with scripted_server(lambda peer: peer.stream(3), tls=tls) as server:
        plan = make_plan(tmp_path / "spool", server.port, 2, scheme="https", name="localhost", ca_file=CERTIFICATE)
        captures = list(drive(plan, RunControl()).captures())
    assert {(capture.ended, capture.body) for capture in captures} == {("complete", RESPONSE)}


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_authorities_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    plan = make_plan(tmp_path / "spool", 1, 1, scheme="https", name="localhost", ca_file=ca_file)
    with pytest.raises(LoadFailed, match=r"ca\.pem is not a file of certificates") as caught:
        drive(plan, RunControl())
    assert caught.value.field == "target.ca_file"
