"""What NVIDIA's driver says of this host's cards while an engine runs on them: power, energy, clocks, memory, heat.

NVML is a C library that comes with the driver; it is asked directly, for no package of ours is needed then. A card or a
figure that it does not have is `None`, never 0.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from engines.clock import monotonic_ns

LIBRARY = "libnvidia-ml.so.1"
#: a longer series is thinned to every second reading, and goes on half as often
MOST_READINGS = 600
#: share of the time for which a reading may be under way
SHARE = 0.05

_TEXT_BYTES = 96
_TEMPERATURE_GPU, _CLOCK_SM, _CLOCK_MEMORY = 0, 1, 2


class _Utilisation(ctypes.Structure):
    """`nvmlUtilization_t`, percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`, bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True, slots=True)
class CardFacts:
    """One card as it stands in its host."""

    index: int
    name: str | None
    driver: str | None
    #: newest CUDA that the driver runs, such as "13.0"
    cuda: str | None
    memory_bytes: int | None
    #: what it may draw, W
    power_limit_w: float | None
    #: the driver stays loaded between programs
    persistence: bool | None


@dataclass(frozen=True, slots=True)
class CardReading:
    """One card at some moment between the two stamps."""

    asked_ns: int
    answered_ns: int
    power_w: float | None
    #: since the driver was loaded; the card's own counter, which knows what was drawn between two readings
    energy_j: float | None
    #: share of the driver's last sample period in which some kernel ran
    utilisation_ratio: float | None
    memory_used_bytes: int | None
    temperature_c: int | None
    sm_clock_hz: int | None
    memory_clock_hz: int | None


class Nvml:
    """The library, initialised. A context manager."""

    def __init__(self, library: object) -> None:
        """`library`: the loaded library, or whatever has its functions."""
        self._library = library

    @classmethod
    def opened(cls, library: str = LIBRARY) -> Nvml | None:
        """`None` where there is no such library, or no driver behind it."""
        try:
            opened = cls(ctypes.CDLL(library))
        except OSError:
            return None
        return opened if opened.start() else None

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call("nvmlShutdown")

    def start(self) -> bool:
        """False where there is no driver behind the library."""
        return self._call("nvmlInit_v2")

    def count(self) -> int:
        """Cards that this process may see."""
        return self._number("nvmlDeviceGetCount_v2", ctypes.c_uint()) or 0

    def describe(self, index: int) -> CardFacts | None:
        """`None` where there is no such card."""
        card = self._card(index)
        if card is None:
            return None
        cuda = self._number("nvmlSystemGetCudaDriverVersion_v2", ctypes.c_int())
        limit_mw = self._number("nvmlDeviceGetEnforcedPowerLimit", ctypes.c_uint(), card)
        persistence = self._number("nvmlDeviceGetPersistenceMode", ctypes.c_uint(), card)
        memory = self._filled("nvmlDeviceGetMemoryInfo", _Memory(), card)
        return CardFacts(
            index=index,
            name=self._text("nvmlDeviceGetName", card),
            driver=self._text("nvmlSystemGetDriverVersion"),
            cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            memory_bytes=None if memory is None else int(memory.total),
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            persistence=None if persistence is None else bool(persistence),
        )

    def read(self, index: int) -> CardReading | None:
        """`None` where there is no such card."""
        card = self._card(index)
        if card is None:
            return None
        asked_ns = monotonic_ns()
        power_mw = self._number("nvmlDeviceGetPowerUsage", ctypes.c_uint(), card)
        energy_mj = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong(), card)
        utilisation = self._filled("nvmlDeviceGetUtilizationRates", _Utilisation(), card)
        memory = self._filled("nvmlDeviceGetMemoryInfo", _Memory(), card)
        celsius = self._number("nvmlDeviceGetTemperature", ctypes.c_uint(), card, _TEMPERATURE_GPU)
        sm_mhz = self._number("nvmlDeviceGetClockInfo", ctypes.c_uint(), card, _CLOCK_SM)
        memory_mhz = self._number("nvmlDeviceGetClockInfo", ctypes.c_uint(), card, _CLOCK_MEMORY)
        return CardReading(
            asked_ns,
            monotonic_ns(),
            power_w=None if power_mw is None else power_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
            utilisation_ratio=None if utilisation is None else utilisation.gpu / 100,
            memory_used_bytes=None if memory is None else int(memory.used),
            temperature_c=celsius,
            sm_clock_hz=None if sm_mhz is None else sm_mhz * 1_000_000,
            memory_clock_hz=None if memory_mhz is None else memory_mhz * 1_000_000,
        )

    def _card(self, index: int) -> ctypes.c_void_p | None:
        handle = ctypes.c_void_p()
        return handle if self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle)) else None

    def _number(self, name: str, into: Any, card: ctypes.c_void_p | None = None, *more: int) -> int | None:
        found = self._filled(name, into, card, *more)
        return None if found is None else int(found.value)

    def _filled(self, name: str, into: Any, card: ctypes.c_void_p | None = None, *more: int) -> Any:
        """`into`, filled in; `None` where the driver or the card does not give it."""
        before = () if card is None else (card,)
        return into if self._call(name, *before, *more, ctypes.byref(into)) else None

    def _text(self, name: str, card: ctypes.c_void_p | None = None) -> str | None:
        into = ctypes.create_string_buffer(_TEXT_BYTES)
        before = () if card is None else (card,)
        return into.value.decode("utf-8", "replace") if self._call(name, *before, into, _TEXT_BYTES) else None

    def _call(self, name: str, *arguments: Any) -> bool:
        """True where it was done; an older driver may not have the function at all."""
        function: Callable[..., int] | None = getattr(self._library, name, None)
        return function is not None and function(*arguments) == 0


class CardWatch:
    """A context manager: reads the cards from entering on, until `stop` or the end of the block."""

    def __init__(
        self, cards: Sequence[int], *, interval_s: float | None, opened: Callable[[], Nvml | None] = Nvml.opened
    ) -> None:
        """`cards`: by NVML's numbers; `interval_s` from one reading to the next, `None`: none is read."""
        self._cards = tuple(cards) if interval_s is not None else ()
        self._interval_s = interval_s or 0.0
        self._opened = opened
        self._facts: list[CardFacts] = []
        self._readings: dict[int, list[CardReading]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> CardWatch:
        nvml = self._opened() if self._cards else None
        if nvml is not None:
            self._thread = threading.Thread(target=self._run, args=(nvml,), name="cards", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Reads once more, so that the window's end lies between two readings. Once more does nothing."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def readings(self) -> tuple[tuple[CardFacts, tuple[CardReading, ...]], ...]:
        """Each card and what was read of it; () where there is none. To be asked for once it has stopped."""
        return tuple((card, tuple(self._readings[card.index])) for card in self._facts)

    def _run(self, nvml: Nvml) -> None:
        with nvml:
            self._facts = [facts for index in self._cards if (facts := nvml.describe(index)) is not None]
            self._readings = {facts.index: [] for facts in self._facts}
            last = False
            while self._facts and not last:
                last = self._stopping.is_set()
                asked_ns = monotonic_ns()
                for index, kept in self._readings.items():
                    if (reading := nvml.read(index)) is not None:
                        kept.append(reading)
                took_s = (monotonic_ns() - asked_ns) / 1e9
                if max(map(len, self._readings.values())) >= MOST_READINGS:
                    for kept in self._readings.values():
                        del kept[1:-1:2]
                    self._interval_s *= 2
                self._stopping.wait(max(self._interval_s, took_s / SHARE) - took_s)
