"""The runner against a simulated engine: what ends a run early, and what is kept then."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench_runner import runner
from bench_runner.errors import LoadFailed, RunCancelled, RunError, SpecError, TargetFailed
from bench_runner.load.contract import LoadPlan, RunControl
from bench_runner.load.outcome import salvage
from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.clock import sleep_s
from engines.errors import TargetUnavailable
from engines.simulated.start import SimulatedServer, simulated_engine
from engines.target import OpenTarget, Site
from engines.watch import Watch


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=10) as running:
        yield running


def spec(
    server: SimulatedServer, *, engine: str = "vllm", limits: dict[str, Any] | None = None, **load: Any
) -> RunSpec:
    workload = {
        "requests": 8,
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 16}},
        "output_tokens": {"kind": "fixed", "tokens": 8},
    }
    return RunSpec.model_validate(
        {
            "target": {"engine": engine, "model": server.model, "reach": {"kind": "attached", "url": server.url}},
            "workload": workload | load,
            "limits": limits or {},
            "seed": len(server.truth()),
        }
    )


def run(asked: RunSpec, site: Path, control: RunControl | None = None) -> RunOutcome:
    return runner.run(asked, control=control or RunControl(), site=Site(site))


def test_a_good_run_leaves_nothing_behind(server: SimulatedServer, tmp_path: Path) -> None:
    outcome = run(spec(server), tmp_path)
    assert outcome.error is None
    assert outcome.result.summary["total_output_tokens"] == 64
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("lost", "told"), [(range(1), False), (range(1, 2), False), (range(99), True)])
def test_a_reading_of_the_counters_that_gave_nothing_does_not_undo_another(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: range, told: bool
) -> None:
    read, stop = OpenTarget.counters, Watch.stop
    loaded = threading.Event()
    after: list[int] = []

    def counters(target: OpenTarget) -> dict[str, float]:
        if loaded.is_set():
            after.append(len(after))
        return {} if after and after[-1] in lost else read(target)

    def stop_and_tell(watch: Watch) -> None:
        stop(watch)
        loaded.set()

    monkeypatch.setattr(OpenTarget, "counters", counters)
    monkeypatch.setattr(Watch, "stop", stop_and_tell)
    outcome = run(spec(server), tmp_path)
    assert outcome.error is None
    codes = [reason.code for reason in outcome.result.validity.reasons]
    assert ("counters_unread" in codes) is told
    assert outcome.result.summary["token_counts"]["counters"]["output"] == (None if told else 64)


def test_a_simulated_engine_is_not_measured_under_another_s_name(server: SimulatedServer, tmp_path: Path) -> None:
    outcome = run(spec(server, engine="sglang"), tmp_path)
    assert isinstance(outcome.error, SpecError)
    assert outcome.error.field == "target.engine"
    assert outcome.result.outcome == "failed"


def test_a_tokenizer_route_that_hangs_is_told_with_the_way_around_it(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object) -> None:
        raise TargetUnavailable("/tokenize did not answer in 30 s", field="reach.url")

    monkeypatch.setattr(OpenTarget, "tokenize", hang)
    outcome = run(spec(server), tmp_path)
    assert isinstance(outcome.error, TargetFailed)
    assert outcome.error.field == "target.tokenizer"
    assert "did not answer in 30 s; give the model's own tokenizer.json (target.tokenizer)" in str(outcome.error)


def test_the_time_limit_is_the_whole_run_s(server: SimulatedServer, tmp_path: Path) -> None:
    slow: dict[str, Any] = {"output_tokens": {"kind": "fixed", "tokens": 200}, "warmup_batches": 50}
    outcome = run(spec(server, limits={"run_timeout_s": 4.0}, **slow), tmp_path)
    assert isinstance(outcome.error, LoadFailed)
    assert outcome.error.field == "limits.run_timeout_s"
    batches = outcome.result.environment["warmup_output_tokens_per_s"]
    assert 0 < len(batches) < 50


def test_a_warm_up_in_which_all_fails_is_given_up(server: SimulatedServer, tmp_path: Path) -> None:
    # The probe must pass, so the fault is set while the run is already planning.
    control = RunControl()
    breaker = threading.Thread(target=_break_once_planning, args=(server, control))
    breaker.start()
    try:
        outcome = run(spec(server, requests=200, warmup_batches=6), tmp_path, control)
        breaker.join()
    finally:
        server.set_faults()
    assert len(outcome.result.environment["warmup_output_tokens_per_s"]) == 1
    assert any("warm-up given up" in note for note in outcome.result.notes)
    assert outcome.result.failures == {"rejected": 200}
    assert outcome.result.validity.state == "INVALID"


def _break_once_planning(server: SimulatedServer, control: RunControl) -> None:
    while control.stage in ("planned", "opening"):
        sleep_s(0.001)
    server.set_faults({"kind": "status", "status": 500})


def test_cancel_is_heard_while_prompts_are_drawn(server: SimulatedServer, tmp_path: Path) -> None:
    control = RunControl()
    canceller = threading.Thread(target=_cancel_once_planning, args=(control,))
    canceller.start()
    many: dict[str, Any] = {"requests": 20_000, "arrival": {"kind": "closed_loop", "concurrency": 8}}
    outcome = run(spec(server, **many), tmp_path, control)
    canceller.join()
    assert isinstance(outcome.error, RunCancelled)
    assert outcome.records == ()
    assert outcome.result.outcome == "cancelled"


def _cancel_once_planning(control: RunControl) -> None:
    while control.stage in ("planned", "opening"):
        sleep_s(0.001)
    control.cancel()


def test_a_fault_of_ours_ends_the_run_and_is_told(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(runner, "_choose_tokenizer", broken)
    outcome = run(spec(server), tmp_path)
    assert isinstance(outcome.error, RunError)
    assert "ZeroDivisionError" in (outcome.result.error or "")
    assert outcome.result.validity.state == "INVALID"
    assert "run broke" in caplog.text


def test_what_the_spec_alone_shows_to_be_impossible_is_refused_before_the_target_is_opened(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(runner, "open_target", lambda *_, **__: opened.append("target"))
    monkeypatch.setattr("bench_runner.load.check.resource.getrlimit", lambda _: (256, 256))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"requests": 300}, "workload.requests"),
        ({"requests": 999, "arrival": {"kind": "closed_loop", "concurrency": 300}}, "workload.arrival.concurrency"),
        ({"requests": 999, "arrival": {"kind": "constant", "rate_per_s": 700}}, "workload.requests"),
        (
            {"requests": 999, "arrival": {"kind": "poisson", "rate_per_s": 700, "max_concurrency": 250}},
            "workload.arrival.max_concurrency",
        ),
        ({"requests": 999, "arrival": {"kind": "constant", "rate_per_s": 0.01}}, "limits.run_timeout_s"),
    ]
    for load, field in refused:
        outcome = run(spec(server, **load), tmp_path)
        assert outcome.error is not None
        assert outcome.error.field == field
        assert outcome.result.validity.state == "INVALID"
        assert outcome.records == ()
    assert opened == []


def test_what_was_measured_before_the_load_broke_off_is_kept(server: SimulatedServer, tmp_path: Path) -> None:
    control = RunControl()
    killer = threading.Thread(target=_kill_the_load, args=(control,))
    killer.start()
    long: dict[str, Any] = {"requests": 400, "arrival": {"kind": "closed_loop", "concurrency": 2}, "warmup_batches": 0}
    outcome = run(spec(server, **long), tmp_path, control)
    killer.join()
    assert isinstance(outcome.error, LoadFailed)
    result = outcome.result
    assert result.outcome == "failed"
    assert result.validity.state == "INVALID"
    assert 0 < result.summary["successes"] < 400
    assert result.summary["total_output_tokens"] == 8 * result.summary["successes"]
    assert set(result.failures) == {"cancelled"}
    assert len(outcome.records) == 400
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_back_of_a_broken_load_is_counted(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: LoadPlan, _: RunControl) -> None:
        failure = LoadFailed("the load process died")
        failure.captures = lambda: salvage(plan, [plan.spool / "process-0"])
        raise failure

    monkeypatch.setattr("bench_runner.batch.drive_fleet", broken)
    outcome = run(spec(server), tmp_path)
    assert "the load broke off, and 8 of 8 requests cannot be read back" in outcome.result.notes
    assert outcome.result.outcome == "failed"


def _kill_the_load(control: RunControl) -> None:
    while (control.progress is None or not control.progress.finished) and control.stage != "done":
        sleep_s(0.01)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"bench_runner.load.child" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
