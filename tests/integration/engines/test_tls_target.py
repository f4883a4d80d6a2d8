"""Targets over HTTPS: the pinned address, under the target's own name, with a certificate somebody vouches for."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from engines.contract import FailureKind
from engines.errors import TargetUnavailable
from engines.spec import Attached, TargetSpec
from engines.target import Site, open_target
from tests.integration.engines.answering import answering, as_json, completion_events, native_events

#: key and self-signed certificate of "localhost", made for tests and nothing else
CERTIFICATE = Path(__file__).parents[1] / "load" / "localhost.pem"
ROUTES = {
    "/v1/completions": completion_events(),
    "/generate_stream": native_events(),
    "/info": as_json({"model_id": "tiny", "version": "3.3.5"}),
}


@pytest.fixture
def names() -> list[str | None]:
    """The names that clients asked for."""
    return []


@pytest.fixture
def tls(names: list[str | None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    return context


def test_every_question_names_the_host_and_verifies_it(
    tmp_path: Path, tls: ssl.SSLContext, names: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setattr("engines.hub_probe._is_set_up", False)
    with answering(ROUTES, tls) as server:
        spec = TargetSpec(engine="tgi", model="tiny", reach=Attached(url=server.url))
        with open_target(spec, Site(tmp_path)) as target:
            assert target.origin.address == "127.0.0.1"
            assert target.facts.version == "3.3.5"
            assert target.facts.probe["hub_client_output_tokens"] == 8
    assert len(names) == 4  # two probes, the control client, Hugging Face's client
    assert set(names) == {"localhost"}


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with answering(ROUTES, tls) as server:
        spec = TargetSpec(engine="tgi", model="tiny", reach=Attached(url=server.url))
        untrusted = pytest.raises(TargetUnavailable, match="certificate verify failed")
        with untrusted as error, open_target(spec, Site(tmp_path)):
            pass
        assert server.asked == []
    assert error.value.failure is not None
    assert error.value.failure.kind is FailureKind.CONNECT
    assert "name its authority's file in SSL_CERT_FILE" in str(error.value)


def test_a_server_that_speaks_no_tls(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        answerer = threading.Thread(target=_answer_plainly, args=(plain,))
        answerer.start()
        spec = TargetSpec(
            engine="openai", model="tiny", reach=Attached(url=f"https://localhost:{plain.getsockname()[1]}")
        )
        refused = pytest.raises(TargetUnavailable, match=r"mend reach\.url \(http:// where it speaks none\)")
        with refused, open_target(spec, Site(tmp_path)):
            pass
        answerer.join()


def _answer_plainly(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
