"""What NVIDIA's driver says of a card, and what it does not say; a watch over a while."""

from __future__ import annotations

import pytest

from engines import nvml
from engines.clock import sleep_s
from engines.nvml import CardFacts, CardWatch, Nvml
from tests.fakes.nvml import Library, opened


def test_a_card_is_described_and_read_in_base_units() -> None:
    library = Library()
    with opened(library) as driver:
        assert driver.count() == 2
        assert driver.describe(0) == CardFacts(
            index=0,
            name="NVIDIA H100 80GB HBM3",
            driver="580.95.05",
            cuda="12.8",
            memory_bytes=80 * 2**30,
            power_limit_w=700.0,
            persistence=True,
        )
        reading = driver.read(1)
    assert library.calls == ["nvmlShutdown"]
    assert reading is not None
    assert 0 < reading.asked_ns <= reading.answered_ns
    assert reading.power_w == 312.5
    assert reading.energy_j == 5001.0
    assert reading.utilisation_ratio == 0.87
    assert reading.memory_used_bytes == 70 * 2**30
    assert reading.temperature_c == 61
    assert (reading.sm_clock_hz, reading.memory_clock_hz) == (1_980_000_000, 2_619_000_000)


def test_what_a_card_or_an_older_driver_does_not_give_is_none_and_never_0() -> None:
    library = Library(
        lacking=("nvmlDeviceGetTotalEnergyConsumption",),
        refused=("nvmlDeviceGetPowerUsage", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"),
    )
    with opened(library) as driver:
        reading = driver.read(0)
        described = driver.describe(0)
    assert reading is not None
    assert (reading.power_w, reading.energy_j, reading.utilisation_ratio, reading.memory_used_bytes) == (None,) * 4
    assert reading.temperature_c == 61
    assert described is not None
    assert described.memory_bytes is None


def test_a_card_that_is_not_there_is_none() -> None:
    with opened(Library()) as driver:
        assert driver.read(7) is None
        assert driver.describe(7) is None


def test_without_the_library_or_its_driver_nothing_is_read() -> None:
    assert Nvml.opened("libthat-nobody-has.so.1") is None
    assert not Nvml(object()).start()
    with CardWatch([0], interval_s=0.01, opened=lambda: None) as watch:
        pass
    assert watch.readings == ()


def test_cards_are_watched_until_the_end_and_once_more() -> None:
    library = Library()
    with CardWatch([0, 1, 7], interval_s=0.01, opened=lambda: opened(library)) as watch:
        sleep_s(0.1)
        watch.stop()
        watch.stop()
    (first, readings), (second, others) = watch.readings
    assert (first.index, second.index) == (0, 1)
    assert len(readings) == len(others) >= 2
    assert [one.asked_ns for one in readings] == sorted(one.asked_ns for one in readings)
    assert library.calls == ["nvmlShutdown"]


@pytest.mark.parametrize(("cards", "interval_s"), [([], 0.01), ([0], None)])
def test_nobody_is_asked_who_is_not_to_be(cards: list[int], interval_s: float | None) -> None:
    def never() -> Nvml:
        raise AssertionError

    with CardWatch(cards, interval_s=interval_s, opened=never) as watch:
        pass
    assert watch.readings == ()


def test_a_long_series_is_thinned_and_keeps_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "MOST_READINGS", 8)
    library = Library()
    with CardWatch([0], interval_s=0.001, opened=lambda: opened(library)) as watch:
        sleep_s(0.2)
    ((_, readings),) = watch.readings
    energies = [one.energy_j for one in readings]
    assert 2 <= len(energies) < 8
    assert (energies[0], energies[-1]) == (5001.0, library.energy_mj / 1000)
    assert library.energy_mj / 1000 > 5008, "more than are kept were read"
