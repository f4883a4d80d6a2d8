"""mlx-lm's server: HTTP/1.0, bodies that end with the connection, no way to ignore EOS but a bias against it.

Its listen backlog is 5: of 100 connections at once most wait a second for a SYN to be sent again, and some are reset
after half a minute. So the hundred requests come five at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import ClosedLoop, WorkloadSpec
from engines.clock import monotonic_ns, sleep_s
from engines.launch.keeper import session_members, started_at
from engines.launch.orphans import launches_folder, reap_orphans
from engines.target import OpenTarget
from tests.engines.conftest import OpenEngine, assert_failed_as, interrupted
from tests.engines.tiny_model import EOS, TURN_END
from tests.fakes.verdicts import assert_valid_here


@pytest.fixture
def workload(mission: WorkloadSpec) -> WorkloadSpec:
    """The mission's requests, as few at once as this server can accept."""
    return mission.model_copy(update={"arrival": ClosedLoop(concurrency=5), "warmup_batches": 0})


@pytest.fixture(scope="module")
def server(open_engine: OpenEngine, models: dict[str, Path]) -> Iterator[OpenTarget]:
    with open_engine("mlx", models["qwen2"]) as target:
        yield target


def test_it_is_ready_after_a_real_generation(server: OpenTarget) -> None:
    assert server.facts.probe["output_tokens"] == 8
    assert server.facts.startup_s is not None
    assert server.log_tail() != ""


def test_a_hundred_requests_of_exactly_128_tokens(
    server: OpenTarget, models: dict[str, Path], workload: WorkloadSpec, drive: Callable[..., RunOutcome]
) -> None:
    never_ends = workload.model_copy(update={"extra_body": {"logit_bias": {str(EOS): -100.0, str(TURN_END): -100.0}}})
    outcome = drive(server, never_ends, tokenizer=models["qwen2"])
    summary = outcome.result.summary
    assert outcome.error is None
    assert outcome.result.failures == {}
    assert summary["successes"] == 100
    assert summary["total_input_tokens"] == 12_800
    assert summary["total_output_tokens"] == 12_800
    validity = outcome.result.validity
    assert_valid_here(validity.state, [reason.code for reason in validity.reasons if reason.severity != "note"])


def test_an_overlay_keeps_it_from_ending_early(
    open_engine: OpenEngine, models: dict[str, Path], workload: WorkloadSpec, drive: Callable[..., RunOutcome]
) -> None:
    natural = workload.model_copy(update={"lengths": "natural", "requests": 20})
    with open_engine("mlx", models["qwen2"], overlay=True) as target:
        outcome = drive(target, natural, tokenizer=models["qwen2"])
    assert outcome.result.failures == {}
    assert outcome.result.summary["total_output_tokens"] == 20 * 128


def test_a_server_that_is_killed_breaks_its_streams(
    open_engine: OpenEngine, models: dict[str, Path], workload: WorkloadSpec, drive: Callable[..., RunOutcome]
) -> None:
    with open_engine("mlx", models["qwen2"]) as target:
        pid = target.pid
        assert pid is not None
        outcome = interrupted(drive, target, workload, lambda: os.kill(pid, signal.SIGKILL), tokenizer=models["qwen2"])
    # A body that ends with its connection is cut by a reset (broken) or by an orderly end (incomplete).
    assert_failed_as(outcome, "broken_stream", "incomplete", "connect")
    assert outcome.result.failures["connect"] > 50


_WORKER = """
import sys
from pathlib import Path
from engines.clock import sleep_s
from engines.target import Site, open_target
from tests.engines.conftest import launched
with open_target(launched("mlx", Path(sys.argv[1])), Site(Path(sys.argv[2]))) as target:
    print(target.pid, flush=True)
    sleep_s(600)
"""


def test_it_does_not_outlive_a_killed_worker(models: dict[str, Path], tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _WORKER, str(models["qwen2"]), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        assert started_at(pid) is not None
        worker.kill()
    deadline_ns = monotonic_ns() + 30 * 10**9
    while started_at(pid) is not None:
        assert monotonic_ns() < deadline_ns, "still running"
        sleep_s(0.05)
    assert session_members(pid) == []
    # Its keeper drops the record as the last thing it does.
    while list(launches_folder(tmp_path).glob("*.json")):
        assert monotonic_ns() < deadline_ns, "its record is still there"
        sleep_s(0.05)
    assert reap_orphans(tmp_path) == 0
