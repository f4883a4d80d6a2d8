"""A run's client against the replay server: the same load process, the same sends, a known answer."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_runner import calibration, runner
from bench_runner.calibration import Conditions, NotCalibrated, calibrate
from bench_runner.errors import LoadFailed
from bench_runner.load.contract import LoadOutcome, LoadPlan, RunControl, SocketPolicy
from bench_runner.load.fleet import drive_fleet
from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.clock import sleep_s
from engines.contract import Capture
from engines.simulated.start import SimulatedServer, simulated_engine
from engines.target import Site
from tests.fakes.records import make_record

FRESH, KEPT = SocketPolicy(True, False), SocketPolicy(False, False)
RECORDS = [make_record(k, events_ms=tuple(60.0 + 10 * t for t in range(100))) for k in range(8)]
#: far above what a busy machine does to a median
SHIM_NS = 50_000_000


def conditions(folder: Path, **other: Any) -> Conditions:
    values = {"window_s": 1.06, "concurrency": None, "socket": FRESH, "processes": 1, "event_bytes": 250}
    return Conditions(**(values | other), folder=folder)


def test_a_part_of_the_run_is_replayed_to_its_client(tmp_path: Path) -> None:
    found = calibrate(RECORDS, conditions(tmp_path), RunControl())
    assert (found.requests, found.processes, found.fresh_connections) == (8, 1, True)
    # a busy machine may end it early, at its time limit
    assert not found.complete or found.events == 8 * 94
    assert 8 <= found.event.n == found.events <= 8 * 94
    assert abs(found.ttft.bias_s) < 0.01
    assert abs(found.event.bias_s) < 0.01
    assert found.event.noise_floor_s >= abs(found.event.bias_s)
    assert found.event_clock == "kernel"
    assert found.client_lag_max_s is not None
    assert found.client_lag_p99_s is not None
    assert found.server_late_p99_s > 0
    assert 0 < found.client_lag_p99_s <= found.client_lag_max_s
    assert list(tmp_path.iterdir()) == []


def test_the_shortest_run_is_replayed_too(tmp_path: Path) -> None:
    found = calibrate([make_record(events_ms=(4.0, 5.0, 6.0))], conditions(tmp_path, window_s=0.006), RunControl())
    assert found.requests == 1
    assert 1 <= found.event.n <= 3
    assert abs(found.event.bias_s) < 0.01


def test_a_run_over_tls_is_replayed_over_tls(tmp_path: Path) -> None:
    found = calibrate(RECORDS, conditions(tmp_path, tls=True), RunControl())
    assert (found.requests, found.tls, found.event_clock) == (8, True, "kernel")
    assert abs(found.ttft.bias_s) < 0.01
    assert abs(found.event.bias_s) < 0.01
    assert found.sent_clock in ("kernel", "user")
    assert not calibrate(RECORDS, conditions(tmp_path), RunControl()).tls


def test_slots_connections_and_processes_are_those_of_the_run(tmp_path: Path) -> None:
    seen: list[LoadPlan] = []

    def watched(plan: LoadPlan, control: RunControl) -> LoadOutcome:
        seen.append(plan)
        return drive_fleet(plan, control)

    closed = [
        make_record(k, sent_ms=500 * (k // 2), events_ms=tuple(500 * (k // 2) + 40.0 + 10 * t for t in range(40)))
        for k in range(4)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "drive_fleet", watched)
        found = calibrate(closed, conditions(tmp_path, concurrency=2, socket=KEPT, processes=2), RunControl())
    assert (seen[0].concurrency, seen[0].socket, seen[0].processes) == (2, KEPT, 2)
    assert found.processes == 2
    assert not found.fresh_connections
    assert found.requests == 4


def test_a_client_whose_stamps_are_late_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(plan: LoadPlan, control: RunControl) -> LoadOutcome:
        outcome = drive_fleet(plan, control)
        return replace(outcome, captures=lambda: map(_late, outcome.captures()))

    monkeypatch.setattr(calibration, "drive_fleet", late)
    found = calibrate(RECORDS, conditions(tmp_path), RunControl())
    for error in (found.event, found.ttft):
        assert SHIM_NS / 1e9 <= error.bias_s < SHIM_NS / 1e9 + 0.01
    assert found.tpot is not None
    assert abs(found.tpot.bias_s) < 0.001


def _late(capture: Capture) -> Capture:
    stamps = array("q", ((stamp or user) + SHIM_NS for stamp, user in zip(*_stamps(capture), strict=True)))
    return replace(capture, read_kernel_ns=stamps)


def _stamps(capture: Capture) -> tuple[array[int], array[int]]:
    return capture.read_kernel_ns, capture.read_user_ns


def test_what_cannot_be_calibrated_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotCalibrated, match="no token"):
        calibrate([make_record(sent_ms=None, events_ms=())], conditions(tmp_path), RunControl())
    cancelled = RunControl()
    cancelled.cancel()
    with pytest.raises(NotCalibrated, match="cancelled"):
        calibrate(RECORDS, conditions(tmp_path), cancelled)
    with pytest.raises(NotCalibrated, match="No such file"):
        calibrate(RECORDS, conditions(tmp_path / "none"), RunControl())


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b") as running:
        yield running


def run(server: SimulatedServer, folder: Path, control: RunControl | None = None, **spec: Any) -> RunOutcome:
    asked = {
        "target": {"engine": "vllm", "model": server.model, "reach": {"kind": "attached", "url": server.url}},
        "workload": {
            "requests": 2,
            "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 16}},
            "output_tokens": {"kind": "fixed", "tokens": 110},
        },
        "seed": len(server.truth()),
    }
    return runner.run(RunSpec.model_validate(asked | spec), control=control or RunControl(), site=Site(folder))


def test_a_run_is_calibrated_and_its_target_does_not_notice(server: SimulatedServer, tmp_path: Path) -> None:
    before = len(server.truth())
    control = RunControl()
    outcome = run(server, tmp_path, control)
    assert outcome.error is None
    kept = outcome.result.to_json()["calibration"]
    assert kept["requests"] == 2
    assert kept["ttft"]["n"] == 2
    assert isinstance(kept["below_noise_floor"], list)
    assert not any("not calibrated" in note for note in outcome.result.notes)
    # the probe and the two requests
    assert len(server.truth()) - before == 3
    assert control.progress is not None
    assert control.progress.finished == 2
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_go_without(server: SimulatedServer, tmp_path: Path) -> None:
    outcome = run(server, tmp_path, calibration=False)
    assert outcome.result.calibration is None
    assert "not calibrated: calibration is off" in outcome.result.notes
    assert outcome.result.spec["calibration"] is False


def test_a_calibration_that_fails_leaves_the_run_as_it_was(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LoadFailed("no memory")

    monkeypatch.setattr(calibration, "drive_fleet", broken)
    outcome = run(server, tmp_path)
    assert outcome.error is None
    assert "not calibrated: no memory" in outcome.result.notes


def test_a_cancel_meanwhile_keeps_the_whole_run(server: SimulatedServer, tmp_path: Path) -> None:
    control = RunControl()
    canceller = threading.Thread(target=_cancel_at, args=(control, "calibrating"))
    canceller.start()
    outcome = run(server, tmp_path, control)
    canceller.join()
    assert outcome.result.outcome == "completed"
    assert outcome.result.summary["successes"] == 2
    assert any("cancelled meanwhile" in note for note in outcome.result.notes)


def _cancel_at(control: RunControl, stage: str) -> None:
    while control.stage != stage:
        sleep_s(0.001)
    control.cancel()
