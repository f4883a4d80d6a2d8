"""Keeps the lease of a run under way: renews it, pushes the load's deadline, passes progress up and stops down."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from bench_runner.load.contract import RunControl
from engines.clock import monotonic_ns
from services.domain.errors import Unavailable
from services.store.database import Database
from services.store.queue import renew
from services.store.rows import ClaimedRun
from services.telemetry.logs import carried
from services.worker.heart import Heart, longest_s

log = logging.getLogger(__name__)

#: Renewals carry progress, so they come at least this often.
PROGRESS_EVERY_S = 1.0


@dataclass(slots=True)
class LeaseKeeper:
    """A thread beside the run, for as long as the `with` block lasts.

    The load's deadline is counted from before the call that renewed the lease, and the database's from within it, so
    the load always stops before the database lets anyone else at the resource.
    """

    database: Database
    claimed: ClaimedRun
    control: RunControl
    lease_s: float
    #: set: the worker is to end
    stop: threading.Event
    #: how long the run may go on after that
    drain_s: float
    #: told of each renewal, until the run has taken longer than its limits allow
    heart: Heart
    #: the run or a resource of it was taken over
    lost: bool = False
    #: a person asked for the run's end
    cancel_requested: bool = False
    #: the worker's end came before the run's
    drained: bool = False
    #: the result is on its way: once it is in, there is no lease to renew, and that is no loss
    handing_in: bool = False
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _drain_until_ns: int | None = None

    def __enter__(self) -> LeaseKeeper:
        self._thread = threading.Thread(target=carried(self._keep), name="lease-keeper", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()

    def _keep(self) -> None:
        pause_s = min(self.lease_s / 3, PROGRESS_EVERY_S)
        overdue_ns = monotonic_ns() + int(longest_s(self.claimed.run_spec) * 1e9)
        while not self._done.wait(pause_s):
            if monotonic_ns() < overdue_ns:
                self.heart.beat()
            self._watch_for_the_end()
            if self.lost:
                continue
            before_ns = monotonic_ns()
            try:
                renewal = renew(self.database, self.claimed, self._progress(), self.lease_s)
            except Unavailable as error:
                # the load stops by itself at its deadline; until then the database may come back
                log.warning("lease not renewed", extra={"run_id": self.claimed.run_id, "reason": str(error)})
                continue
            except Exception:
                log.exception("lease not renewed", extra={"run_id": self.claimed.run_id})
                continue
            if not renewal.owned and self.handing_in:
                continue
            if not renewal.owned:
                log.warning("run lost", extra={"run_id": self.claimed.run_id, "attempt": self.claimed.attempt})
                self.lost = True
                self.control.cancel()
                continue
            self.control.deadline_ns = before_ns + int(self.lease_s * 1e9)
            if renewal.cancel_requested:
                self.cancel_requested = True
                self.control.cancel()

    def _watch_for_the_end(self) -> None:
        if not self.stop.is_set():
            return
        if self._drain_until_ns is None:
            self._drain_until_ns = monotonic_ns() + int(self.drain_s * 1e9)
        if monotonic_ns() >= self._drain_until_ns and not self.drained:
            self.drained = True
            self.control.cancel()

    def _progress(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "stage": self.control.stage,
            "requests": self.claimed.run_spec.workload.requests,
            "sent": None,
            "finished": None,
            "failed": None,
            "received_bytes": None,
        }
        if (seen := self.control.progress) is not None:
            counted = {"sent": seen.sent, "finished": seen.finished, "failed": seen.failed}
            said |= counted | {"received_bytes": seen.received_bytes}
        return said
