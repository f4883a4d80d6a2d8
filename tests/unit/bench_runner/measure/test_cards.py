"""What a run's cards drew: from the counter, else from the power; missing is None."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench_runner.measure.cards import describe_cards, energy_note, energy_within
from engines.nvml import CardFacts, CardReading

S = 1_000_000_000
FACTS = CardFacts(0, "NVIDIA H100", "580.95.05", "13.0", 80 * 2**30, 700.0, True)


def reading(at_s: float, power_w: float | None = 300.0, energy_j: float | None = None) -> CardReading:
    at_ns = int(at_s * S)
    return CardReading(at_ns, at_ns, power_w, energy_j, 0.9, 70 * 2**30, 61, 1_980_000_000, None)


def counted(watts: float, start_s: float = 0, end_s: float = 40, step_s: float = 0.2) -> list[CardReading]:
    """A card whose counter knows better than its power."""
    moments = [start_s + step_s * n for n in range(round((end_s - start_s) / step_s) + 1)]
    return [reading(at_s, 300.0, 1000 + watts * at_s) for at_s in moments]


def test_energy_is_the_counter_s_and_a_token_costs_its_share() -> None:
    told = describe_cards([(FACTS, counted(500))], (2 * S, 38 * S), 9000)
    assert told is not None
    assert told["energy_j"] == pytest.approx(500 * 36)
    assert told["mean_power_w"] == pytest.approx(500)
    assert told["joules_per_output_token"] == pytest.approx(2)
    assert told["output_tokens_per_s_per_w"] == pytest.approx(9000 / 36 / 500)
    assert told["coarse"] is False
    assert energy_note(told) == "the target's cards drew 500 W over the window, 18000 J, 2 J an output token"


def test_all_of_a_target_s_cards_count() -> None:
    told = describe_cards([(FACTS, counted(500)), (replace(FACTS, index=1), counted(100))], (0, 40 * S), 1)
    assert told is not None
    assert told["mean_power_w"] == pytest.approx(600)
    assert [card["index"] for card in told["cards"]] == [0, 1]


def test_without_a_counter_power_is_summed_up_over_time() -> None:
    readings = [reading(0, 100), reading(10, 300), reading(20, 300)]
    assert energy_within(readings, 20) == pytest.approx(2000 + 3000)
    assert energy_within([reading(0, None), reading(20, None)], 20) is None
    assert energy_within([reading(0, 100, 900.0), reading(20, 100, 5.0)], 20) == pytest.approx(2000), "loaded anew"


def test_readings_that_do_not_span_the_window_give_no_energy() -> None:
    told = describe_cards([(FACTS, counted(500, end_s=30))], (0, 40 * S), 9000)
    assert told is not None
    assert told["energy_j"] is told["joules_per_output_token"] is told["mean_power_w"] is None
    assert "no energy is known" in energy_note(told)


def test_one_card_that_does_not_tell_makes_the_sum_unknown() -> None:
    silent = [reading(at, None) for at in range(41)]
    told = describe_cards([(FACTS, counted(500)), (FACTS, silent)], (0, 40 * S), 9000)
    assert told is not None
    assert told["energy_j"] is None


def test_the_series_is_of_the_window_in_columns() -> None:
    told = describe_cards([(FACTS, counted(500, step_s=1))], (10 * S, 12 * S), None)
    assert told is not None
    (card,) = told["cards"]
    assert (card["name"], card["power_limit_w"]) == ("NVIDIA H100", 700.0)
    assert card["at_s"] == [0, 1, 2]
    assert card["series"]["power_w"] == [300, 300, 300]
    assert card["series"]["sm_clock_hz"] == [1_980_000_000] * 3
    assert "memory_clock_hz" not in card["series"], "what a card never gives is no column"
    assert told["joules_per_output_token"] is None
    assert told["coarse"]
    assert "under 30 s" in energy_note(told)


def test_no_card_and_no_reading_are_none() -> None:
    assert describe_cards([], (0, S), 1) is None
    assert describe_cards([(FACTS, counted(500))], (50 * S, 60 * S), 1) is None
