"""The engine's own counters before and after a window: how far they moved, and whether it was one engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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


def counters_moved(before: Mapping[str, float], after: Mapping[str, float]) -> Movement:
    """The difference of two scrapes under canonical names; {} is a scrape that gave nothing.

    A counter with labels is absent until its first increment, so one that only the second scrape has began at 0.
    """
    if not before or not after:
        return Movement(unread=None if not before and not after else "after" if before else "before")
    totals = {name: value - before.get(name, 0.0) for name, value in after.items() if name.endswith("_total")}
    start = "process_start_time_seconds"
    anew = start in before and start in after and before[start] != after[start]
    lost = any(name.endswith("_total") and value > 0 and name not in after for name, value in before.items())
    if anew or lost or any(moved < 0 for moved in totals.values()):
        return Movement(restarted=True)

    def moved(name: str) -> int | None:
        return round(totals[name]) if name in totals else None

    return Movement(
        moved("prompt_tokens_total"),
        moved("generation_tokens_total"),
        moved("prefix_cache_hits_total"),
        moved("requests_success_total"),
    )
