"""The load process against the simulated engine, which knows when everything really happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_runner.load.contract import LoadPlan, RunControl
from bench_runner.load.process import drive
from engines.catalog import encode_request, find_dialect, find_engine
from engines.contract import Capture, Completion, GenerationRequest
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.integration.load.plans import closed_loop, make_plan

TOKENS = 24


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=5, never_stops=True) as started:
        yield started


def measure(plan: LoadPlan, server: SimulatedServer) -> list[tuple[Capture, Completion, dict[str, Any]]]:
    """Drives `plan` with generation requests; each capture, what it says, and the truth of it."""
    engine = find_engine("vllm")
    endpoint, dialect = find_dialect(engine, None)
    keep_alive = not plan.socket.fresh_connections
    requests = tuple(
        encode_request(
            engine,
            endpoint,
            GenerationRequest(server.model, f"{request.index} is the number of this one", TOKENS),
            plan.origin,
            index=request.index,
            keep_alive=keep_alive,
        )
        for request in plan.requests
    )
    before = len(server.truth())
    captures = list(drive(replace(plan, requests=requests), RunControl()).captures())
    truth = {(record["local_port"], k): record for record, k in _numbered(server.truth()[before:])}
    by_send = sorted(captures, key=lambda capture: capture.sent_ns)
    rounds: dict[int, int] = {}
    joined = []
    for capture in by_send:
        k = rounds[capture.local_port] = rounds.get(capture.local_port, -1) + 1
        joined.append((capture, dialect.decode(capture), truth[capture.local_port, k]))
    return joined


def _numbered(records: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    """Each record with its place among those of its port."""
    rounds: dict[int, int] = {}
    for record in records:
        k = rounds[record["local_port"]] = rounds.get(record["local_port"], -1) + 1
        yield record, k


@pytest.mark.parametrize("shape", ["burst", "fresh", "reused"])
def test_what_is_measured_is_what_happened(tmp_path: Path, server: SimulatedServer, shape: str) -> None:
    match shape:
        case "burst":
            plan = make_plan(tmp_path / "spool", server.port, 20)
        case _:
            plan = closed_loop(tmp_path / "spool", server.port, 20, 5, reused=shape == "reused")
    joined = measure(plan, server)
    assert len(joined) == 20
    for capture, completion, truth in joined:
        assert completion.failure is None
        assert completion.output_tokens == truth["generated_tokens"] == TOKENS
        assert completion.input_tokens == truth["prompt_tokens"]
        # One clock: the request arrived after it was sent, the first token after the engine sent it.
        assert capture.sent_ns < truth["arrival_ns"]
        assert truth["first_token_ns"] < completion.event_ns[0]
        assert truth["last_token_ns"] < completion.event_ns[-1]
        assert completion.clock == "kernel"


def test_streams_that_the_engine_cuts_are_told_from_whole_ones(tmp_path: Path, server: SimulatedServer) -> None:
    server.set_faults({"kind": "cut", "token": 3, "every": 2})
    try:
        joined = measure(closed_loop(tmp_path / "spool", server.port, 8, 2), server)
    finally:
        server.set_faults()
    for capture, completion, truth in joined:
        whole = truth["generated_tokens"] == TOKENS
        assert (capture.ended == "complete") == whole
        assert (completion.failure is None) == whole
        assert len(completion.event_ns) <= truth["generated_tokens"]
    assert sum(completion.failure is None for _, completion, _ in joined) == 4
