"""Reads a host's cards for the length of a `with` block, in a thread of its own; a hung driver holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from engines.cards.nvml import Nvml
from engines.cards.reading import CardFacts, CardReading, HostCards
from engines.clock import monotonic_ns

#: a longer series is thinned to every second reading, and goes on half as often
MOST_READINGS = 600
#: share of the time for which a reading may be under way
SHARE = 0.05
#: longest wait for the driver: some cards take seconds to wake where nothing keeps the driver loaded
PATIENCE_S = 10.0


class CardWatch:
    """It reads from entering on, until `stop` or the end of the block: at both ends, and in between where asked to."""

    def __init__(
        self,
        cards: Sequence[int] | None,
        *,
        interval_s: float | None,
        opened: Callable[[], Nvml | None] = Nvml.opened,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Says what to read.

        Args:
            cards: by the driver's numbers; (): all there are; `None`: none, and no driver is asked.
            interval_s: from one reading to the next; `None`: only at both ends.
            opened: the driver.
            patience_s: longest wait for it, on entering and on stopping.
        """
        self._cards = None if cards is None else tuple(cards)
        self._interval_s = interval_s
        self._opened = opened
        self._patience_s = patience_s
        self._host: HostCards | None = None
        self._readings: dict[int, list[CardReading]] = {}
        self._lost: dict[int, str] = {}
        self._broken: str | None = None
        self._begun = threading.Event()
        self._stopping = threading.Event()
        # A thread that waits for a driver for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="cards", daemon=True)

    def __enter__(self) -> CardWatch:
        if self._cards is not None:
            self._thread.start()
            self._begun.wait(self._patience_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Reads once more, so that the window's end lies between two readings. Once more does nothing."""
        self._stopping.set()
        if self._thread.is_alive():
            # One that has not begun by now was waited for already.
            self._thread.join(self._patience_s if self._begun.is_set() else 0)
            if self._thread.is_alive():
                self._broken = f"the cards' driver did not answer within {self._patience_s:g} s"

    @property
    def host(self) -> HostCards | None:
        """The cards that are read; `None`: there is no driver here, or nobody was to ask it."""
        return self._host

    @property
    def readings(self) -> tuple[tuple[CardFacts, tuple[CardReading, ...]], ...]:
        """Each card and what was read of it; () where there is none. To be asked for once it has stopped."""
        cards = () if self._host is None else self._host.cards
        return tuple((card, tuple(self._readings[card.index])) for card in cards)

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why what was read is not all, in words: a card that was not there, or did not answer to the end."""
        lost = [f"card {index} did not answer to the end ({why})" for index, why in sorted(self._lost.items())]
        return (*lost, *([] if self._broken is None else [self._broken]))

    def _run(self) -> None:
        try:
            nvml = self._opened()
            if nvml is not None:
                with nvml:
                    self._read(nvml)
        except Exception as error:
            # A fault of ours, in a thread that nobody waits for: the series must not pass for a whole one.
            self._broken = f"reading the cards broke ({type(error).__name__}: {error})"
        finally:
            self._begun.set()

    def _read(self, nvml: Nvml) -> None:
        host = nvml.describe(self._cards or None)
        self._readings = {card.index: [] for card in host.cards}
        self._lost = {index: "there is no such card" for index in self._cards or () if index not in self._readings}
        self._host = host
        last = False
        while self._readings and not last:
            last = self._stopping.is_set()
            asked_ns = monotonic_ns()
            for index, kept in self._readings.items():
                reading = nvml.read(index)
                if isinstance(reading, CardReading):
                    kept.append(reading)
                    self._lost.pop(index, None)
                else:
                    self._lost[index] = reading
            took_s = (monotonic_ns() - asked_ns) / 1e9
            self._begun.set()
            self._pause(took_s)

    def _pause(self, took_s: float) -> None:
        if self._interval_s is None:
            self._stopping.wait()
            return
        if max(map(len, self._readings.values())) >= MOST_READINGS:
            for kept in self._readings.values():
                del kept[1:-1:2]
            self._interval_s *= 2
        self._stopping.wait(max(self._interval_s, took_s / SHARE) - took_s)
