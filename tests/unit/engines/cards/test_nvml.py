"""What NVIDIA's driver says of a card, and what it does not: a stand-in of its library, loaded by the real binding."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from engines.cards.nvml import Nvml
from engines.cards.reading import CardFacts, CardReading, HostCards
from tests.fakes.nvml import (
    BRAKE,
    DRIVER_NOT_LOADED,
    HARDWARE_THERMAL,
    NO_PERMISSION,
    NOT_SUPPORTED,
    POWER_CAP,
    SONAME,
    Driver,
    installed,
    no_driver,
)
from tests.fakes.shared_library import write_library

FIGURES = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetUtilizationRates",
           "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetClockInfo",
           "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetFieldValues")  # fmt: skip


def opened() -> Nvml:
    nvml = Nvml.opened()
    assert nvml is not None
    return nvml


def read(driver: Driver, folder: Path, index: int = 0) -> CardReading:
    with installed(driver, folder), opened() as nvml:
        reading = nvml.read(index)
    assert isinstance(reading, CardReading), reading
    return reading


def test_the_binding_finds_such_a_library_by_the_driver_s_own_name(tmp_path: Path) -> None:
    """As a driver's is found: by the loader, in a process of its own. This one has not a single function."""
    write_library(tmp_path / SONAME, SONAME, ("nothing",))
    code = "import pynvml\ntry: pynvml.nvmlInit()\nexcept pynvml.NVMLError as error: print(pynvml.nvmlLib._name, error)"
    surroundings = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=surroundings)
    assert told.stdout == f"{SONAME} Function Not Found\n"


def test_a_host_s_cards_are_described(tmp_path: Path) -> None:
    driver = Driver()
    with installed(driver, tmp_path), opened() as nvml:
        host, second = nvml.describe(), nvml.describe([1, 7])
    first = CardFacts(
        index=0,
        name="NVIDIA H100 80GB HBM3",
        memory_bytes=80 * 2**30,
        power_limit_w=700.0,
        persistence=True,
        divided=False,
    )
    assert host == HostCards("580.95.05", "12.8", 2, host.cards)
    assert (host.cards[0], host.cards[1].name) == (first, "T4")
    assert [card.index for card in second.cards] == [1], "there is no card 7"
    assert second.count == 2
    assert driver.calls[0] == "nvmlInitWithFlags"
    assert driver.calls[-1] == "nvmlShutdown"


def test_a_card_is_read_in_base_units(tmp_path: Path) -> None:
    driver = Driver()
    driver.counters = {74: 2_500_000_000, 75: 40_000_000}
    driver.reasons = POWER_CAP | HARDWARE_THERMAL | BRAKE | 0x1 | 0x8
    reading = read(driver, tmp_path, index=1)
    assert 0 < reading.asked_ns <= reading.answered_ns
    assert reading.power_w == 312.5
    assert reading.energy_j == 5001.0
    assert reading.utilisation_ratio == 0.87
    assert reading.memory_used_bytes == 70 * 2**30
    assert reading.temperature_c == 61
    assert (reading.sm_clock_hz, reading.memory_clock_hz) == (1_980_000_000, 2_619_000_000)
    assert reading.held_back_by == ("power_cap", "heat (hardware)", "power_brake"), "that it idles slows nothing"
    assert (reading.power_capped_s, reading.too_hot_s) == (2.5, 0.04)


def test_nothing_that_holds_it_back_is_not_the_same_as_not_known(tmp_path: Path) -> None:
    assert read(Driver(), tmp_path).held_back_by == ()
    lacking = Driver(lacking=("nvmlDeviceGetCurrentClocksEventReasons",))
    assert read(lacking, tmp_path).held_back_by is None


@pytest.mark.parametrize("answer", [NOT_SUPPORTED, NO_PERMISSION])
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_that_a_card_does_not_tell_is_none_and_never_0(tmp_path: Path, name: str, answer: int) -> None:
    whole = read(Driver(), tmp_path)
    reading = read(Driver(answers={name: answer}), tmp_path)
    silent = [field for field in CardReading.__slots__ if getattr(reading, field) is None]
    assert silent
    assert not any(getattr(whole, field) is None for field in silent)
    assert len(silent) <= 2


def test_a_function_that_an_older_driver_does_not_have_is_none(tmp_path: Path) -> None:
    reading = read(Driver(lacking=FIGURES), tmp_path)
    assert [getattr(reading, name) for name in CardReading.__slots__ if not name.endswith("_ns")] == [None] * 10


def test_a_counter_of_another_number_or_kind_is_none(tmp_path: Path) -> None:
    driver = Driver()
    driver.counters = {74: 1_000_000_000}
    reading = read(driver, tmp_path)
    assert (reading.power_capped_s, reading.too_hot_s) == (1.0, None)


def test_a_card_that_is_not_there_or_was_lost_says_so(tmp_path: Path) -> None:
    driver = Driver()
    with installed(driver, tmp_path), opened() as nvml:
        assert nvml.read(7) == "Invalid Argument"
        driver.lost = {1}
        assert nvml.read(1) == "GPU is lost"
        assert [card.index for card in nvml.describe().cards] == [0]
        assert isinstance(nvml.read(0), CardReading)


def test_a_card_that_is_lost_between_two_questions_says_so(tmp_path: Path) -> None:
    driver = Driver(answers={"nvmlDeviceGetTemperature": 15})
    with installed(driver, tmp_path), opened() as nvml:
        assert nvml.read(0) == "GPU is lost"


def test_without_the_library_or_its_driver_nothing_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with no_driver():
            assert Nvml.opened() is None
        with installed(Driver(answers={"nvmlInitWithFlags": DRIVER_NOT_LOADED}), tmp_path):
            assert Nvml.opened() is None
    assert [(one.levelname, one.__dict__["reason"]) for one in caplog.records] == [
        ("DEBUG", "NVML Shared Library Not Found"),
        ("DEBUG", "Driver Not Loaded"),
    ]


def test_the_counters_asked_for_are_those_whose_numbers_never_changed(tmp_path: Path) -> None:
    """The binding's numbers of the hardware's counters mean power smoothing to drivers before CUDA 13."""
    driver = Driver()
    driver.counters = {74: 0, 75: 0, 269: 9, 270: 9, 271: 9}
    driver.steps = dict.fromkeys(driver.counters, 1)
    read(driver, tmp_path)
    assert driver.counters == {74: 1, 75: 1, 269: 9, 270: 9, 271: 9}
    assert (pynvml.NVML_FI_DEV_PERF_POLICY_POWER, pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL) == (74, 75)
