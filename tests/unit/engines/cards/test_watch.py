"""Cards are read over a while, and a driver that hangs or loses one holds nobody up."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.cards import watch
from engines.cards.nvml import Nvml
from engines.cards.watch import CardWatch
from engines.clock import monotonic_ns, sleep_s
from tests.fakes.nvml import Driver, installed, no_driver


def test_cards_are_watched_until_the_end_and_once_more(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path) as driver:
        with CardWatch([0, 1], interval_s=0.01) as cards:
            begun_ns = monotonic_ns()
            sleep_s(0.1)
            ended_ns = monotonic_ns()
            cards.stop()
            cards.stop()
        assert driver.calls[-1] == "nvmlShutdown"
    (first, readings), (second, others) = cards.readings
    assert (first.index, second.index) == (0, 1)
    assert len(readings) == len(others) > 2
    assert readings[0].answered_ns < begun_ns, "the window's start lies behind the first"
    assert others[-1].asked_ns > ended_ns, "and its end before the last"
    assert [one.asked_ns for one in readings] == sorted(one.asked_ns for one in readings)
    assert cards.troubles == ()


def test_without_an_interval_both_ends_are_read(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path), CardWatch([0], interval_s=None) as cards:
        sleep_s(0.05)
    ((_, readings),) = cards.readings
    assert len(readings) == 2


def test_no_number_means_all_cards_of_the_host(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path), CardWatch((), interval_s=None) as cards:
        pass
    assert cards.host is not None
    assert [card.index for card, _ in cards.readings] == [0, 1]


def test_nobody_is_asked_who_is_not_to_be() -> None:
    def never() -> Nvml:
        raise AssertionError

    with CardWatch(None, interval_s=0.01, opened=never) as cards:
        pass
    assert (cards.host, cards.readings, cards.troubles) == (None, (), ())


def test_a_host_without_cards_has_no_readings_and_no_troubles() -> None:
    with no_driver(), CardWatch([0], interval_s=0.01) as cards:
        pass
    assert (cards.host, cards.readings, cards.troubles) == (None, (), ())


def test_a_card_that_falls_off_the_bus_is_named_and_the_others_are_read_on(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path) as driver, CardWatch([0, 1], interval_s=0.01) as cards:
        driver.lost = {1}
        sleep_s(0.05)
    (_, readings), (_, others) = cards.readings
    assert len(readings) > len(others) >= 1
    assert cards.troubles == ("card 1 did not answer to the end (GPU is lost)",)


def test_a_card_that_was_never_there_is_named(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path), CardWatch([0, 7], interval_s=0.01) as cards:
        pass
    assert [card.index for card, _ in cards.readings] == [0]
    assert cards.troubles == ("card 7 did not answer to the end (there is no such card)",)


def test_a_card_that_answers_again_is_no_trouble(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path) as driver, CardWatch([0], interval_s=0.01) as cards:
        driver.lost = {0}
        sleep_s(0.05)
        driver.lost = set()
    assert cards.troubles == ()


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_driver_that_hangs_holds_nobody_up(tmp_path: Path, from_the_start: bool) -> None:
    with installed(Driver(), tmp_path) as driver:
        if from_the_start:
            driver.answering.clear()
        begun_ns = monotonic_ns()
        with CardWatch([0], interval_s=0.01, patience_s=0.2) as cards:
            driver.answering.clear()
        took_s = (monotonic_ns() - begun_ns) / 1e9
        driver.answering.set()
    assert 0.1 < took_s < 10
    assert cards.troubles == ("the cards' driver did not answer within 0.2 s",)
    assert (cards.host is None) == from_the_start


def test_a_fault_of_ours_does_not_pass_for_a_whole_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("slip")

    monkeypatch.setattr(Nvml, "read", broken)
    with installed(Driver(), tmp_path), CardWatch([0], interval_s=0.01) as cards:
        pass
    assert cards.troubles == ("reading the cards broke (RuntimeError: slip)",)


def test_a_long_series_is_thinned_and_keeps_its_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_READINGS", 8)
    monkeypatch.setattr(watch, "SHARE", 1.0)
    with installed(Driver(), tmp_path) as driver, CardWatch([0], interval_s=0.001) as cards:
        sleep_s(0.2)
    ((_, readings),) = cards.readings
    energies = [one.energy_j for one in readings]
    assert 2 <= len(energies) < 9
    assert (energies[0], energies[-1]) == (5001.0, driver.energy_mj / 1000)
    assert driver.energy_mj / 1000 > 5009, "more than are kept were read"
