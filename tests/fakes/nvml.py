"""A driver's library that is not one: two cards, whose figures a test sets. The real binding loads and calls it.

It is a shared library like any other to the binding; only what its functions do is written in Python.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char, c_int, c_int32, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

import pynvml

from tests.fakes.shared_library import fill, write_library

SONAME = "libnvidia-ml.so.1"
DONE, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, GPU_IS_LOST = 0, 2, 3, 4, 9, 15
UNSIGNED_LONG_LONG = 3
#: handles as a driver gives them: addresses, 0 never
HANDLES = {0: 0xA000, 1: 0xB000}
#: of a card's clocks, as NVML's header has them
POWER_CAP, SOFTWARE_THERMAL, HARDWARE_THERMAL, BRAKE = 0x4, 0x20, 0x40, 0x80

#: A library that was loaded stays, and so must what its functions call.
_KEPT: list[Any] = []


class Driver:
    """Two cards. `lacking`: functions that this driver does not have; `answers`: what a function returns instead."""

    def __init__(self, *, lacking: tuple[str, ...] = (), answers: dict[str, int] | None = None) -> None:
        self.lacking = lacking
        self.answers = answers or {}
        #: functions in the order in which they were called
        self.calls: list[str] = []
        self.energy_mj = 5_000_000
        #: why clocks are held back just now
        self.reasons = 0
        #: field -> what its counter stands at and goes up by with each reading, ns
        self.counters = {74: 0, 75: 0}
        self.steps = {74: 0, 75: 0}
        self.mig = 0
        #: cards that have fallen off the bus
        self.lost: set[int] = set()
        #: readings of power after which the second card has; `None`: never
        self.lost_after: int | None = None
        #: while it is cleared, no function of a card comes back
        self.answering = threading.Event()
        self.answering.set()

    def functions(self) -> dict[str, Any]:
        """Name -> callback of its C signature."""
        told: dict[str, tuple[Any, Callable[[], int]]] = {
            "nvmlDeviceGetPowerUsage": (c_uint, lambda: 312_500),
            "nvmlDeviceGetEnforcedPowerLimit": (c_uint, lambda: 700_000),
            "nvmlDeviceGetPersistenceMode": (c_uint, lambda: 1),
            "nvmlDeviceGetTotalEnergyConsumption": (c_ulonglong, self._energy),
            "nvmlDeviceGetCurrentClocksEventReasons": (c_ulonglong, lambda: self.reasons),
        }
        made: dict[str, Any] = {
            "nvmlInitWithFlags": CFUNCTYPE(c_int, c_uint)(lambda _: self._answer("nvmlInitWithFlags")),
            "nvmlShutdown": CFUNCTYPE(c_int)(lambda: self._answer("nvmlShutdown")),
            "nvmlDeviceGetCount_v2": CFUNCTYPE(c_int, POINTER(c_uint))(lambda into: _put(into, len(HANDLES))),
            "nvmlSystemGetCudaDriverVersion": CFUNCTYPE(c_int, POINTER(c_int))(lambda into: _put(into, 12080)),
            "nvmlSystemGetDriverVersion": CFUNCTYPE(c_int, POINTER(c_char), c_uint)(
                lambda into, size: _text(into, size, b"580.95.05")
            ),
            "nvmlDeviceGetHandleByIndex_v2": CFUNCTYPE(c_int, c_uint, POINTER(c_void_p))(self._handle),
            "nvmlDeviceGetName": CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_uint)(self._name),
            "nvmlDeviceGetMigMode": CFUNCTYPE(c_int, c_void_p, POINTER(c_uint), POINTER(c_uint))(self._mig),
            "nvmlDeviceGetUtilizationRates": self._of_card(
                "nvmlDeviceGetUtilizationRates", pynvml.c_nvmlUtilization_t, _busy
            ),
            "nvmlDeviceGetMemoryInfo": self._of_card("nvmlDeviceGetMemoryInfo", pynvml.c_nvmlMemory_t, _memory),
            "nvmlDeviceGetTemperature": CFUNCTYPE(c_int, c_void_p, c_uint, POINTER(c_uint))(self._temperature),
            "nvmlDeviceGetClockInfo": CFUNCTYPE(c_int, c_void_p, c_uint, POINTER(c_uint))(self._clock),
            "nvmlDeviceGetFieldValues": CFUNCTYPE(c_int, c_void_p, c_int32, POINTER(pynvml.c_nvmlFieldValue_t))(
                self._fields
            ),
        }
        for name, (kind, value) in told.items():
            made[name] = self._of_card(name, kind, _giver(value))
        return {name: function for name, function in made.items() if name not in self.lacking}

    def _of_card(self, name: str, kind: Any, give: Callable[[Any], int]) -> Any:
        return CFUNCTYPE(c_int, c_void_p, POINTER(kind))(lambda card, into: self._answer(name, card) or give(into))

    def _answer(self, name: str, card: int | None = None) -> int:
        self.calls.append(name)
        self.answering.wait(60)
        if self.lost_after is not None and self.calls.count("nvmlDeviceGetPowerUsage") > self.lost_after:
            self.lost = {1}
        if card is not None and card in {HANDLES[number] for number in self.lost}:
            return GPU_IS_LOST
        return self.answers.get(name, DONE)

    def _handle(self, index: int, into: Any) -> int:
        if (refused := self._answer("nvmlDeviceGetHandleByIndex_v2")) or index not in HANDLES:
            return refused or INVALID_ARGUMENT
        if index in self.lost:
            return GPU_IS_LOST
        return _put(into, HANDLES[index])

    def _name(self, card: int, into: Any, size: int) -> int:
        name = b"NVIDIA H100 80GB HBM3" if card == HANDLES[0] else b"T4"
        return self._answer("nvmlDeviceGetName", card) or _text(into, size, name)

    def _mig(self, card: int, now: Any, pending: Any) -> int:
        _put(pending, 0)
        return self._answer("nvmlDeviceGetMigMode", card) or _put(now, self.mig)

    def _temperature(self, card: int, sensor: int, into: Any) -> int:
        return self._answer("nvmlDeviceGetTemperature", card) or _put(into, 61 if sensor == 0 else 99)

    def _clock(self, card: int, kind: int, into: Any) -> int:
        return self._answer("nvmlDeviceGetClockInfo", card) or _put(into, {1: 1980, 2: 2619}[kind])

    def _energy(self) -> int:
        self.energy_mj += 1000
        return self.energy_mj

    def _fields(self, card: int, count: int, into: Any) -> int:
        for n in range(count):
            counter = into[n].fieldId
            into[n].nvmlReturn = DONE if counter in self.counters else NOT_SUPPORTED
            into[n].valueType = UNSIGNED_LONG_LONG
            into[n].value.ullVal = self.counters.get(counter, 0)
            self.counters[counter] = self.counters.get(counter, 0) + self.steps.get(counter, 0)
        return self._answer("nvmlDeviceGetFieldValues", card)


@contextmanager
def installed(driver: Driver, folder: Path) -> Iterator[Driver]:
    """The driver's library in place of this host's, in this process."""
    functions = driver.functions()
    # Under a name of its own: a loaded library is found again by its name, and this one is for this test alone.
    path = folder / f"libnvidia-ml-{id(driver):x}.so"
    write_library(path, path.name, tuple(functions))
    library = ctypes.CDLL(str(path))
    fill(library, functions)
    _KEPT.append(functions)
    before = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache)
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()
    try:
        yield driver
    finally:
        driver.answering.set()
        pynvml.nvmlLib = before[0]
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml._nvmlGetFunctionPointer_cache.update(before[1])


@contextmanager
def no_driver() -> Iterator[None]:
    """A host without the library, whatever this one has."""

    def missing(_name: str) -> None:
        raise OSError("cannot open shared object file")

    before = pynvml.nvmlLib, pynvml.CDLL
    pynvml.nvmlLib, pynvml.CDLL = None, missing
    try:
        yield
    finally:
        pynvml.nvmlLib, pynvml.CDLL = before


def _put(into: Any, value: int) -> int:
    into[0] = value
    return DONE


def _giver(value: Callable[[], int]) -> Callable[[Any], int]:
    return lambda into: _put(into, value())


def _text(into: Any, size: int, text: bytes) -> int:
    assert size > len(text)
    ctypes.memmove(into, text + b"\0", len(text) + 1)
    return DONE


def _busy(into: Any) -> int:
    into[0].gpu, into[0].memory = 87, 40
    return DONE


def _memory(into: Any) -> int:
    into[0].total, into[0].free, into[0].used = 80 * 2**30, 10 * 2**30, 70 * 2**30
    return DONE
