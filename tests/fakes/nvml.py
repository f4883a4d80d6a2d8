"""NVML over the C calling convention: its functions are stood in for by callbacks of the same signatures.

What ctypes hands over and takes back is therefore the driver's own; only what the cards say is made up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char, c_int, c_uint, c_ulonglong, c_void_p
from typing import Any

from engines.nvml import Nvml, _Memory, _Utilisation

NOT_SUPPORTED, NO_SUCH_CARD = 3, 2
#: handles as a driver gives them: addresses, 0 never
HANDLES = {0: 0xA000, 1: 0xB000}


class Library:
    """Two cards. What is in `lacking` is a function that the driver does not have, in `refused` one that fails."""

    def __init__(self, *, lacking: tuple[str, ...] = (), refused: tuple[str, ...] = ()) -> None:
        self.calls: list[str] = []
        self.energy_mj = 5_000_000
        told = {
            "nvmlDeviceGetPowerUsage": (c_uint, 312_500),
            "nvmlDeviceGetEnforcedPowerLimit": (c_uint, 700_000),
            "nvmlDeviceGetPersistenceMode": (c_uint, 1),
        }
        made: dict[str, Any] = {
            "nvmlInit_v2": CFUNCTYPE(c_int)(lambda: 0),
            "nvmlShutdown": CFUNCTYPE(c_int)(lambda: self._noted("nvmlShutdown")),
            "nvmlDeviceGetCount_v2": self._out(c_uint, lambda: 2),
            "nvmlSystemGetCudaDriverVersion_v2": self._out(c_int, lambda: 12080),
            "nvmlSystemGetDriverVersion": CFUNCTYPE(c_int, POINTER(c_char), c_uint)(
                lambda into, size: self._text(into, size, b"580.95.05")
            ),
            "nvmlDeviceGetHandleByIndex_v2": CFUNCTYPE(c_int, c_uint, POINTER(c_void_p))(self._handle),
            "nvmlDeviceGetName": CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_uint)(
                lambda card, into, size: self._text(into, size, b"NVIDIA H100 80GB HBM3" if card == 0xA000 else b"T4")
            ),
            "nvmlDeviceGetTotalEnergyConsumption": CFUNCTYPE(c_int, c_void_p, POINTER(c_ulonglong))(self._energy),
            "nvmlDeviceGetUtilizationRates": CFUNCTYPE(c_int, c_void_p, POINTER(_Utilisation))(self._busy),
            "nvmlDeviceGetMemoryInfo": CFUNCTYPE(c_int, c_void_p, POINTER(_Memory))(self._memory),
            "nvmlDeviceGetTemperature": CFUNCTYPE(c_int, c_void_p, c_uint, POINTER(c_uint))(
                lambda _card, sensor, into: self._put(into, 61 if sensor == 0 else 99)
            ),
            "nvmlDeviceGetClockInfo": CFUNCTYPE(c_int, c_void_p, c_uint, POINTER(c_uint))(
                lambda _card, kind, into: self._put(into, {1: 1980, 2: 2619}[kind])
            ),
            **{
                name: CFUNCTYPE(c_int, c_void_p, POINTER(kind))(lambda _card, into, value=value: self._put(into, value))
                for name, (kind, value) in told.items()
            },
        }
        for name, function in made.items():
            if name not in lacking:
                fails = len(function.argtypes) and name in refused
                setattr(self, name, self._failing(function) if fails else function)

    @staticmethod
    def _failing(function: Any) -> Any:
        return type(function)(lambda *_: NOT_SUPPORTED)

    def _noted(self, name: str) -> int:
        self.calls.append(name)
        return 0

    @staticmethod
    def _out(kind: type[Any], value: Callable[[], int]) -> Any:
        return CFUNCTYPE(c_int, POINTER(kind))(lambda into: Library._put(into, value()))

    @staticmethod
    def _put(into: Any, value: int) -> int:
        into[0] = value
        return 0

    @staticmethod
    def _text(into: Any, size: int, text: bytes) -> int:
        assert size > len(text)
        ctypes.memmove(into, text + b"\0", len(text) + 1)
        return 0

    @staticmethod
    def _handle(index: int, into: Any) -> int:
        if index not in HANDLES:
            return NO_SUCH_CARD
        into[0] = HANDLES[index]
        return 0

    def _energy(self, card: int, into: Any) -> int:
        assert card in HANDLES.values()
        self.energy_mj += 1000
        into[0] = self.energy_mj
        return 0

    @staticmethod
    def _busy(_card: int, into: Any) -> int:
        into[0].gpu, into[0].memory = 87, 40
        return 0

    @staticmethod
    def _memory(_card: int, into: Any) -> int:
        into[0].total, into[0].free, into[0].used = 80 * 2**30, 10 * 2**30, 70 * 2**30
        return 0


def opened(library: Library) -> Nvml:
    """As a run opens the driver's."""
    nvml = Nvml(library)
    assert nvml.start()
    return nvml
