"""What a person may ask wrongly of many runs. Only `services/api/errors.py` knows the status codes.

ServiceError
└── BadInput         what was asked cannot be done; every problem names its field and the mend

The store's refusals (no such row, the name is taken, the idempotency key was used) are its own: `services.store.errors`.
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


class BadInput(ServiceError):
    """What was asked cannot be done. `problems` is never empty."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(f"{p.field}: {p.problem}" if p.field else p.problem for p in problems))
        self.problems = problems
