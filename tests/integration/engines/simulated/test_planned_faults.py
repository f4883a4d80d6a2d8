"""Each planned fault does to a client what it says, and a request without it goes through beside it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from engines.clock import monotonic_ns, sleep_s
from engines.contract import Endpoint, FailureKind
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.integration.engines.simulated.talk import TIMEOUT_S, ask, ask_json, connect, generate, http, receive


@pytest.fixture(scope="module", params=["vllm-mistral-7b", "tgi-mistral-7b"])
def shared(request: pytest.FixtureRequest) -> Iterator[SimulatedServer]:
    with simulated_engine(request.param, speed=50, never_stops=True) as running:
        yield running


@pytest.fixture
def server(shared: SimulatedServer) -> Iterator[SimulatedServer]:
    yield shared
    shared.set_faults()
    # each fault has a fault-free twin
    _, completion = generate(shared)
    assert completion.failure is None
    assert completion.output_tokens == 8


def endpoints(server: SimulatedServer) -> list[Endpoint]:
    openai = [Endpoint.COMPLETIONS, Endpoint.CHAT]
    return [*openai, Endpoint.NATIVE] if server.profile.startswith("tgi") else openai


@pytest.mark.parametrize(
    ("fault", "kind", "outcome"),
    [
        ({"kind": "cut", "token": 3}, FailureKind.BROKEN_STREAM, "cut"),
        ({"kind": "cut", "token": 0}, FailureKind.BROKEN_STREAM, "cut"),
        ({"kind": "cut", "token": 3, "reset": True}, FailureKind.BROKEN_STREAM, "cut"),
        ({"kind": "error_event", "token": 3}, FailureKind.ENGINE_ERROR, "error_event"),
        ({"kind": "garbage", "token": 3}, FailureKind.MALFORMED, "garbage"),
        ({"kind": "no_finish", "token": 3}, FailureKind.INCOMPLETE, "no_finish"),
    ],
)
def test_faults_inside_a_stream(
    server: SimulatedServer, fault: dict[str, Any], kind: FailureKind, outcome: str
) -> None:
    for endpoint in endpoints(server):
        server.set_faults(fault)
        _, completion = generate(server, endpoint=endpoint)
        assert completion.failure is not None, endpoint
        assert completion.failure.kind is kind, (endpoint, completion.failure)
        truth = server.truth()[-1]
        assert truth["outcome"] == outcome
        assert truth["generated_tokens"] == fault["token"]
        assert truth["planned_tokens"] == 8


def test_an_abort_ends_properly_and_says_so(server: SimulatedServer) -> None:
    server.set_faults({"kind": "abort", "token": 3})
    _, completion = generate(server)
    assert completion.failure is not None
    assert completion.failure.kind is FailureKind.ABORTED
    assert completion.finish_reason == "abort"
    assert server.truth()[-1]["generated_tokens"] == 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "cut", "token": 3}, FailureKind.BROKEN_STREAM),
        ({"kind": "error_event", "token": 3}, FailureKind.REJECTED),
        ({"kind": "abort", "token": 3}, FailureKind.ABORTED),
    ],
)
def test_faults_of_answers_that_do_not_stream(
    server: SimulatedServer, fault: dict[str, Any], kind: FailureKind
) -> None:
    server.set_faults(fault)
    _, completion = generate(server, stream=False)
    assert completion.failure is not None
    assert completion.failure.kind is kind


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_status_instead_of_an_answer_every_second_time(server: SimulatedServer, status: int) -> None:
    server.set_faults({"kind": "status", "status": status, "every": 2})
    seen = [generate(server)[1] for _ in range(4)]
    assert [completion.failure is None for completion in seen] == [True, False, True, False]
    assert {c.failure.status for c in seen if c.failure is not None} == {status}
    assert server.truth()[-1]["status"] == status


def test_a_stall_stops_one_stream_and_no_other(server: SimulatedServer) -> None:
    server.set_faults({"kind": "stall", "token": 3, "seconds": 0.8, "every": 2})
    generate(server)
    generate(server)
    smooth, stalled = server.truth()[-2:]
    gaps = [[(b - a) / 1e9 for a, b in zip(r["token_ns"], r["token_ns"][1:], strict=False)] for r in (smooth, stalled)]
    assert gaps[1][2] >= 0.8
    assert max(gaps[0]) < 0.8
    assert stalled["generated_tokens"] == 8


def test_a_stall_before_the_first_token_is_a_late_first_token(server: SimulatedServer) -> None:
    server.set_faults({"kind": "stall", "token": 0, "seconds": 0.3})
    capture, completion = generate(server)
    assert completion.failure is None
    assert completion.event_ns[0] - capture.sent_ns >= 300_000_000


def test_slow_headers_hold_everything_back(server: SimulatedServer) -> None:
    server.set_faults({"kind": "slow_headers", "seconds": 0.3})
    for stream in (True, False):
        capture, completion = generate(server, stream=stream)
        assert completion.failure is None
        assert completion.output_tokens == 8
        assert capture.read_user_ns[0] - capture.sent_ns >= 300_000_000


def test_a_wrong_count_is_told_and_the_truth_keeps_the_right_one(server: SimulatedServer) -> None:
    server.set_faults({"kind": "wrong_usage", "tokens": 5})
    for endpoint in endpoints(server):
        _, completion = generate(server, endpoint=endpoint)
        assert completion.output_tokens == 13, endpoint
        assert server.truth()[-1]["generated_tokens"] == 8


def test_several_tokens_in_a_chunk(server: SimulatedServer) -> None:
    server.set_faults({"kind": "coalesce", "tokens": 3})
    _, completion = generate(server)
    assert completion.failure is None
    assert completion.output_tokens == 8
    assert len(completion.event_ns) == 3
    assert len(set(server.truth()[-1]["token_ns"])) == 3
    if server.profile.startswith("vllm"):
        assert list(completion.event_tokens) == [3, 3, 2]


def test_html_and_redirects_are_no_answers(server: SimulatedServer) -> None:
    server.set_faults({"kind": "html"})
    _, completion = generate(server)
    assert completion.failure is not None
    assert completion.failure.kind is FailureKind.MALFORMED
    server.set_faults({"kind": "redirect", "location": "http://127.0.0.1:9/x"})
    response = ask(server, http("POST", "/v1/completions", {"prompt": "x"}))
    assert (response.status, response.header("location")) == (307, "http://127.0.0.1:9/x")


def test_a_reset_instead_of_an_answer(server: SimulatedServer) -> None:
    server.set_faults({"kind": "reset"})
    capture, completion = generate(server)
    assert capture.body == b""
    assert completion.failure is not None
    assert server.truth()[-1]["outcome"] == "reset"


def test_a_token_is_wanted(server: SimulatedServer) -> None:
    server.set_faults({"kind": "wants_token", "token": "open-sesame"})
    assert ask(server, http("GET", "/v1/models")).status == 401
    assert ask(server, http("GET", "/v1/models", authorization="Bearer wrong")).status == 401
    assert ask(server, http("GET", "/v1/models", authorization="Bearer open-sesame")).status == 200
    assert ask(server, http("GET", "/health")).status == 200
    _, completion = generate(server)
    assert completion.failure is not None
    assert completion.failure.status == 401


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(server: SimulatedServer) -> None:
    server.set_faults({"kind": "idle_close", "after_ms": 50}, {"kind": "stall", "token": 2, "seconds": 0.3})
    with connect(server) as idle:
        assert idle.recv(1) == b""
    _, completion = generate(server)
    assert completion.failure is None


def test_connections_are_refused_and_then_taken_again(server: SimulatedServer) -> None:
    server.set_faults({"kind": "refuse", "for_s": 0.3})
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    deadline_ns = monotonic_ns() + int(TIMEOUT_S * 1e9)
    while True:
        try:
            connect(server).close()
            break
        except ConnectionRefusedError:
            assert monotonic_ns() < deadline_ns
            sleep_s(0.02)
    server.set_faults({"kind": "refuse"})
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_health_can_fail_while_generation_goes_on(server: SimulatedServer) -> None:
    server.set_faults({"kind": "unhealthy"})
    assert ask(server, http("GET", "/health")).status == 503
    _, completion = generate(server)
    assert completion.failure is None


def test_faults_are_shown_and_bad_ones_refused(server: SimulatedServer) -> None:
    with pytest.raises(ValueError, match="422"):
        server.set_faults({"kind": "melt"})
    server.set_faults({"kind": "cut", "every": 3})
    assert ask_json(server, "GET", "/simulated/faults") == (
        200,
        {"faults": [{"every": 3, "kind": "cut", "token": 1, "reset": False}]},
    )


def test_a_cut_frees_the_sequence_and_the_connection_after_an_error_event_lives_on(server: SimulatedServer) -> None:
    server.set_faults({"kind": "error_event", "token": 1, "every": 2})
    body = {"model": server.model, "prompt": " the", "max_tokens": 3, "stream": True}
    with connect(server) as sock:
        for _ in range(4):
            sock.sendall(http("POST", "/v1/completions", body))
            assert receive(sock, sent_ns=0).ended == "complete"
    metrics = ask(server, http("GET", "/metrics")).content.decode()
    name = "vllm:num_requests_running" if server.profile.startswith("vllm") else "tgi_batch_current_size"
    (line,) = [line for line in metrics.splitlines() if line.startswith(name)]
    assert float(line.split()[-1]) == 0


def test_faults_can_be_given_at_the_start() -> None:
    with simulated_engine("vllm-mistral-7b", speed=50, faults=[{"kind": "status", "status": 500}]) as server:
        _, completion = generate(server)
        assert completion.failure is not None
        assert completion.failure.status == 500


def test_sigterm_aborts_what_is_under_way_as_vllm_does() -> None:
    with simulated_engine("vllm-mistral-7b", speed=0.5) as server:
        body = {"model": server.model, "prompt": " the", "max_tokens": 500, "stream": True}
        body["stream_options"] = {"include_usage": True}
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)
        sock.sendall(http("POST", "/v1/completions", body))
        received = b""
        while received.count(b"data: ") < 3:
            received += sock.recv(65536)
    with sock:
        while data := sock.recv(65536):
            received += data
    assert b'"finish_reason":"abort"' in received
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    chunks = [line for line in received.split(b"\n") if b'"usage":{' in line]
    assert json.loads(chunks[-1].removeprefix(b"data: "))["usage"]["completion_tokens"] < 500
