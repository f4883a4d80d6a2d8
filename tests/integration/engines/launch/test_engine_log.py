"""What a started engine wrote last is kept with its run: of one that dies in mid-run, why; without its secrets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_runner import runner
from bench_runner.errors import TargetFailed
from bench_runner.load.contract import RunControl
from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.clock import sleep_s
from engines.launch.process import TAIL_BYTES
from engines.simulated.profiles import PROFILES
from engines.simulated.start import simulated_engine
from engines.target import Site
from tests.fakes.docker_engine import DockerEngine, FakeContainer, docker_engine
from tests.fakes.service import free_port

NAME = "vllm-mistral-7b"
KEY = "sk-0123456789"


def run(target: dict[str, Any], site: Site, control: RunControl | None = None) -> RunOutcome:
    spec = {
        "target": target,
        "workload": {
            "requests": 40,
            "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 16}},
            "output_tokens": {"kind": "fixed", "tokens": 8},
            "arrival": {"kind": "constant", "rate_per_s": 20},
            "warmup_batches": 0,
        },
        "calibration": False,
        "scrape_interval_s": None,
    }
    return runner.run(RunSpec.model_validate(spec), control=control or RunControl(), site=site)


def process(*behaviour: str, **reach: Any) -> dict[str, Any]:
    arguments = [word for one in behaviour for word in ("--behaviour", one)]
    return {
        "engine": "vllm",
        "model": "tiny",
        "reach": {"kind": "process", "model_path": "folder/tiny", "args": arguments, **reach},
    }


def log_of(outcome: RunOutcome) -> str:
    log = outcome.result.environment["engine_log"]
    assert isinstance(log, str)
    assert len(log.encode()) <= TAIL_BYTES
    return log


def test_a_run_that_went_well_keeps_it_too_and_it_has_a_bound(tmp_path: Path) -> None:
    outcome = run(process("talks"), Site(tmp_path / "state"))
    assert outcome.error is None
    assert log_of(outcome).endswith("x\nloading the weights")
    assert len(log_of(outcome)) > TAIL_BYTES / 2
    assert not any("ended during the run" in note for note in outcome.result.notes)


def test_a_process_that_dies_in_mid_run_says_why_and_not_its_key(tmp_path: Path) -> None:
    dying = process("dies-in-mid-run", env={"VLLM_API_KEY": KEY})
    outcome = run(dying, Site(tmp_path / "state"))
    assert log_of(outcome).endswith("torch.OutOfMemoryError: CUDA out of memory, key [redacted]")
    assert outcome.result.validity.state == "INVALID"
    assert any("the engine ended during the run, with exit code 134" in note for note in outcome.result.notes)
    assert KEY not in str(outcome.result.environment["engine_log"])


def test_a_process_that_dies_at_its_start_has_it_in_the_same_place(tmp_path: Path) -> None:
    outcome = run(process("dies"), Site(tmp_path / "state"))
    assert isinstance(outcome.error, TargetFailed)
    assert log_of(outcome) == "RuntimeError: not enough memory for the KV cache"


def test_a_container_that_is_killed_in_mid_run_says_why_and_not_its_key(tmp_path: Path) -> None:
    control = RunControl()
    with container(tmp_path) as (docker, target, site), once_measuring(control, lambda: kill(docker.containers[NAME])):
        outcome = run(target, site, control)
    assert log_of(outcome) == (
        "loading the weights\nout of memory, key [redacted]\n(killed: it used more memory than its limit)"
    )
    assert outcome.result.validity.state == "INVALID"
    assert any("the engine ended during the run, with exit code 137" in note for note in outcome.result.notes)


def test_a_container_that_errs_in_mid_run_and_stays_up_tells_what_it_wrote(tmp_path: Path) -> None:
    control = RunControl()

    def err() -> None:
        docker.containers[NAME].log += "ERROR: a request was not understood\n"

    with container(tmp_path) as (docker, target, site), once_measuring(control, err):
        outcome = run(target, site, control)
    assert outcome.error is None
    assert log_of(outcome) == "loading the weights\nERROR: a request was not understood"
    assert not any("ended during the run" in note for note in outcome.result.notes)


def test_a_server_that_nobody_started_has_none(tmp_path: Path) -> None:
    with simulated_engine(NAME, speed=10.0) as server:
        reach = {"kind": "attached", "url": server.url}
        outcome = run({"engine": "vllm", "model": server.model, "reach": reach}, Site(tmp_path))
    assert outcome.error is None
    assert "engine_log" not in outcome.result.environment


@contextmanager
def container(folder: Path) -> Iterator[tuple[DockerEngine, dict[str, Any], Site]]:
    """The Docker Engine's stand-in with one container of a simulated engine, and the target that names it."""
    port = free_port()
    one = FakeContainer(NAME, program=lambda: simulated_engine(NAME, port=port, speed=10.0), command=("--api-key", KEY))
    profile = PROFILES[NAME]
    reach = {"kind": "container", "container": NAME, "url": f"http://127.0.0.1:{port}"}
    with docker_engine(folder, one) as docker:
        site = Site(folder / "state", docker_url=docker.url, containers=(NAME,))
        target = {"engine": profile.engine, "model": profile.model.name, "reach": reach, "resources": ["gpu:0"]}
        yield docker, target, site


def kill(one: FakeContainer) -> None:
    one.log += f"out of memory, key {KEY}\n"
    one.out_of_memory = True
    one.end(137)


@contextmanager
def once_measuring(control: RunControl, act: Callable[[], None]) -> Iterator[None]:
    """Does it once responses of the load are under way."""

    def wait_and_act() -> None:
        while control.stage != "done":
            seen = control.progress
            if control.stage == "measuring" and seen is not None and seen.finished:
                act()
                return
            sleep_s(0.02)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
