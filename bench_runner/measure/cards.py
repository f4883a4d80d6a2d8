"""Whose a host's cards are, what they drew over a run's window, and for how long they were held back. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from engines.cards.reading import CardFacts, CardReading, HostCards
from engines.spec import Launched, TargetSpec, card_numbers

#: Below it a card's samples are too coarse for its energy: it averages its power over up to a second, and its counter
#: moves some ten times a second.
LEAST_WINDOW_S = 30.0
#: Share of the window that readings must reach over before its energy is told, …
LEAST_SPANNED = 0.9
#: … and how far apart, in shares of it, two readings may be between which it starts or ends.
MOST_GAP = 0.25

Cards = Sequence[tuple[CardFacts, Sequence[CardReading]]]
Span = tuple[int, int]

#: columns of a card's series
SERIES = tuple(one.name for one in fields(CardReading) if not one.name.endswith("_ns"))


def cards_of(target: TargetSpec, path: str | None, *, simulated: bool) -> tuple[int, ...] | None:
    """The driver's numbers of the cards that the target occupies on this host.

    Only what is stated is known, as resources ("gpu:0"): an engine beside a card may run on the CPU. One whose own
    variables name other cards than its resources do says nothing either, nor one whose resources are not its `gpus`.

    Args:
        target: whose cards.
        path: the way to it, as `network_path` has it; "same host" too where it was started on this host and its
            container's network makes something else of the way.
        simulated: it has no card, whatever this host has.

    Returns:
        (): it is on this host, and does not say which are its own; `None`: it is not, or has none.
    """
    if simulated or path not in ("loopback", "same host"):
        return None
    stated = card_numbers(target)
    if len(stated) != target.gpus:
        return ()
    visible = target.reach.env.get("CUDA_VISIBLE_DEVICES") if isinstance(target.reach, Launched) else None
    if visible is not None and sorted(visible.replace(" ", "").split(",")) != sorted(map(str, stated)):
        return ()
    return stated


@dataclass(frozen=True, slots=True)
class CardLog:
    """What was read of the cards beside a run's load."""

    cards: Cards
    #: they are the target's, as its resources say; else all of its host, of which some may be another's
    own: bool
    #: why it is not all, in words; empty where every card answered to the end
    troubles: tuple[str, ...] = ()

    @property
    def is_judged(self) -> bool:
        """What holds these cards back holds the target back."""
        return self.own or len(self.cards) == 1


@dataclass(frozen=True, slots=True)
class HeldBack:
    """For how long a card's clocks were held back, s. `None` each: its driver does not tell."""

    #: it was too hot; the driver's counter and its flags may tell the same time, and the longer holds
    thermal_s: float | None
    #: the power supply asked it to
    brake_s: float | None
    #: it drew what it may draw: how many cards run at full load
    power_cap_s: float | None


def energy_j(log: CardLog | None, span: Span | None) -> float | None:
    """J that the target's cards drew; `None` unless every one of them told it, and nothing else runs on them."""
    if log is None or span is None or not log.own or log.troubles or any(card.divided for card, _ in log.cards):
        return None
    drawn = [energy_within(readings, span) for _, readings in log.cards]
    known = [one for one in drawn if one is not None]
    return sum(known) if known and len(known) == len(drawn) else None


def describe_cards(log: CardLog, span: Span) -> dict[str, Any] | None:
    """The target's cards over a span, as plain JSON types; `None` where they are not known, or none was read in it.

    Returns:
        `cards`: each with its facts, `at_s` from the span's start and a column a figure; over all of them `energy_j`
        and `mean_power_w`, each `None` where it is not known; `coarse`: the span is short for how a card samples.
    """
    kept = [(facts, _within(readings, span)) for facts, readings in log.cards]
    if not log.own or not any(readings for _, readings in kept):
        return None
    span_s = (span[1] - span[0]) / 1e9
    drawn_j = energy_j(log, span)
    return {
        "cards": [_column_form(facts, readings, span) for facts, readings in kept],
        "energy_j": _short(drawn_j),
        "mean_power_w": _short(None if drawn_j is None else drawn_j / span_s),
        "coarse": span_s < LEAST_WINDOW_S,
    }


def card_notes(log: CardLog, span: Span) -> list[str]:
    """What a reader has to know of the cards' figures, or of why there are none."""
    if not log.cards:
        return list(log.troubles)
    if not log.own:
        unknown = "no energy is told: the target does not say which of this host's cards it occupies (resources)"
        return [*log.troubles, unknown]
    drawn_j, span_s = energy_j(log, span), (span[1] - span[0]) / 1e9
    if any(card.divided for card, _ in log.cards):
        return [*log.troubles, "no energy is told: a card is divided (MIG), and tells the power of all of it"]
    if drawn_j is None:
        why = "" if log.troubles else ": they were read too seldom in the window, or do not tell their power"
        return [*log.troubles, f"no energy of the target's cards is told{why}"]
    words = f"the target's cards drew {drawn_j / span_s:.0f} W over the window, {drawn_j:.0f} J"
    coarse = f"; a window under {LEAST_WINDOW_S:g} s is short for how coarsely a card samples its power"
    return [words + (coarse if span_s < LEAST_WINDOW_S else "")]


def describe_host(host: HostCards | None, own: bool) -> dict[str, Any] | None:
    """The cards for the Environment, as plain JSON types; `None` where there is none.

    `of_target`: they are those of the target; else all of its host.
    """
    return None if host is None or not host.cards else asdict(host) | {"of_target": own}


def energy_within(readings: Sequence[CardReading], span: Span) -> float | None:
    """J that one card drew over a span: by its own counter, else by its power.

    Between two readings it drew evenly, as far as is known; what they do not reach of the span is taken to be like the
    rest. `None` where that is too much of it, or its ends lie between readings too far apart.
    """
    curve = _drawn(readings)
    if curve is None:
        return None
    span_ns = span[1] - span[0]
    start, end = max(span[0], curve[0][0]), min(span[1], curve[-1][0])
    if end <= start or end - start < LEAST_SPANNED * span_ns:
        return None
    at_start, at_end = _at(curve, start, MOST_GAP * span_ns), _at(curve, end, MOST_GAP * span_ns)
    return None if at_start is None or at_end is None else (at_end - at_start) * span_ns / (end - start)


def _drawn(readings: Sequence[CardReading]) -> list[tuple[float, float]] | None:
    """(ns, J drawn until then); `None` where neither the counter nor the power tells it."""
    if len(readings) < 2:
        return None
    counted = [one.energy_j for one in readings if one.energy_j is not None]
    # A driver that was loaded anew counts from 0.
    if len(counted) == len(readings) and all(one <= other for one, other in pairwise(counted)):
        return [(one.at_ns, joules) for one, joules in zip(readings, counted, strict=True)]
    curve = [(readings[0].at_ns, 0.0)]
    for one, other in pairwise(readings):
        if one.power_w is None or other.power_w is None:
            return None
        joules = (one.power_w + other.power_w) / 2 * (other.at_ns - one.at_ns) / 1e9
        curve.append((other.at_ns, curve[-1][1] + joules))
    return curve


def _at(curve: Sequence[tuple[float, float]], at_ns: float, most_gap_ns: float) -> float | None:
    """J at a moment on the curve; `None` in a gap that is too long to say."""
    after = bisect_left(curve, (at_ns, -math.inf))
    if curve[after][0] == at_ns:
        return curve[after][1]
    (start, low), (end, high) = curve[after - 1], curve[after]
    return None if end - start > most_gap_ns else low + (high - low) * (at_ns - start) / (end - start)


def held_back(readings: Sequence[CardReading]) -> HeldBack:
    """For how long one card was held back from its first reading to its last.

    The driver counts heat and the power limit; what the hardware does by itself shows in each reading's flags alone.
    """
    hot = (_moved(readings, "too_hot_s"), _flagged(readings, ("heat", "heat (hardware)")))
    capped_s = _moved(readings, "power_capped_s")
    return HeldBack(
        thermal_s=max((one for one in hot if one is not None), default=None),
        brake_s=_flagged(readings, ("power_brake",)),
        power_cap_s=_flagged(readings, ("power_cap",)) if capped_s is None else capped_s,
    )


def _moved(readings: Sequence[CardReading], counter: str) -> float | None:
    """`None` where it is not counted, or the driver was loaded anew meanwhile."""
    told = [value for one in (*readings[:1], *readings[-1:]) if (value := getattr(one, counter)) is not None]
    return told[1] - told[0] if len(told) == 2 and told[1] >= told[0] else None


def _flagged(readings: Sequence[CardReading], reasons: Collection[str]) -> float | None:
    """Time between readings in a row that both were flagged; `None` where only the ends were read, or not all tell."""
    flags = [None if one.held_back_by is None else not set(reasons).isdisjoint(one.held_back_by) for one in readings]
    if len(flags) < 3 or None in flags:
        return None
    pairs = zip(pairwise(readings), pairwise(flags), strict=True)
    return sum((other.at_ns - one.at_ns) / 1e9 for (one, other), (was, still) in pairs if was and still)


def _column_form(facts: CardFacts, readings: Sequence[CardReading], span: Span) -> dict[str, Any]:
    columns = {name: [_shown(getattr(one, name)) for one in readings] for name in SERIES}
    return {
        **asdict(facts),
        "at_s": [round((one.at_ns - span[0]) / 1e9, 4) for one in readings],
        # What a card never gives is no column.
        "series": {name: values for name, values in columns.items() if any(one is not None for one in values)},
    }


def _within(readings: Sequence[CardReading], span: Span) -> list[CardReading]:
    return [one for one in readings if span[0] <= one.asked_ns and one.answered_ns <= span[1]]


def _shown(value: float | tuple[str, ...] | None) -> float | str | None:
    return ", ".join(value) if isinstance(value, tuple) else _short(value)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
