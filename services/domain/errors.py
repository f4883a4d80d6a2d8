"""What can go wrong between many runs. Only `services/api/errors.py` knows the status codes.

ServiceError
├── BadInput         what was asked cannot be done; every problem names its field and the mend
├── NotFound         no such job, run, target
├── Conflict         the name is taken, the idempotency key was used for another body, the state does not allow it
└── Unavailable      the database cannot be reached, or is not migrated; trying again later may help
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend."""

    #: where, as a path such as "targets.0.reach.url"; "" for the whole input
    field: str
    problem: str
    #: what to do about it
    mend: str


class ServiceError(Exception):
    """Root of this floor."""

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class BadInput(ServiceError):
    """What was asked cannot be done. `problems` is never empty."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(f"{p.field}: {p.problem}" if p.field else p.problem for p in problems), problems)


class NotFound(ServiceError):
    """There is no such thing."""


class Conflict(ServiceError):
    """What is there already does not allow it."""


class Unavailable(ServiceError):
    """The store cannot answer now."""
