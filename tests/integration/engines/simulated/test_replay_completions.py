"""The replay as any client of the OpenAI API meets it: its route, its manners, and TLS."""

from __future__ import annotations

import http.client
import json
import ssl
from array import array
from pathlib import Path
from typing import Any

import pytest

from bench_runner.load.contract import LoadPlan, RunControl, SocketPolicy
from bench_runner.load.process import drive
from engines.contract import Origin, WireRequest
from engines.dialects.http1 import encode_http
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.errors import LaunchFailed
from engines.simulated.process import running
from engines.simulated.start import SimulatedServer, replay_server

#: of `localhost`
CERTIFICATE = Path(__file__).parents[2] / "load" / "localhost.pem"
ROW = [5_000_000 * k for k in range(1, 7)]


def complete(server: SimulatedServer, body: Any, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Status and body of one completion."""
    port = server.port
    connection = (
        http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    )
    try:
        connection.request("POST", "/v1/completions", json.dumps(body))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def ask_plainly(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/v1/completions", json.dumps(asking()))
    connection.getresponse()


def asking(**changes: Any) -> dict[str, Any]:
    return {"prompt": "one two three", "max_tokens": 4, "stream": True} | changes


def test_a_row_as_far_as_it_is_asked_for() -> None:
    with replay_server([ROW, ROW[:2]]) as server:
        status, first = complete(server, asking())
        _, second = complete(server, asking())
        truths = server.truth()
        assert server.truth(since=1) == truths[1:]
        assert server.about() == {"replays": 2}
    assert status == 200
    counts = [json.loads(body.split("data: ")[-2])["usage"] for body in (first, second)]
    assert counts == [{"prompt_tokens": 3, "completion_tokens": 4}, {"prompt_tokens": 3, "completion_tokens": 2}]
    assert [truth["finish_reason"] for truth in truths] == ["length", "stop"]
    for truth, row in zip(truths, (ROW, ROW[:2]), strict=True):
        lates_ns = [sent - truth["arrival_ns"] - due for sent, due in zip(truth["token_ns"], row, strict=False)]
        assert min(lates_ns) >= 0


@pytest.mark.parametrize(
    "body", [asking(stream=False), asking(max_tokens=0), asking(max_tokens="4"), {"prompt": "x"}, [], "{"]
)
def test_what_it_cannot_do_is_refused(body: Any) -> None:
    with replay_server([ROW]) as server:
        assert complete(server, body)[0] == 400
        assert complete(server, asking())[0] == 200


def test_singly_each_token_has_a_send_of_its_own() -> None:
    with replay_server([[0] * 20], singly=True, keep=1) as server:
        complete(server, asking(max_tokens=20))
        complete(server, asking(max_tokens=20))
        (truth,) = server.truth()  # of the last one alone
    assert truth["index"] == 1
    assert len(set(truth["token_ns"])) == 20


def burst(server: SimulatedServer, spool: Path, requests: int, pem: Path) -> list[list[int]]:
    """Event stamps of a burst over TLS, as the load process kept them."""
    origin = Origin("https", "localhost", server.port, "", "127.0.0.1")
    wire = encode_http(origin, "/v1/completions", json.dumps(asking(max_tokens=6)).encode(), keep_alive=False)
    plan = LoadPlan(
        origin=origin,
        requests=tuple(WireRequest(k, wire) for k in range(requests)),
        offsets_ns=array("q", bytes(8 * requests)),
        concurrency=None,
        socket=SocketPolicy(fresh_connections=True, quick_ack=True),
        request_timeout_s=20,
        connect_timeout_s=10,
        run_timeout_s=30,
        spool=spool,
        ca_file=pem,
    )
    completions = [OPENAI_COMPLETIONS.decode(capture) for capture in drive(plan, RunControl()).captures()]
    assert {completion.failure for completion in completions} == {None}
    return [list(completion.event_ns) for completion in completions]


def test_over_tls_the_same(tmp_path: Path) -> None:
    pem = CERTIFICATE
    with replay_server([ROW], keep=20, tls_pem=pem) as server:
        assert server.url == f"https://localhost:{server.port}"
        assert complete(server, asking(), ssl.create_default_context(cafile=str(pem)))[0] == 200
        events = burst(server, tmp_path, 10, pem)
        truths = server.truth(since=1)
    assert len(events) == len(truths) == 10
    assert {truth["arrival_clock"] for truth in truths} == {"kernel"}
    first_ns, last_ns = min(map(min, events)), max(map(max, events))
    assert min(truth["token_ns"][0] for truth in truths) < first_ns
    assert max(truth["token_ns"][-1] for truth in truths) < last_ns


def test_a_client_without_tls_is_dropped_and_the_next_one_served() -> None:
    pem = CERTIFICATE
    with replay_server([ROW], tls_pem=pem) as server:
        plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask_plainly(plain)
        plain.close()
        assert complete(server, asking(), ssl.create_default_context(cafile=str(pem)))[0] == 200


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    (tmp_path / "timeline.json").write_text('{"event_bytes": 1, "offsets_ns": []}')
    flags = ["--timeline", str(tmp_path / "timeline.json"), "--tls-pem", str(tmp_path / "none.pem")]
    with (
        pytest.raises(LaunchFailed, match="ssl"),
        running("the replay", ["-m", "engines.simulated.replay", *flags]),
    ):
        pass
