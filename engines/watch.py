"""Reads an engine's own metrics while it is driven: a thread with a client of its own, a series of bounded length.

A scrape is traffic that is not the load's: a vLLM renders some 60 kB for it in 5 to 10 ms, in the process that also
streams the tokens. So it comes as often as the run asks for, seldomer where the engine takes long with it, and not at
all once the engine has failed to answer it several times in a row.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from engines.clock import monotonic_ns
from engines.contract import Engine, Origin
from engines.control import ControlClient
from engines.scrape import scrape

#: a longer series is thinned to every second reading, and goes on half as often
MOST_READINGS = 600
#: share of the time that an engine may spend on scrapes: they touch no more gaps between tokens than lie above a p99
SHARE = 0.01
#: … but of the first few: one alone may have waited for a busy host and tells little, and a short run needs some
SHARE_AT_FIRST = 0.1
FIRST = 3
#: a scrape that takes longer has failed
TIMEOUT_S = 1.0
#: failures in a row after which it is given up
MOST_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """What the engine said of itself, at some moment between the two stamps."""

    asked_ns: int
    answered_ns: int
    #: under canonical names, only those it has
    values: Mapping[str, float]


class Watch:
    """A context manager: it reads from entering on, until `stop` or the end of the block."""

    def __init__(self, origin: Origin, engine: Engine, *, interval_s: float | None) -> None:
        """`interval_s` from one question to the next; `None`: none is asked."""
        self._origin = origin
        self._engine = engine
        self._interval_s = interval_s or 0.0
        self._wanted = interval_s is not None
        self._readings: list[Reading] = []
        self._scrapes = 0
        self._given_up: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        if not self._wanted:
            self._given_up = "it was not to be"
        elif self._engine.capabilities.metrics_path is None or not self._engine.metric_names:
            self._given_up = "it has none"
        else:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Waits for a scrape under way: a few of its timeouts at most. Once more does nothing."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What was read; to be asked for once it has stopped."""
        return tuple(self._readings)

    @property
    def scrapes(self) -> int:
        """Times the engine was asked, answered or not."""
        return self._scrapes

    @property
    def given_up(self) -> str | None:
        """Why it did not read to the end, in words; `None`: it did."""
        return self._given_up

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            # A fault of ours, in a thread that nobody waits for: the series must not pass for a whole one.
            self._given_up = f"reading them broke ({type(error).__name__}: {error})"

    def _read(self) -> None:
        failures = 0
        # What it takes an engine that has nothing else to do just then: how long one waits its turn costs the engine
        # nothing.
        quickest_s = TIMEOUT_S
        with ControlClient(self._origin, timeout_s=TIMEOUT_S, keeps_asking=True) as client:
            while not self._stopping.is_set():
                self._scrapes += 1
                asked_ns = monotonic_ns()
                values = scrape(client, self._engine)
                answered_ns = monotonic_ns()
                failures = 0 if values else failures + 1
                if values:
                    self._keep(Reading(asked_ns, answered_ns, values))
                elif failures == MOST_FAILURES:
                    self._given_up = f"{failures} times in a row it gave no metrics within {TIMEOUT_S:g} s"
                    return
                took_s = (answered_ns - asked_ns) / 1e9
                quickest_s = min(quickest_s, took_s)
                share = SHARE if self._scrapes > FIRST else SHARE_AT_FIRST
                self._stopping.wait(max(self._interval_s, quickest_s / share) - took_s)

    def _keep(self, reading: Reading) -> None:
        self._readings.append(reading)
        if len(self._readings) >= MOST_READINGS:
            del self._readings[1::2]
            self._interval_s *= 2
