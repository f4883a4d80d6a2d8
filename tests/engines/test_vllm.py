"""vLLM's CPU build: counted to the token, stopped in mid-run, killed in mid-run; each fault beside a run without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import FixedLength, WorkloadSpec
from engines.launch.keeper import session_members
from engines.probe import PROBE_PROMPT, probe
from engines.target import OpenTarget
from engines.vllm import VLLM
from tests.engines.conftest import OpenEngine, assert_failed_as, interrupted
from tests.fakes.verdicts import assert_valid_here

#: Eager: compiling a model of two layers takes longer than these tests.
ARGUMENTS = ("--max-model-len", "1024", "--no-enable-prefix-caching", "--generation-config", "vllm", "--enforce-eager")

Drive = Callable[..., RunOutcome]


@pytest.fixture(scope="module")
def server(open_engine: OpenEngine, models: dict[str, Path]) -> Iterator[OpenTarget]:
    """One server for what leaves it whole; the last test that uses it stops it."""
    with open_engine("vllm", models["mistral"], *ARGUMENTS) as target:
        yield target


@pytest.fixture
def long_workload(mission: WorkloadSpec) -> WorkloadSpec:
    """Long enough to be interrupted."""
    return mission.model_copy(update={"warmup_batches": 0, "output_tokens": FixedLength(tokens=800)})


def test_it_describes_itself(server: OpenTarget) -> None:
    assert server.facts.version == "0.32.0"
    assert server.facts.model_max_tokens == 1024
    assert server.facts.info["enable_prefix_caching"] == "False"
    assert server.facts.flags == ARGUMENTS
    assert server.facts.probe["output_tokens"] == 8
    assert set(server.counters()) == set(VLLM.metric_names)


def test_its_tokenizer_counts_what_it_charges(server: OpenTarget) -> None:
    ids = server.tokenize(PROBE_PROMPT)
    assert ids is not None
    assert len(ids) == server.facts.probe["input_tokens"]
    assert ids[0] == 1
    chat = server.tokenize(PROBE_PROMPT, chat=True)
    assert chat is not None
    assert len(chat) > len(ids)


def test_a_hundred_requests_of_exactly_128_tokens(server: OpenTarget, mission: WorkloadSpec, drive: Drive) -> None:
    before = server.counters()
    outcome = drive(server, mission)
    after = server.counters()
    summary = outcome.result.summary
    assert outcome.error is None
    assert outcome.result.failures == {}
    assert summary["successes"] == 100
    assert summary["total_input_tokens"] == 12_800
    assert summary["total_output_tokens"] == 12_800
    validity = outcome.result.validity
    assert_valid_here(validity.state, [reason.code for reason in validity.reasons if reason.severity != "note"])
    # Its own counters saw the warm-up batch, the measured one and the probe of the run.
    assert after["generation_tokens_total"] - before["generation_tokens_total"] == 2 * 12_800 + 8


def test_a_long_run_without_a_fault_is_valid(server: OpenTarget, long_workload: WorkloadSpec, drive: Drive) -> None:
    outcome = drive(server, long_workload)
    assert outcome.result.failures == {}
    assert outcome.result.summary["total_output_tokens"] == 80_000
    telemetry = outcome.result.telemetry
    assert telemetry is not None
    assert set(telemetry["series"]) == set(VLLM.metric_names) - {"process_start_time_seconds"}
    told = telemetry["server"]
    assert (told["ttft_requests"], told["queue_requests"], told["preemptions"]) == (100, 100, 0)
    # By two clocks, one of which begins to wait before the other's request is there.
    assert 0 <= told["queue_mean_s"] < told["ttft_mean_s"] < outcome.result.summary["ttft_s"]["mean"]
    assert 0 < told["kv_cache_usage_mean_ratio"] <= told["kv_cache_usage_max_ratio"] <= 1
    assert told["prefix_cache_hit_tokens"] == 0
    validity = outcome.result.validity
    assert_valid_here(validity.state, [reason.code for reason in validity.reasons if reason.severity != "note"])


def test_the_same_run_with_one_request_of_somebody_else_is_inconclusive(
    server: OpenTarget, long_workload: WorkloadSpec, drive: Drive
) -> None:
    """As small as a health check that generates: no count of tokens shows it, that of requests does."""

    def stranger() -> None:
        probe(server.origin, server.engine, server.endpoint, server.dialect, server.model)

    outcome = interrupted(drive, server, long_workload, stranger)
    assert outcome.result.failures == {}
    (told,) = [reason for reason in outcome.result.validity.reasons if reason.code == "foreign_traffic"]
    assert told.severity == "inconclusive"
    assert told.message.startswith("the engine counted 101 finished requests over the window, our requests account for")
    assert "a health check that generates" in told.message
    # Of the run as a whole a busy machine may say worse.
    assert outcome.result.validity.state != "VALID"


def test_the_same_run_with_the_server_stopped_in_it_fails(
    server: OpenTarget, long_workload: WorkloadSpec, drive: Drive
) -> None:
    """SIGTERM to the server: it gives its engine no time, so streams end in an error event, or in silence."""
    pid = server.pid
    assert pid is not None
    outcome = interrupted(drive, server, long_workload, lambda: os.killpg(pid, signal.SIGTERM), request_timeout_s=20.0)
    assert_failed_as(outcome, "aborted", "engine_error", "broken_stream", "timeout")


def test_the_same_run_with_its_engine_stopped_is_aborted(
    open_engine: OpenEngine, models: dict[str, Path], long_workload: WorkloadSpec, drive: Drive
) -> None:
    """SIGTERM to the engine behind the server: HTTP 200, `finish_reason: "abort"`, usage, `[DONE]`.

    The server takes the engine for dead as soon as it is gone, so streams it was late with end in an error event.
    """
    few = long_workload.model_copy(update={"requests": 20})
    with open_engine("vllm", models["mistral"], *ARGUMENTS) as target:
        core = engine_core(target)
        outcome = interrupted(drive, target, few, lambda: os.kill(core, signal.SIGTERM))
    assert_failed_as(outcome, "aborted", "engine_error", "incomplete")
    assert outcome.result.failures["aborted"] > 0
    for record in outcome.records:
        aborted = record.failure is not None and record.failure.kind == "aborted"
        assert aborted == (record.finish_reason == "abort")


def test_the_same_run_with_its_engine_killed_is_an_engine_error(
    open_engine: OpenEngine, models: dict[str, Path], long_workload: WorkloadSpec, drive: Drive
) -> None:
    """SIGKILL: HTTP 200, an error event, and `[DONE]` all the same."""
    with open_engine("vllm", models["mistral"], *ARGUMENTS) as target:
        core = engine_core(target)
        outcome = interrupted(drive, target, long_workload, lambda: os.kill(core, signal.SIGKILL))
    assert_failed_as(outcome, "engine_error")


def engine_core(target: OpenTarget) -> int:
    """The process of the server that runs the model."""
    assert target.pid is not None
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in session_members(target.pid)}
    return next(pid for pid, name in names.items() if b"EngineCore" in name)
