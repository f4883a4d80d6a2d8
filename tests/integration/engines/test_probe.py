"""The probe asks as a run would ask, and reads its answer with the parser of the run."""

from __future__ import annotations

from typing import Any

import pytest

from engines.catalog import find_dialect, find_engine
from engines.contract import Endpoint, FailureKind, Origin
from engines.errors import TargetUnavailable
from engines.probe import PROBE_TOKENS, Probe, probe
from tests.integration.engines.answering import Asked, Reply, answering, as_json, completion_events, native_events
from tests.integration.engines.raw import Peer, raw_server

HINTS = b"HTTP/1.1 103 Early Hints\r\nserver: a-proxy\r\nlink: </a>\r\n\r\n"


def ask(port: int, engine: str = "vllm", base_path: str = "", **more: Any) -> Probe:
    kind = find_engine(engine)
    endpoint, dialect = find_dialect(kind, more.pop("endpoint", None))
    origin = Origin("http", "127.0.0.1", port, base_path, "127.0.0.1")
    return probe(origin, kind, endpoint, dialect, "tiny", timeout_s=10.0, **more)


def whole(reply: Reply, headers: bytes = b"") -> bytes:
    length = b"content-length: %d\r\n" % len(reply.body)
    return b"HTTP/1.1 %d X\r\n" % reply.status + headers + length + b"\r\n" + reply.body


def test_an_interim_response_is_passed_over() -> None:
    answer = whole(completion_events(), b"server: enginebench-simulated\r\n")
    with raw_server(lambda peer: peer.send(HINTS + answer)) as server:
        seen = ask(server.port)
    assert seen.completion.output_tokens == PROBE_TOKENS
    assert seen.simulated


def test_a_refusal_behind_an_interim_response_is_told_by_its_own_status() -> None:
    answer = whole(as_json({"error": "no token"}, 401))
    with (
        raw_server(lambda peer: peer.send(HINTS + answer)) as server,
        pytest.raises(TargetUnavailable, match=r"wants a token \(status 401\)") as refused,
    ):
        ask(server.port)
    assert refused.value.field == "reach.api_key_env"


def test_a_refusal_in_chunks_is_quoted_without_its_framing() -> None:
    def refuse(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n")
        peer.send(b"8\r\nno such \r\n5\r\nvoice\r\n0\r\n\r\n")

    with (
        raw_server(refuse) as server,
        pytest.raises(TargetUnavailable, match=r"\(status 400\): no such voice; mend") as refused,
    ):
        ask(server.port)
    assert refused.value.failure is not None
    assert refused.value.failure.kind is FailureKind.REJECTED


def test_a_message_names_the_route_that_was_asked() -> None:
    with (
        answering({"/v1/completions": as_json({}, 500)}) as server,
        pytest.raises(TargetUnavailable, match=rf":{server.port}/v1/completions refuses"),
    ):
        ask(server.port, base_path="/v1")


def test_a_server_that_wants_a_field_of_the_workload_s_gets_it() -> None:
    def choosy(asked: Asked) -> Reply:
        if asked.body.get("adapter", {}).get("name") != "poet":
            return as_json({"error": "adapter.name is missing"}, 400)
        return completion_events()

    with answering({"/v1/completions": choosy}) as server:
        with pytest.raises(TargetUnavailable, match=r"adapter\.name is missing"):
            ask(server.port)
        assert ask(server.port, extra={"adapter": {"name": "poet"}}).completion.failure is None


def test_its_answer_stays_short_whatever_the_workload_asks_for() -> None:
    many = {"max_tokens": 4000, "min_tokens": 4000, "n": 3, "stop": ["one"], "top_k": 5}
    with answering({"/v1/completions": completion_events()}) as server:
        ask(server.port, extra=many)
    body = server.asked[0].body
    assert body["max_tokens"] == PROBE_TOKENS
    assert body["top_k"] == 5
    assert {"min_tokens", "n", "stop"}.isdisjoint(body)


def test_it_stays_short_where_the_amount_is_a_level_down() -> None:
    extra = {"parameters": {"max_new_tokens": 4000, "watermark": True}}
    with answering({"/generate_stream": native_events()}) as server:
        ask(server.port, "tgi", endpoint=Endpoint.NATIVE, extra=extra)
    parameters = server.asked[0].body["parameters"]
    assert parameters["max_new_tokens"] == PROBE_TOKENS
    assert parameters["watermark"] is True
