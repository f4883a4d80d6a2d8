"""An engine that is held up between two bursts goes down with its lease, whatever the worker waits for meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench_runner.load.contract import RunControl
from engines.clock import monotonic_ns
from engines.target import HeldServer
from services.telemetry.logs import carried

log = logging.getLogger(__name__)


@contextmanager
def down_with_its_lease(held: HeldServer | None, control: RunControl) -> Iterator[None]:
    """Stops the engine from a thread once `control.deadline_ns` has passed, read anew each time it comes.

    A database that hangs rather than refuses keeps the worker waiting, and another one may have the card by then.
    On leaving, whatever is being stopped is down.
    """
    if held is None:
        yield
        return
    done = threading.Event()
    watch = threading.Thread(target=carried(lambda: _watch(held, control, done)), name="engine-guard", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def _watch(held: HeldServer, control: RunControl, done: threading.Event) -> None:
    while (deadline_ns := control.deadline_ns) is not None:
        left_ns = deadline_ns - monotonic_ns()
        if left_ns <= 0:
            log.warning("lease lapsed: no engine is held for the next burst")
            stop_engine(held)
            return
        if done.wait(left_ns / 1e9):
            return


def stop_engine(held: HeldServer | None) -> None:
    """Before anybody else may have what the engine occupies. A run that was measured stays measured."""
    if held is None:
        return
    try:
        held.close()
    except Exception:
        log.exception("engine not stopped")
