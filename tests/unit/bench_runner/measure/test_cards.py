"""Whose cards are read, what they drew, and what held them back; missing is None."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bench_runner.measure.cards import (
    CardLog,
    Cards,
    HeldBack,
    card_notes,
    cards_of,
    describe_cards,
    describe_host,
    energy_j,
    energy_within,
    held_back,
)
from engines.cards.reading import CardFacts, CardReading, HostCards
from engines.spec import TargetSpec

S = 1_000_000_000
FACTS = CardFacts(0, "NVIDIA H100", 80 * 2**30, 700.0, True, False)
SECOND = replace(FACTS, index=1)
ATTACHED = {"kind": "attached", "url": "http://127.0.0.1:8000"}
LAUNCHED: dict[str, Any] = {"kind": "process", "model_path": "folder"}
CONTAINER = {"kind": "container", "container": "vllm", "url": "http://vllm:8000"}


def reading(at_s: float, power_w: float | None = 300.0, counted_j: float | None = None, **more: Any) -> CardReading:
    at_ns = int(at_s * S)
    return CardReading(at_ns, at_ns, power_w, counted_j, 0.9, 70 * 2**30, 61, 1_980_000_000, None, **more)


def counted(watts: float, start_s: float = 0, end_s: float = 40, step_s: float = 0.2) -> list[CardReading]:
    """A card whose counter knows better than its power."""
    moments = [start_s + step_s * n for n in range(round((end_s - start_s) / step_s) + 1)]
    return [reading(at_s, 300.0, 1000 + watts * at_s, held_back_by=()) for at_s in moments]


def log(cards: Cards, own: bool = True, troubles: tuple[str, ...] = ()) -> CardLog:
    return CardLog(cards, own, troubles)


def target(reach: dict[str, Any], *resources: str, gpus: int = 1) -> TargetSpec:
    stated = {"engine": "vllm", "model": "m", "reach": reach, "resources": resources, "gpus": gpus}
    return TargetSpec.model_validate(stated)


@pytest.mark.parametrize("reach", [ATTACHED, LAUNCHED, CONTAINER])
@pytest.mark.parametrize("path", ["loopback", "same host"])
def test_a_target_of_this_host_has_the_cards_that_it_states(reach: dict[str, Any], path: str) -> None:
    assert cards_of(target(reach, "gpu:10", "gpu:2", "room", gpus=2), path, simulated=False) == (2, 10)
    # Energy of one card for the tokens of two would be half of what they cost.
    assert cards_of(target(reach, "gpu:0", gpus=2), path, simulated=False) == ()
    assert cards_of(target(reach, "gpu:0", "gpu:1"), path, simulated=False) == ()
    assert cards_of(target(reach, "gpu:x", "gpu:"), path, simulated=False) == ()
    # A launched engine that states none may run on the CPU, though the first card is leased for it.
    assert cards_of(target(reach), path, simulated=False) == ()


@pytest.mark.parametrize("reach", [ATTACHED, CONTAINER])
@pytest.mark.parametrize("path", ["remote", None])
def test_a_card_elsewhere_is_not_read(reach: dict[str, Any], path: str | None) -> None:
    assert cards_of(target(reach, "gpu:0"), path, simulated=False) is None


def test_a_simulated_engine_has_no_card() -> None:
    assert cards_of(target(ATTACHED, "gpu:0"), "loopback", simulated=True) is None


@pytest.mark.parametrize(
    ("visible", "numbers"), [("1", (1,)), ("0", ()), ("", ()), ("-1", ()), ("1,2", ()), ("GPU-8a3f", ())]
)
def test_variables_that_name_other_cards_than_the_resources_leave_it_open(visible: str, numbers: Any) -> None:
    reach = LAUNCHED | {"env": {"CUDA_VISIBLE_DEVICES": visible}}
    assert cards_of(target(reach, "gpu:1"), "loopback", simulated=False) == numbers


def test_energy_is_the_counter_s() -> None:
    cards = log([(FACTS, counted(500))])
    span = (2 * S, 38 * S)
    assert energy_j(cards, span) == pytest.approx(500 * 36)
    told = describe_cards(cards, span)
    assert told is not None
    assert told["energy_j"] == pytest.approx(500 * 36)
    assert told["mean_power_w"] == pytest.approx(500)
    assert told["coarse"] is False
    assert card_notes(cards, span) == ["the target's cards drew 500 W over the window, 18000 J"]


def test_all_of_a_target_s_cards_count() -> None:
    told = describe_cards(log([(FACTS, counted(500)), (SECOND, counted(100))]), (0, 40 * S))
    assert told is not None
    assert told["mean_power_w"] == pytest.approx(600)
    assert [card["index"] for card in told["cards"]] == [0, 1]


def test_without_a_counter_power_is_summed_up_over_time() -> None:
    readings = [reading(0, 100), reading(10, 300), reading(20, 300)]
    assert energy_within(readings, (0, 20 * S)) == pytest.approx(2000 + 3000)
    assert energy_within([reading(0, None), reading(20, None)], (0, 20 * S)) is None
    anew = [reading(0, 100, 900.0), reading(20, 100, 5.0)]
    assert energy_within(anew, (0, 20 * S)) == pytest.approx(2000), "the driver was loaded anew"
    assert energy_within([reading(0, 100, 900.0)], (0, 20 * S)) is None


def test_a_short_window_s_ends_lie_between_readings() -> None:
    """As of a burst of two seconds, read every fifth of one: idle before and after it, 600 W within."""
    drawn = [0.0]
    for step in range(20):
        drawn.append(drawn[-1] + (120.0 if 5 <= step < 15 else 20.0))
    readings = [reading(0.2 * step, None, joules) for step, joules in enumerate(drawn)]
    assert energy_within(readings, (1 * S, 3 * S)) == pytest.approx(1200)
    # It begins in the middle between two readings, where the card is taken to have drawn evenly.
    assert energy_within(readings, (1 * S + S // 10, 3 * S)) == pytest.approx(1140)
    # What lies behind the last reading is taken to be like the rest.
    assert energy_within(readings[:15], (1 * S, 3 * S)) == pytest.approx(9 * 120 / 0.9)
    assert energy_within(readings[:14], (1 * S, 3 * S)) is None


def test_ends_between_readings_that_are_far_apart_say_nothing_of_a_window() -> None:
    ends = [reading(0, None, 0.0), reading(40, None, 4000.0)]
    assert energy_within(ends, (10 * S, 30 * S)) is None
    assert energy_within([*ends[:1], reading(9, None, 900.0), *ends[1:]], (9 * S, 30 * S)) is None
    assert energy_within(ends, (0, 40 * S)) == pytest.approx(4000)


def test_readings_that_do_not_span_the_window_give_no_energy() -> None:
    cards = log([(FACTS, counted(500, end_s=30))])
    told = describe_cards(cards, (0, 40 * S))
    assert told is not None
    assert told["energy_j"] is told["mean_power_w"] is None
    (note,) = card_notes(cards, (0, 40 * S))
    assert note.startswith("no energy of the target's cards is told: they were read too seldom")


@pytest.mark.parametrize(
    ("second", "troubles"),
    [
        ([reading(at, None) for at in range(41)], ()),
        (counted(100, end_s=20), ()),
        (counted(100), ("card 7 did not answer to the end (there is no such card)",)),
    ],
)
def test_one_card_that_does_not_tell_makes_the_sum_unknown(second: list[CardReading], troubles: Any) -> None:
    cards = log([(FACTS, counted(500)), (SECOND, second)], troubles=troubles)
    assert energy_j(cards, (0, 40 * S)) is None
    notes = card_notes(cards, (0, 40 * S))
    assert notes[: len(troubles)] == list(troubles)
    assert notes[-1].startswith("no energy of the target's cards is told")


def test_a_divided_card_tells_the_power_of_all_its_parts_and_so_not_the_target_s() -> None:
    cards = log([(replace(FACTS, divided=True), counted(500))])
    assert energy_j(cards, (0, 40 * S)) is None
    assert "divided (MIG)" in card_notes(cards, (0, 40 * S))[0]


def test_cards_that_nobody_says_are_the_target_s_give_it_no_energy() -> None:
    cards = log([(FACTS, counted(500))], own=False)
    assert energy_j(cards, (0, 40 * S)) is None
    assert describe_cards(cards, (0, 40 * S)) is None
    assert "does not say which of this host's cards" in card_notes(cards, (0, 40 * S))[0]


def test_the_series_is_of_the_window_in_columns() -> None:
    cards = log([(FACTS, counted(500, step_s=1))])
    told = describe_cards(cards, (10 * S, 12 * S))
    assert told is not None
    (card,) = told["cards"]
    assert (card["name"], card["power_limit_w"]) == ("NVIDIA H100", 700.0)
    assert card["at_s"] == [0, 1, 2]
    assert card["series"]["power_w"] == [300, 300, 300]
    assert card["series"]["sm_clock_hz"] == [1_980_000_000] * 3
    assert card["series"]["held_back_by"] == [""] * 3
    assert "memory_clock_hz" not in card["series"], "what a card never gives is no column"
    assert json.loads(json.dumps(told)) == told
    assert told["coarse"]
    assert "a window under 30 s is short for how coarsely a card samples" in card_notes(cards, (10 * S, 12 * S))[0]


def test_no_card_and_no_reading_are_none() -> None:
    assert describe_cards(log([]), (0, S)) is None
    assert describe_cards(log([(FACTS, counted(500))]), (50 * S, 60 * S)) is None
    assert energy_j(None, (0, S)) is energy_j(log([]), (0, S)) is energy_j(log([(FACTS, counted(500))]), None) is None
    assert card_notes(log([]), (0, S)) == []
    assert card_notes(log([], troubles=("the driver hung",)), (0, S)) == ["the driver hung"]


def test_a_host_is_described_with_whose_its_cards_are() -> None:
    host = HostCards("580.95.05", "13.0", 2, (FACTS,))
    told = describe_host(host, own=True)
    assert told is not None
    assert (told["driver"], told["cuda"], told["count"], told["of_target"]) == ("580.95.05", "13.0", 2, True)
    assert told["cards"][0]["persistence"] is True
    assert describe_host(None, own=True) is None
    assert describe_host(HostCards("580.95.05", "13.0", 0, ()), own=False) is None


def flagged(*reasons: tuple[str, ...] | None, **counters: tuple[float | None, float | None]) -> list[CardReading]:
    """A reading a second; counters go from their first value to their last."""
    readings = [reading(at_s, held_back_by=one) for at_s, one in enumerate(reasons)]
    firsts: dict[str, Any] = {name: values[0] for name, values in counters.items()}
    lasts: dict[str, Any] = {name: values[1] for name, values in counters.items()}
    return [replace(readings[0], **firsts), *readings[1:-1], replace(readings[-1], **lasts)]


HEAT, BRAKE, CAP = ("heat (hardware)",), ("power_cap", "power_brake"), ("power_cap",)


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        (flagged((), (), (), too_hot_s=(1, 3.5), power_capped_s=(4, 4)), HeldBack(2.5, 0, 0)),
        (flagged((), HEAT, HEAT, HEAT, too_hot_s=(1, 1), power_capped_s=(4, 6)), HeldBack(2, 0, 2)),
        (flagged((), HEAT, (), HEAT, ()), HeldBack(0, 0, 0)),  # a lone flag is no span of time
        (flagged(BRAKE, BRAKE, CAP, CAP), HeldBack(0, 1, 3)),
        (flagged(None, None, None), HeldBack(None, None, None)),
        (flagged((), None, ()), HeldBack(None, None, None)),
        (flagged(HEAT, HEAT), HeldBack(None, None, None)),  # both ends alone say nothing of what lies between
        (flagged((), (), (), too_hot_s=(9, 1), power_capped_s=(None, 6)), HeldBack(0, 0, 0)),  # loaded anew
        (flagged(HEAT, HEAT, too_hot_s=(1, 2)), HeldBack(1, None, None)),
    ],
)
def test_what_held_a_card_back(readings: list[CardReading], found: HeldBack) -> None:
    assert held_back(readings) == found


def test_a_card_that_was_never_read_was_not_seen_to_be_held_back() -> None:
    assert held_back([]) == HeldBack(None, None, None)


def test_a_target_is_judged_by_cards_that_can_be_no_other_s() -> None:
    one, two = [(FACTS, counted(1))], [(FACTS, counted(1)), (SECOND, counted(1))]
    assert [log(one).is_judged, log(two).is_judged] == [True, True]
    assert [log(one, own=False).is_judged, log(two, own=False).is_judged] == [True, False]
