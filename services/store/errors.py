"""What the store refuses.

StoreError
├── IdempotencyConflict   the same Idempotency-Key came with another body
├── NotFound              no such job, run or target; `field` and `value` name it
├── AlreadyExists         a target of that name is there already
└── BadQuery              a cursor, sort field or filter value that the store cannot read
"""

from __future__ import annotations


class StoreError(Exception):
    """Root of the store's refusals. `field` names the input to mend."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class IdempotencyConflict(StoreError):
    """The key was used before, with another body."""


class NotFound(StoreError):
    """There is no such row."""


class AlreadyExists(StoreError):
    """There is such a row already."""


class BadQuery(StoreError):
    """The list cannot be asked for like this."""
