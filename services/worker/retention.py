"""Old request records go between two runs, a batch at a time, where a person said for how long they are kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from engines.clock import monotonic_ns
from services.domain.errors import Unavailable
from services.store.database import Database
from services.store.retention import note_failure, sweep

log = logging.getLogger(__name__)

#: From one look whether a pass is due to the next.
LOOK_EVERY_S = 300.0
#: Longest time that one step keeps the queue waiting; the rest of the pass comes after the next run.
STEP_S = 0.5


@dataclass(slots=True)
class Housekeeping:
    """One worker's part in it."""

    database: Database
    #: request records of runs that ended longer ago go; `None`: all are kept
    keep: timedelta | None
    _next_look_ns: int = 0

    def step(self) -> None:
        """A little of what is due. Raises Unavailable where the database is away; else nothing, for runs go on."""
        if self.keep is None or monotonic_ns() < self._next_look_ns:
            return
        began_ns = monotonic_ns()
        runs = size_bytes = 0
        try:
            while (gone := sweep(self.database, self.keep)) is not None:
                runs, size_bytes = runs + gone.runs, size_bytes + gone.size_bytes
                if monotonic_ns() - began_ns > STEP_S * 1e9:
                    break
        except Unavailable:
            raise
        except Exception as error:
            log.exception("old records not let go of")
            self._tell(f"{type(error).__name__}: {error}".splitlines()[0][:500])
            gone = None
        if gone is None:
            self._next_look_ns = monotonic_ns() + int(LOOK_EVERY_S * 1e9)
        if runs:
            log.info("old records let go of", extra={"runs": runs, "size_bytes": size_bytes})

    def _tell(self, reason: str) -> None:
        """For the alert. What keeps this from being told does not keep runs from being carried out."""
        try:
            note_failure(self.database, reason)
        except Unavailable:
            raise
        except Exception:
            log.exception("failure of retention not noted")
