"""What can go wrong with one server.

EngineError
├── UnknownEngine        no such engine in the catalog, or no such endpoint on it
├── TargetRefused        the URL may not be benchmarked (scheme, credentials, forbidden address, redirect)
├── TargetUnavailable    the server could not be reached, or did not generate
├── LaunchFailed         a process was started and died or never became ready
├── OpeningStopped       somebody asked to stop while a target was being opened
└── RequestNotPossible   the engine cannot do what the request asks (token ids, a fixed length, …)
"""

from __future__ import annotations

from engines.contract import Failure


class EngineError(Exception):
    """Root of this floor. `field` names what to mend where one input is to blame."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownEngine(EngineError):
    """The catalog has no such engine, or the engine no such endpoint."""


class TargetRefused(EngineError):
    """The target's address may not be benchmarked; nothing was sent to it."""


class TargetUnavailable(EngineError):
    """The server did not answer a real generation.

    Attributes:
        failure: what the probe saw, in the words of a request's failure; `None` where no request was made.
    """

    def __init__(self, message: str, *, field: str | None = None, failure: Failure | None = None) -> None:
        super().__init__(message, field=field)
        self.failure = failure


class LaunchFailed(EngineError):
    """A launched engine died, or was not ready in time.

    Attributes:
        log_tail: the last lines it wrote.
    """

    def __init__(self, message: str, *, field: str | None = None, log_tail: str = "") -> None:
        super().__init__(message, field=field)
        self.log_tail = log_tail


class OpeningStopped(EngineError):
    """The caller asked to stop while the target was being opened. Nobody's fault."""


class RequestNotPossible(EngineError):
    """The engine cannot do what the request asks for."""
