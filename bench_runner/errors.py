"""What ends a whole run. A failed request never does: it is a measurement.

RunError
├── SpecError            the run cannot be carried out as asked; `field` names what to mend
│   ├── DatasetError     an unreadable or malformed dataset; the message names file and line
│   └── TokenizerError   a tokenizer that cannot be read, or does not match the target
├── TargetFailed         the target did not answer a real generation; carries the probe's Failure
├── LoadFailed           the load process died or could not do its work (file limits, full disk)
└── RunCancelled         somebody asked, or the lease lapsed
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engines.contract import Capture, Failure


class RunError(Exception):
    """Root of this floor. `field` names the spec's field to mend, where one is to blame."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class SpecError(RunError):
    """The run cannot be carried out as asked."""


class DatasetError(SpecError):
    """An unreadable or malformed dataset."""


class TokenizerError(SpecError):
    """A tokenizer that cannot be read, or does not match the target."""


class TargetFailed(RunError):
    """The target did not answer a real generation."""

    def __init__(self, message: str, *, field: str | None = None, failure: Failure | None = None) -> None:
        super().__init__(message, field=field)
        self.failure = failure


class LoadFailed(RunError):
    """The load process died or could not do its work.

    Attributes:
        captures: what its spool holds all the same, to be read while the spool is there; `None`: nothing was sent.
    """

    captures: Callable[[], Iterator[Capture]] | None = None


class RunCancelled(RunError):
    """The run was stopped from outside."""
