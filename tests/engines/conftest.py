"""Real engines on CPU, each opened once a module through the product's own launcher, with models made on the spot."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench_runner.load.contract import RunControl
from bench_runner.outcome import RunOutcome
from bench_runner.plan.presets import load_workload
from bench_runner.plan.spec import Limits, RunSpec, WorkloadSpec
from bench_runner.runner import run
from engines.clock import sleep_s
from engines.launch.keeper import started_at
from engines.spec import Attached, Launched, TargetSpec
from engines.target import OpenTarget, Site, open_target
from tests.engines.tiny_model import make_tiny_model

#: where install.py puts them
ENVIRONMENTS = Path(os.environ.get("ENGINEBENCH_TEST_ENGINES") or Path(__file__).parents[2] / ".venv-engines")

#: vLLM on CPU takes its KV cache from here, in GiB; nothing may look for a hub.
VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}

#: (engine, model folder, arguments) -> the open target
OpenEngine = Callable[..., AbstractContextManager[OpenTarget]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders by architecture."""
    folder = tmp_path_factory.mktemp("models")
    return {name: make_tiny_model(folder / name, name) for name in ("qwen2", "mistral")}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("state"))


def launched(engine: str, model: Path, *arguments: str) -> TargetSpec:
    """A target that is started from its own environment."""
    programs = ENVIRONMENTS / engine / "bin"
    assert programs.is_dir(), f"{engine} is not installed: run `make test-engines`, or tests/engines/install.py"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    reach = Launched(model_path=str(model), args=arguments, env=VARIABLES | {"PATH": path}, ready_timeout_s=400.0)
    return TargetSpec(engine=engine, model=str(model), reach=reach)


@pytest.fixture(scope="session")
def open_engine(site: Site) -> OpenEngine:
    """Opens a real engine; on leaving, not one process of it is left."""

    @contextmanager
    def opened(engine: str, model: Path, *arguments: str, overlay: bool = False) -> Iterator[OpenTarget]:
        with open_target(launched(engine, model, *arguments), site, overlay=overlay) as target:
            pid = target.pid
            assert pid is not None
            yield target
        assert started_at(pid) is None

    return opened


@pytest.fixture(scope="session")
def drive(site: Site) -> Callable[..., RunOutcome]:
    """One run of the product against an opened engine."""

    def driven(
        target: OpenTarget,
        workload: WorkloadSpec,
        *,
        tokenizer: Path | None = None,
        request_timeout_s: float = 300.0,
        control: RunControl | None = None,
    ) -> RunOutcome:
        attached = TargetSpec(
            engine=target.engine.name,
            model=target.model,
            reach=Attached(url=target.origin.url),
            tokenizer=str(tokenizer) if tokenizer else None,
        )
        spec = RunSpec(target=attached, workload=workload, limits=Limits(request_timeout_s=request_timeout_s), seed=7)
        return run(spec, control=control or RunControl(), site=site)

    return driven


def interrupted(
    drive: Callable[..., RunOutcome],
    target: OpenTarget,
    workload: WorkloadSpec,
    interrupt: Callable[[], None],
    **more: Any,
) -> RunOutcome:
    """A run that is interrupted once its responses are under way."""
    control = RunControl()

    def wait_and_interrupt() -> None:
        while control.stage != "done":
            seen = control.progress
            if control.stage == "measuring" and seen is not None and seen.received_bytes > 20_000:
                interrupt()
                return
            sleep_s(0.02)

    thread = threading.Thread(target=wait_and_interrupt)
    thread.start()
    outcome = drive(target, workload, control=control, **more)
    thread.join()
    return outcome


def assert_failed_as(outcome: RunOutcome, *kinds: str) -> None:
    """Failures of those kinds only, a run that is INVALID because of them, and figures of successes alone."""
    result = outcome.result
    assert outcome.error is None
    assert result.failures
    assert set(result.failures) <= set(kinds), result.failures
    assert result.validity.state == "INVALID"
    assert "failures" in {reason.code for reason in result.validity.reasons}
    successes = [record for record in outcome.records if record.ok]
    assert result.summary["successes"] == len(successes)
    assert len(successes) + sum(result.failures.values()) == len(outcome.records)
    if successes:
        assert result.summary["total_output_tokens"] == sum(record.output_tokens or 0 for record in successes)
    else:
        assert result.summary["output_tokens_per_s"] is None


@pytest.fixture
def mission() -> WorkloadSpec:
    """100 prompts of exactly 128 tokens, 128 output tokens each, all at once; one warm-up batch is enough here."""
    return load_workload("burst-100x128x128").model_copy(update={"warmup_batches": 1})
