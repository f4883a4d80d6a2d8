"""Waiting for a launched engine: ready is whoever answers a real generation, not whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from engines.clock import monotonic_ns, sleep_s
from engines.contract import Dialect, Endpoint, Engine, FailureKind, Origin
from engines.errors import LaunchFailed, OpeningStopped, TargetUnavailable
from engines.probe import Probe, probe

_PAUSE_S = 0.2

#: A server that is up and says no will not change its mind. Some say no while they load: a few chances.
_MOST_REFUSALS = 10


class Starting(Protocol):
    """A server that was started, as a process or in a container."""

    @property
    def started_ns(self) -> int:
        """When, monotonic."""

    @property
    def exit_code(self) -> int | None:
        """`None` while it runs."""

    def log_tail(self) -> str:
        """The last lines it wrote."""


def await_generation(
    process: Starting,
    origin: Origin,
    engine: Engine,
    endpoint: Endpoint,
    dialect: Dialect,
    models: Sequence[str],
    *,
    timeout_s: float,
    should_stop: Callable[[], bool],
    extra: Mapping[str, Any] | None = None,
) -> tuple[Probe, str]:
    """Probes until one of the model names is answered with a generation.

    Args:
        models: names to ask for, in this order: servers know a model by its folder or by its name.
        timeout_s: longest wait.
        extra: the workload's own body fields.

    Returns:
        What the probe showed, and the name that was answered.

    Raises:
        LaunchFailed: the process ended, or did not generate in time; carries the tail of its log.
        OpeningStopped: `should_stop` said so.
    """
    deadline_ns = process.started_ns + int(timeout_s * 1e9)
    refusals = 0
    last: TargetUnavailable | None = None
    while True:
        for model in models:
            left_s = (deadline_ns - monotonic_ns()) / 1e9
            if should_stop():
                raise OpeningStopped("stopped while the engine was starting")
            if process.exit_code is not None:
                raise _failed(process, engine, f"ended with exit code {process.exit_code} before it was ready", last)
            if left_s <= 0:
                raise _failed(process, engine, f"was not ready within {timeout_s:g} s", last)

            def ended_or_stopped() -> bool:
                return should_stop() or process.exit_code is not None

            try:
                seen = probe(
                    origin,
                    engine,
                    endpoint,
                    dialect,
                    model,
                    timeout_s=left_s,
                    should_stop=ended_or_stopped,
                    extra=extra,
                )
            except TargetUnavailable as error:
                if last is None or _telling(error) >= _telling(last):
                    last = error
                refusals += says_no(error)
            except OpeningStopped:
                continue
            else:
                if process.exit_code is None:
                    return seen, model
        if refusals >= _MOST_REFUSALS * len(models):
            raise _failed(process, engine, "is up but refuses to generate", last)
        sleep_s(_PAUSE_S)


def _telling(error: TargetUnavailable) -> int:
    """How much an answer says: nobody there least, then a name that is not known, for another one may be, and no
    answer within what was left of the time."""
    failure = error.failure
    if failure is None or failure.kind is FailureKind.CONNECT:
        return 0
    return 1 if failure.status == 404 or failure.kind is FailureKind.TIMEOUT else 2


def says_no(error: TargetUnavailable) -> bool:
    """The server answered, and the answer is about the request, not about the server's state."""
    status = error.failure.status if error.failure is not None else None
    return status is not None and 300 <= status < 500 and status not in (408, 425, 429)


def _failed(process: Starting, engine: Engine, what: str, last: TargetUnavailable | None) -> LaunchFailed:
    tail = process.log_tail()
    ending = " | ".join(tail.splitlines()[-3:]) or "nothing"
    seen = "" if last is None else f" Last answer: {last}."
    field = None if last is None or last.field == "reach.url" else last.field
    return LaunchFailed(
        f"{engine.title} {what}.{seen} Its log ends with: {ending}", field=field or "reach", log_tail=tail
    )
