"""`transformers serve`: unknown fields are refused, lengths are fixed by its own `generation_config`, no `[DONE]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import WorkloadSpec
from engines.target import OpenTarget
from tests.engines.conftest import OpenEngine
from tests.fakes.verdicts import assert_valid_here


@pytest.fixture(scope="module")
def server(open_engine: OpenEngine, models: dict[str, Path]) -> Iterator[OpenTarget]:
    with open_engine("transformers", models["qwen2"], "--continuous-batching") as target:
        yield target


def test_it_is_ready_after_a_real_generation(server: OpenTarget) -> None:
    assert server.facts.probe["output_tokens"] == 8
    assert server.facts.startup_s is not None


def test_a_hundred_requests_of_exactly_128_tokens(
    server: OpenTarget, models: dict[str, Path], mission: WorkloadSpec, drive: Callable[..., RunOutcome]
) -> None:
    # It compiles nothing, and a batch takes it a minute: no warm-up.
    cold = mission.model_copy(update={"warmup_batches": 0})
    outcome = drive(server, cold, tokenizer=models["qwen2"])
    summary = outcome.result.summary
    assert outcome.error is None
    assert outcome.result.failures == {}
    assert summary["successes"] == 100
    assert summary["total_input_tokens"] == 12_800
    assert summary["total_output_tokens"] == 12_800
    validity = outcome.result.validity
    assert_valid_here(validity.state, [reason.code for reason in validity.reasons if reason.severity != "note"])
