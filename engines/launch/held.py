"""A server that stays up from one run to the next: what several bursts of one start share.

with HeldServer() as held:
    with open_target(spec, site, held=held) as target: …   started here
    with open_target(spec, site, held=held) as target: …   the same start, as long as it lives and the spec is the same
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any

from engines.clock import utc_now
from engines.contract import Engine
from engines.errors import EngineError, LaunchFailed, RequestNotPossible, TargetRefused, TargetUnavailable
from engines.launch.ready import says_no
from engines.launch.server import Server, bring_up
from engines.site import Site
from engines.spec import TargetSpec

#: The target, whether with the overlay, the workload's own body fields; as JSON.
_Asked = tuple[str, bool, str]


@dataclass(slots=True)
class HeldServer:
    """One start after the other of one target; each lives until it is closed, dies, or another is asked for."""

    #: names all runs of an attached server that are to count as one start, however often they are cut, for it is never
    #: started anew; `None`: those since it was held
    block: str | None = None
    #: names the start under way, or the last; `None`: there was none
    id: str | None = None
    began_at: datetime | None = None
    #: targets opened on this start so far
    opened: int = 0
    #: the name by which its model answered, and how long it took from its start; `None`: it has not yet
    model: str | None = None
    startup_s: float | None = None
    #: why it could not be started, by what was asked of it (see `_Asked`): that is not tried again
    failures: dict[_Asked, EngineError] = field(default_factory=dict)
    #: workload -> output tokens a second of its last warm-up batch in this start
    warmed: dict[str, float | None] = field(default_factory=dict)
    #: whatever was asked of it has been answered; whoever drives it says so. One cut short may be at work still
    is_settled: bool = True
    #: `None`: nothing is up
    server: Server | None = None
    _asked: tuple[TargetSpec, bool] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _closing: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> HeldServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop what was started; it is down when this returns. Again: no effect. From any thread."""
        with self._closing:
            self.server = None
            self._stack.close()

    @contextmanager
    def opening(
        self,
        spec: TargetSpec,
        site: Site,
        engine: Engine,
        overlay: bool,
        should_stop: Callable[[], bool],
        extra: Mapping[str, Any] | None = None,
    ) -> Iterator[Server]:
        """The server, for as long as it takes to see that it generates; it is stopped where it does not.

        One that has generated, and says no to what this workload asks of it, stays up for the others of its start.

        Raises:
            EngineError: it could not be started, now or before; another workload may ask what it can do.
        """
        asked = spec.model_dump_json(), overlay, json.dumps(dict(extra or {}), sort_keys=True, default=repr)
        if asked in self.failures:
            raise self.failures[asked].with_traceback(None)
        try:
            yield self._take(spec, site, engine, overlay, should_stop)
        except BaseException as error:
            # somebody else's server may be back for the next
            final = not self.opened and spec.reach.kind != "attached"
            if final and isinstance(error, LaunchFailed | TargetRefused | TargetUnavailable):
                self.failures[asked] = error
            if not (self.opened and _is_refusal(error)):
                self.close()
            raise
        self.opened += 1

    def describe(self) -> dict[str, Any] | None:
        """Which start this is, and which of its runs the one opened last; `None`: nothing was ever opened."""
        if self.id is None or self.began_at is None:
            return None
        return {
            "id": self.id,
            "began_at": self.began_at.isoformat(),
            "burst": max(0, self.opened - 1),
            "engine_started": self._asked is not None and self._asked[0].reach.kind != "attached",
        }

    def _take(
        self, spec: TargetSpec, site: Site, engine: Engine, overlay: bool, should_stop: Callable[[], bool]
    ) -> Server:
        if self.server is not None and self._asked == (spec, overlay) and not self.server.has_ended:
            return self.server
        self.close()
        block = self.block if spec.reach.kind == "attached" else None
        self.id, self.began_at, self.opened = block or uuid.uuid4().hex[:12], utc_now(), 0
        self.model, self.startup_s, self.warmed, self.is_settled = None, None, {}, True
        self._asked = (spec, overlay)
        self.server = bring_up(spec, site, engine, overlay, should_stop, self._stack)
        return self.server


def _is_refusal(error: BaseException) -> bool:
    """It is about the request, and the server is as well as it was."""
    return isinstance(error, RequestNotPossible) or (isinstance(error, TargetUnavailable) and says_no(error))
