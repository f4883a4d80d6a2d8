"""What a run's cards drew and did over its window, and what a token cost of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

from engines.nvml import CardFacts, CardReading

#: Below it a card's samples are too coarse for its energy: it averages its power over up to a second, and its counter
#: moves some ten times a second.
LEAST_WINDOW_S = 30.0
#: Share of the window that readings must span before its energy is told.
LEAST_SPANNED = 0.9

Cards = Sequence[tuple[CardFacts, Sequence[CardReading]]]

#: columns of a card's series
SERIES = tuple(one.name for one in fields(CardReading) if not one.name.endswith("_ns"))


def describe_cards(cards: Cards, window: tuple[int, int], output_tokens: int | None) -> dict[str, Any] | None:
    """All cards of a run as plain JSON types; `None` where there is none, or none was read in the window.

    Args:
        cards: what was read of each; what lies outside the window is left out.
        window: its start and end, ns.
        output_tokens: of the window's successful requests; `None`: not known.

    Returns:
        `cards`: each with its facts, `at_s` from the window's start and a column a figure; over all of them `energy_j`,
        `mean_power_w`, `joules_per_output_token` and `output_tokens_per_s_per_w`, each `None` where it is not known.
    """
    kept = [(facts, [one for one in readings if _within(one, window)]) for facts, readings in cards]
    if not any(readings for _, readings in kept):
        return None
    window_s = (window[1] - window[0]) / 1e9
    drawn = [energy_within(readings, window_s) for _, readings in kept]
    known = [one for one in drawn if one is not None]
    energy_j = sum(known) if len(known) == len(drawn) else None
    power_w = None if energy_j is None else energy_j / window_s
    per_token = energy_j / output_tokens if energy_j and output_tokens else None
    return {
        "cards": [_column_form(facts, readings, window) for facts, readings in kept],
        "energy_j": _short(energy_j),
        "mean_power_w": _short(power_w),
        "joules_per_output_token": _short(per_token),
        # A token a second for a watt is a token for a joule.
        "output_tokens_per_s_per_w": _short(None if per_token is None else 1 / per_token),
        "coarse": window_s < LEAST_WINDOW_S,
    }


def energy_note(told: dict[str, Any]) -> str:
    """The cards' energy in a sentence."""
    if told["energy_j"] is None:
        return "the cards were read too seldom in the window, or do not tell their power: no energy is known"
    words = f"the target's cards drew {told['mean_power_w']:.0f} W over the window, {told['energy_j']:.0f} J"
    if told["joules_per_output_token"] is not None:
        words += f", {told['joules_per_output_token']:.3g} J an output token"
    coarse = f"; a window under {LEAST_WINDOW_S:g} s is short for how coarsely a card samples its power"
    return words + (coarse if told["coarse"] else "")


def energy_within(readings: Sequence[CardReading], window_s: float) -> float | None:
    """J that one card drew: by its own counter, else by its power; what the readings span, stretched to the window."""
    if len(readings) < 2:
        return None
    first, last = readings[0], readings[-1]
    spanned_s = (_at_ns(last) - _at_ns(first)) / 1e9
    if spanned_s < LEAST_SPANNED * window_s:
        return None
    if first.energy_j is not None and last.energy_j is not None and last.energy_j >= first.energy_j:
        return (last.energy_j - first.energy_j) / spanned_s * window_s
    joules = 0.0
    for one, other in pairwise(readings):
        if one.power_w is None or other.power_w is None:
            return None
        joules += (one.power_w + other.power_w) / 2 * (_at_ns(other) - _at_ns(one)) / 1e9
    return joules / spanned_s * window_s


def _column_form(facts: CardFacts, readings: Sequence[CardReading], window: tuple[int, int]) -> dict[str, Any]:
    columns = {name: [_short(getattr(one, name)) for one in readings] for name in SERIES}
    return {
        **asdict(facts),
        "at_s": [round((_at_ns(one) - window[0]) / 1e9, 4) for one in readings],
        # What a card never gives is no column.
        "series": {name: values for name, values in columns.items() if any(one is not None for one in values)},
    }


def _within(reading: CardReading, window: tuple[int, int]) -> bool:
    return window[0] <= reading.asked_ns and reading.answered_ns <= window[1]


def _at_ns(reading: CardReading) -> float:
    return (reading.asked_ns + reading.answered_ns) / 2


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
