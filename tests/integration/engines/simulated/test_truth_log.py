"""The truth against what a client sees: the same clock, the same counts, arrivals by the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.clock import monotonic_ns, sleep_s
from engines.simulated.fit import predict
from engines.simulated.published import ROWS
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.integration.engines.simulated.talk import ask, ask_json, burst, connect, generate, http


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=5) as running:
        yield running


def test_stamps_lie_between_what_the_client_did_and_what_it_saw(server: SimulatedServer) -> None:
    capture, completion = generate(server, max_tokens=30)
    truth = server.truth()[-1]
    assert truth["local_port"] == capture.local_port
    assert truth["arrival_clock"] == "kernel"
    # the kernel's wall clock is mapped to the monotonic one: allow what such a mapping may be off by
    slack_ns = 200_000
    assert capture.sent_ns - slack_ns <= truth["arrival_ns"] <= truth["first_token_ns"]
    assert len(truth["token_ns"]) == completion.output_tokens == 30
    assert truth["token_ns"] == sorted(truth["token_ns"])
    for sent_ns, seen_ns in zip(truth["token_ns"], completion.event_ns, strict=True):
        assert sent_ns <= seen_ns
    assert truth["last_token_ns"] <= truth["end_ns"]
    assert truth["arrival_ns"] - slack_ns <= truth["queued_ns"] <= truth["begun_ns"] < truth["first_made_ns"]
    assert truth["first_made_ns"] <= truth["first_token_ns"]
    assert truth["last_made_ns"] <= truth["last_token_ns"]


def test_a_burst_is_told_request_by_request(server: SimulatedServer) -> None:
    first = server.ask("GET", "/truth?since=0")["next"]
    answers = burst(server, 40, max_tokens=16)
    told = {record["local_port"]: record for record in server.truth(since=first)}
    assert len(told) == 40
    for capture, completion in answers:
        record = told[capture.local_port]
        assert completion.failure is None
        assert record["outcome"] == "complete"
        assert record["generated_tokens"] == completion.output_tokens == 16
        assert record["prompt_tokens"] == completion.input_tokens
        assert record["first_token_ns"] <= completion.event_ns[0]


def test_its_metrics_are_sums_over_the_truth(server: SimulatedServer) -> None:
    """Also of answers that do not stream: those are sent at once, and made token by token all the same."""
    first = server.ask("GET", "/truth?since=0")["next"]
    before = page(server)
    body = {"model": server.model, "prompt": " the", "max_tokens": 20, "ignore_eos": True}
    ask_json(server, "POST", "/v1/completions", body)
    burst(server, 20, max_tokens=12)
    moved = {name: value - before[name] for name, value in page(server).items()}
    told = server.truth(since=first)
    assert len(told) == 21
    for name, count, since, until in (
        ("time_to_first_token", 21, "arrival_ns", "first_made_ns"),
        ("inter_token_latency", 19 + 20 * 11, "first_made_ns", "last_made_ns"),
        ("request_queue_time", 21, "queued_ns", "begun_ns"),
    ):
        assert moved[f"vllm:{name}_seconds_count"] == count
        sum_s = sum(one[until] - one[since] for one in told) / 1e9
        assert moved[f"vllm:{name}_seconds_sum"] == pytest.approx(sum_s, rel=1e-9), name


def page(server: SimulatedServer) -> dict[str, float]:
    """Samples of its own metrics without their labels; of several label sets the last."""
    lines = ask(server, http("GET", "/metrics")).content.decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.partition("{")[0]: float(value) for name, value in samples}


def test_real_time_follows_the_scheduler(server: SimulatedServer) -> None:
    """No step is shorter than the scheduler says, so a stream takes at least what the pure scheduler gives."""
    body = {"model": server.model, "prompt": " the" * 266, "max_tokens": 64, "ignore_eos": True}
    ask_json(server, "POST", "/v1/completions", body)
    generate(server, prompt=" light" * 266, max_tokens=64)
    truth = server.truth()[-1]
    took_s = (truth["last_token_ns"] - truth["arrival_ns"]) / 1e9 * 5
    row = next(row for row in ROWS if row.profile == "vllm-mistral-7b")
    alone = type(row)(row.profile, 1, 267, 64, 1.0, None, fitted=False)
    assert took_s >= predict(alone) * 0.99


def test_a_client_that_goes_away_frees_its_place(server: SimulatedServer) -> None:
    body = {"model": server.model, "prompt": " the", "max_tokens": 30_000, "stream": True, "ignore_eos": True}
    with connect(server) as sock:
        sock.sendall(http("POST", "/v1/completions", body))
        while b"data: " not in sock.recv(65536):
            pass
    deadline_ns = monotonic_ns() + 20_000_000_000
    while server.truth()[-1]["outcome"] == "running":
        assert monotonic_ns() < deadline_ns
        sleep_s(0.02)
    truth = server.truth()[-1]
    assert truth["outcome"] == "client_gone"
    assert 0 < truth["generated_tokens"] < 30_000
    assert server.about()["simulated"] is True


def test_a_client_may_leave_before_its_first_token(server: SimulatedServer) -> None:
    server.set_faults({"kind": "stall", "token": 0, "seconds": 0.2})
    with connect(server) as sock:
        sock.sendall(http("POST", "/v1/completions", {"prompt": " the", "max_tokens": 3, "stream": True}))
        assert sock.recv(12) == b"HTTP/1.1 200"
    sleep_s(0.4)
    server.set_faults()
    truth = server.truth()[-1]
    assert (truth["outcome"], truth["generated_tokens"]) == ("client_gone", 0)
    assert generate(server)[1].failure is None


def test_a_small_cache_preempts_and_everything_still_comes() -> None:
    with simulated_engine("vllm-mistral-7b", speed=4, kv_tokens=400, max_running=8) as server:
        answers = burst(server, 12, max_tokens=60)
        assert [completion.output_tokens for _, completion in answers] == [60] * 12
        assert sum(record["preemptions"] for record in server.truth()) > 0
        assert server.about()["kv_capacity_tokens"] == 400


def test_the_log_is_bounded_and_can_be_read_on(server: SimulatedServer) -> None:
    with simulated_engine("tgi-qwen2.5-7b", speed=500, truth_keep=3) as small:
        for k in range(5):
            generate(small, prompt=f" {k}", max_tokens=2)
        told = small.ask("GET", "/truth?since=0&tokens=0")
        assert [record["index"] for record in told["requests"]] == [2, 3, 4]
        assert (told["next"], told["forgotten"]) == (5, 2)
        assert "token_ns" not in told["requests"][0]
        assert len(small.truth(since=4)) == 1
    assert ask_json(server, "GET", "/truth?since=x")[0] == 400


def test_refused_requests_are_in_the_log(server: SimulatedServer) -> None:
    ask_json(server, "POST", "/v1/completions", {"model": "nope", "prompt": "x"})
    truth = server.truth()[-1]
    assert (truth["outcome"], truth["status"], truth["generated_tokens"]) == ("rejected", 404, 0)
    assert truth["first_token_ns"] is None
