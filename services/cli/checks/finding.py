"""What a check found: how it stands, what was seen, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

CUT = "[secret]"


class State(StrEnum):
    """How a check stands."""

    OK = "ok"
    #: a run works, and its numbers or the next start may suffer
    WARN = "warn"
    #: what was asked of this host will not work
    FAIL = "fail"
    #: nothing here that it could look at
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    #: stable, such as "gpu 0 memory"
    check: str
    state: State
    #: what was seen, in words; no secret
    seen: str
    #: what to do, with the exact command where there is one; "" where nothing is to be done
    mend: str = ""


def ok(check: str, seen: str) -> Finding:
    """As it should be."""
    return Finding(check, State.OK, seen)


def warn(check: str, seen: str, mend: str) -> Finding:
    """Works, and wants a look."""
    return Finding(check, State.WARN, seen, mend)


def fail(check: str, seen: str, mend: str) -> Finding:
    """Will not work."""
    return Finding(check, State.FAIL, seen, mend)


def not_applicable(check: str, seen: str) -> Finding:
    """There is nothing to look at."""
    return Finding(check, State.NOT_APPLICABLE, seen)


def worst(findings: Iterable[Finding]) -> State:
    """FAIL over WARN over OK."""
    states = {one.state for one in findings}
    return next((state for state in (State.FAIL, State.WARN) if state in states), State.OK)


def without_secrets(findings: Sequence[Finding], secrets: Iterable[str]) -> list[Finding]:
    """The findings with every secret cut out, should an error's text have repeated one."""
    known = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)

    def cut(text: str) -> str:
        for secret in known:
            text = text.replace(secret, CUT)
        return text

    return [replace(one, seen=cut(one.seen), mend=cut(one.mend)) for one in findings]
