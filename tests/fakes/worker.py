"""A worker in a thread of the test, and runs that take no target."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_runner.errors import RunCancelled, RunError
from bench_runner.load.contract import Progress, RunControl
from bench_runner.outcome import Notebook, RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.clock import monotonic_ns, sleep_s, utc_now
from engines.target import HeldServer, Site
from services.settings import read_settings
from services.worker.loop import run_worker

PATIENCE_S = 60.0


@dataclass(slots=True)
class FakeRuns:
    """Runs that go on until `finish` is set, `error` is there or somebody cancels; counts what it was asked for."""

    finish: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    #: stop when the lease lapses, as a load does
    heeds_deadline: bool = True
    specs: list[RunSpec] = field(default_factory=list)
    controls: list[RunControl] = field(default_factory=list)
    #: what each was to leave its engine with; `None`: nobody
    holders: list[HeldServer | None] = field(default_factory=list)

    def __call__(self, spec: RunSpec, *, control: RunControl, site: Site, held: HeldServer | None = None) -> RunOutcome:
        """As `bench_runner.runner.run`."""
        self.specs.append(spec)
        self.holders.append(held)
        self.controls.append(control)
        notebook = Notebook(spec, utc_now())
        control.stage = "measuring"
        control.progress = Progress(sent=2, finished=1, failed=0, received_bytes=10)
        self.started.set()
        error: RunError | None = None
        while not self.finish.wait(0.005):
            deadline_ns = control.deadline_ns
            lapsed = self.heeds_deadline and deadline_ns is not None and monotonic_ns() > deadline_ns
            if control.cancelled or lapsed:
                error = RunCancelled("lapsed" if lapsed else "cancelled")
                break
        if self.error is not None:
            raise self.error
        return notebook.close(error)


@contextmanager
def running_worker(
    database_url: str, state_dir: Path, run: FakeRuns, **settings: Any
) -> Iterator[tuple[threading.Thread, threading.Event]]:
    """`run_worker` in a thread; stopped at the end, and the thread's own error raised there."""
    stop = threading.Event()
    errors: list[BaseException] = []
    given: dict[str, Any] = {"lease_s": 30.0, "poll_s": 0.02, "drain_s": 0.0, "worker_id": "w1"} | settings
    made = read_settings(database_url=database_url, state_dir=state_dir, **given)

    def work() -> None:
        try:
            run_worker(made, stop, run)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread, stop
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert errors == []


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Look until it holds."""
    deadline_ns = monotonic_ns() + int(PATIENCE_S * 1e9)
    while not condition():
        assert monotonic_ns() < deadline_ns, f"never: {what}"
        sleep_s(0.01)
