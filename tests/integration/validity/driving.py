"""Runs of the real runner against a simulated engine, and what they said of themselves."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_runner import runner
from bench_runner.load.contract import RunControl
from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.clock import sleep_s
from engines.simulated.start import SimulatedServer
from engines.target import Site
from tests.fakes.verdicts import MACHINE_REASONS, assert_valid_here

CLOSED: dict[str, Any] = {"kind": "closed_loop", "concurrency": 4}
Meanwhile = Callable[[RunControl], None]


def drive(
    server: SimulatedServer,
    *,
    seed: int,
    meanwhile: Meanwhile | None = None,
    limits: dict[str, Any] | None = None,
    scrape_interval_s: float | None = 0.2,
    **workload: Any,
) -> RunOutcome:
    """One run of 40 requests, 4 at a time, unless told otherwise; `meanwhile` runs beside it in a thread."""
    load = {
        "requests": 40,
        "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 48}},
        "output_tokens": {"kind": "fixed", "tokens": 24},
        "arrival": CLOSED,
    }
    spec = RunSpec.model_validate(
        {
            "target": {"engine": "vllm", "model": server.model, "reach": {"kind": "attached", "url": server.url}},
            "workload": load | workload,
            "limits": limits or {"request_timeout_s": 20, "run_timeout_s": 60},
            "seed": seed,
            "calibration": False,
            "scrape_interval_s": scrape_interval_s,
        }
    )
    control = RunControl()
    with tempfile.TemporaryDirectory() as folder, beside(meanwhile, control):
        return runner.run(spec, control=control, site=Site(Path(folder)))


@contextmanager
def beside(meanwhile: Meanwhile | None, control: RunControl) -> Iterator[None]:
    """`meanwhile` in a thread; an error of its own is raised where the block ends."""
    if meanwhile is None:
        yield
        return
    errors: list[BaseException] = []

    def work() -> None:
        try:
            meanwhile(control)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


def wait_for_load(control: RunControl) -> None:
    """Until the measured load is under way, or the run is over without."""
    while control.stage != "done" and not (control.stage == "measuring" and control.progress is not None):
        sleep_s(0.002)


def wait_for_finished(control: RunControl, requests: int) -> None:
    """Until so many of the measured requests are answered, or the load is over."""
    wait_for_load(control)
    while control.stage == "measuring" and (control.progress is None or control.progress.finished < requests):
        sleep_s(0.002)


def wait_for_end(control: RunControl) -> None:
    """Until the load is over."""
    while control.stage in ("planned", "opening", "planning", "warming", "measuring"):
        sleep_s(0.005)


def reasons(outcome: RunOutcome) -> dict[str, str]:
    """What took the run from VALID: code -> message."""
    return {reason.code: reason.message for reason in outcome.result.validity.reasons if reason.severity != "note"}


def severities(outcome: RunOutcome) -> dict[str, str]:
    """How grave each reason is: code -> severity."""
    return {reason.code: reason.severity for reason in outcome.result.validity.reasons}


def notes(outcome: RunOutcome) -> dict[str, str]:
    """What was only worth a note: code -> message."""
    return {reason.code: reason.message for reason in outcome.result.validity.reasons if reason.severity == "note"}


def assert_clean(drive_once: Callable[[], RunOutcome]) -> RunOutcome:
    """A run without a fault is VALID, or kept from it by nothing but a busy machine; that run.

    A machine that stands still holds up the simulated engine too, which then honestly is not steady: so one of five.
    """
    for _ in range(4):
        outcome = drive_once()
        if outcome.error is None and not set(reasons(outcome)) - MACHINE_REASONS:
            break
    else:
        outcome = drive_once()
    assert outcome.error is None
    assert outcome.result.failures == {}
    assert_valid_here(outcome.result.validity.state, reasons(outcome))
    return outcome
