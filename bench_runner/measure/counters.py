"""The engine's own counters before and after a window: how far they moved, and whether it was one engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: endings of canonical names that only rise, but for a new start
_RISING = ("_total", "_sum", "_count")


@dataclass(frozen=True, slots=True)
class Movement:
    """What the engine counted over the window; `None`: its metrics do not tell."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    #: requests that it finished
    requests: int | None = None
    #: a counter went back, or the process started anew: what was counted before is lost
    restarted: bool = False
    #: "before" or "after": the one scrape that gave nothing, though the other did
    unread: str | None = None


def only_counters(values: Mapping[str, float]) -> dict[str, float]:
    """Of a scrape under canonical names those that only rise."""
    return {name: value for name, value in values.items() if name.endswith(_RISING)}


def moves(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float] | None:
    """How far each counter moved from one scrape to the next; `None`: one gave nothing, or the engine started anew.

    A counter with labels is absent until its first increment, so one that only the second scrape has began at 0.
    """
    if not before or not after:
        return None
    first, last = only_counters(before), only_counters(after)
    start = "process_start_time_seconds"
    anew = start in before and start in after and before[start] != after[start]
    lost = any(value > 0 and name not in last for name, value in first.items())
    moved = {name: value - first.get(name, 0.0) for name, value in last.items()}
    return None if anew or lost or any(by < 0 for by in moved.values()) else moved


def counters_moved(before: Mapping[str, float], after: Mapping[str, float]) -> Movement:
    """The difference of two scrapes under canonical names; {} is a scrape that gave nothing."""
    if not before or not after:
        return Movement(unread=None if not before and not after else "after" if before else "before")
    by = moves(before, after)
    if by is None:
        return Movement(restarted=True)

    def moved(name: str) -> int | None:
        return round(by[name]) if name in by else None

    return Movement(
        moved("prompt_tokens_total"),
        moved("generation_tokens_total"),
        moved("prefix_cache_hits_total"),
        moved("requests_success_total"),
    )
