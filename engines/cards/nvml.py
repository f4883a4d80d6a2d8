"""The driver, asked through NVIDIA's own binding of NVML. A card or figure that it does not have is `None`, never 0."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from engines.cards.reading import SLOWED, CardFacts, CardReading, HostCards
from engines.clock import monotonic_ns

log = logging.getLogger(__name__)

#: Value type of a 64-bit counter among NVML's field values.
_UNSIGNED_LONG_LONG = 3


class Nvml:
    """The library, initialised. A context manager. Every call may hang for as long as the driver does."""

    def __init__(self, binding: Any) -> None:
        """`binding`: the module pynvml, after `nvmlInit`."""
        self._nvml = binding

    @classmethod
    def opened(cls) -> Nvml | None:
        """`None` where there is no such library, or no driver behind it."""
        # A tenth of a second, which a run without a card need not spend.
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            log.debug("no card is read", extra={"reason": str(error)})
            return None
        return cls(pynvml)

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._told(self._nvml.nvmlShutdown)

    def count(self) -> int:
        """Cards that this process may see."""
        return self._told(self._nvml.nvmlDeviceGetCount) or 0

    def describe(self, numbers: Sequence[int] | None = None) -> HostCards:
        """The cards of these numbers, as far as they are there; `None`: all."""
        count = self.count()
        wanted = range(count) if numbers is None else numbers
        cuda = self._told(self._nvml.nvmlSystemGetCudaDriverVersion)
        return HostCards(
            driver=self._told(self._nvml.nvmlSystemGetDriverVersion),
            cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            count=count,
            cards=tuple(card for index in wanted if (card := self._described(index)) is not None),
        )

    def read(self, index: int) -> CardReading | str:
        """What a card does; or, in words, why it does not tell anything."""
        try:
            return self._reading(self._nvml.nvmlDeviceGetHandleByIndex(index))
        except self._nvml.NVMLError as error:
            return str(error)

    def _reading(self, card: Any) -> CardReading:
        nvml = self._nvml
        asked_ns = monotonic_ns()
        power_mw = self._told(nvml.nvmlDeviceGetPowerUsage, card)
        energy_mj = self._told(nvml.nvmlDeviceGetTotalEnergyConsumption, card)
        utilisation = self._told(nvml.nvmlDeviceGetUtilizationRates, card)
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo, card)
        sm_mhz = self._told(nvml.nvmlDeviceGetClockInfo, card, nvml.NVML_CLOCK_SM)
        memory_mhz = self._told(nvml.nvmlDeviceGetClockInfo, card, nvml.NVML_CLOCK_MEM)
        celsius = self._told(nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU)
        reasons = self._reasons(card)
        capped_s, hot_s = self._counters(card)
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
            held_back_by=reasons,
            power_capped_s=capped_s,
            too_hot_s=hot_s,
        )

    def _described(self, index: int) -> CardFacts | None:
        try:
            return self._facts(index, self._nvml.nvmlDeviceGetHandleByIndex(index))
        except self._nvml.NVMLError:
            return None

    def _facts(self, index: int, card: Any) -> CardFacts:
        nvml = self._nvml
        limit_mw = self._told(nvml.nvmlDeviceGetEnforcedPowerLimit, card)
        persistence = self._told(nvml.nvmlDeviceGetPersistenceMode, card)
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo, card)
        mig = self._told(nvml.nvmlDeviceGetMigMode, card)
        return CardFacts(
            index=index,
            name=self._told(nvml.nvmlDeviceGetName, card),
            memory_bytes=None if memory is None else int(memory.total),
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            persistence=None if persistence is None else bool(persistence),
            divided=None if mig is None else bool(mig[0]),
        )

    def _reasons(self, card: Any) -> tuple[str, ...] | None:
        bits = self._told(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, card)
        if bits is None:
            # Its name before driver 535.
            bits = self._told(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons, card)
        return None if bits is None else tuple(name for bit, name in SLOWED.items() if bits & bit)

    def _counters(self, card: Any) -> tuple[float | None, float | None]:
        """For how long it was held back by its power limit, and by heat.

        The driver counts the hardware's slowdowns too, but under numbers that changed with CUDA 13: asked by those of
        the binding, an older driver answers for something else. These two have kept theirs.
        """
        nvml = self._nvml
        wanted = [nvml.NVML_FI_DEV_PERF_POLICY_POWER, nvml.NVML_FI_DEV_PERF_POLICY_THERMAL]
        fields = self._told(nvml.nvmlDeviceGetFieldValues, card, wanted)
        if fields is None:
            return None, None
        known = (nvml.NVML_SUCCESS, _UNSIGNED_LONG_LONG)
        capped, hot = (one.value.ullVal / 1e9 if (one.nvmlReturn, one.valueType) == known else None for one in fields)
        return capped, hot

    def _told(self, ask: Callable[..., Any], *arguments: Any) -> Any:
        """What the driver answers; `None` where it or the card does not have it, or may not tell.

        Raises:
            NVMLError_GpuIsLost: the card has fallen off the bus, and answers nothing any more.
        """
        try:
            return ask(*arguments)
        except self._nvml.NVMLError_GpuIsLost:
            raise
        except (self._nvml.NVMLError, UnicodeDecodeError):
            return None
