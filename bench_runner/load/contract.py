"""What goes into a load process and what comes out. The seam a fleet of processes or machines uses later."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engines.clock import monotonic_ns
from engines.contract import Capture, Origin, WireRequest


@dataclass(frozen=True, slots=True)
class SocketPolicy:
    """How requests use TCP."""

    #: one connection a request; else connections are kept for further requests
    fresh_connections: bool
    quick_ack: bool


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Everything a load process needs, before the window."""

    origin: Origin
    requests: tuple[WireRequest, ...]
    #: send offset of each request from the window's start, ns; `None`: closed loop
    offsets_ns: array[int] | None
    #: most in flight; `None`: no cap (burst, open loop)
    concurrency: int | None
    socket: SocketPolicy
    request_timeout_s: float
    connect_timeout_s: float
    #: of the whole window
    run_timeout_s: float
    #: a folder of this run's own
    spool: Path
    #: closed loop: from the end of request k's response to the next send of its slot, ns; `None`: at once
    think_ns: array[int] | None = None
    #: offset from the window's start after which nothing new is sent, ns: what is in flight is drained, the rest stays
    #: unsent (`sent_ns` 0), and the window ends as "complete"; `None`: every request is sent
    send_until_ns: int | None = None
    #: load processes; `None`: chosen from the load and the cores
    processes: int | None = None
    #: certificate authorities (PEM) trusted beside the system's; `None`: the system's alone
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Counters of a run under way, sampled from shared memory."""

    sent: int
    finished: int
    failed: int
    #: response bytes, of streams under way only what the spool has taken already
    received_bytes: int


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What the load process did."""

    #: in the order of the plan; those never sent included (`sent_ns` 0). Read from the spool, one at a time.
    captures: Callable[[], Iterator[Capture]]
    #: "complete", "cancelled", "timeout" (the run's own limit), "lapsed" (the lease's deadline passed)
    ended: str
    window_start_ns: int
    window_end_ns: int
    #: the load process's own CPU time and wall time inside the window
    cpu_s: float
    wall_s: float
    #: worst gap between a kernel receive stamp and our reading it, `None` without kernel stamps
    max_lag_s: float | None
    #: wall clock minus monotonic clock moved by more than a millisecond within the window
    clock_stepped: bool
    connections_opened: int
    #: load processes; `cpu_s`, `connections_opened` and `preemptions` are of all together
    processes: int = 1
    #: CPU time inside the window of the process that used most
    busiest_cpu_s: float | None = None
    #: time inside the window that the process which waited longest was ready to run and had no CPU
    cpu_wait_s: float | None = None
    #: times inside the window that the kernel took the CPU from a load process that wanted it
    preemptions: int | None = None
    #: CPU time that the hypervisor gave to others meanwhile, all cores together; `None`: the kernel does not tell
    stolen_s: float | None = None
    #: most memory that any of the load processes had; `None`: the kernel does not tell
    peak_memory_bytes: int | None = None
    #: what the host granted all load processes: "realtime", "nice" or "normal"
    priority: str = "normal"


class RunControl:
    """How the outside steers a run under way: cancel it, push its deadline, watch it. Thread-safe.

    The worker pushes `deadline_ns` (monotonic) at each lease renewal; when it passes, the load stops by itself, for a
    database fence cannot stop packets.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._deadline_ns: int | None = None
        self._progress: Progress | None = None
        self._stage = "planned"
        self._stages: list[tuple[str, int]] = []

    def cancel(self) -> None:
        """Stop as soon as possible; what was measured is kept."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Somebody asked to stop."""
        return self._cancelled.is_set()

    @property
    def deadline_ns(self) -> int | None:
        """Monotonic instant after which no byte may be sent; `None`: no lease."""
        with self._lock:
            return self._deadline_ns

    @deadline_ns.setter
    def deadline_ns(self, value: int | None) -> None:
        with self._lock:
            self._deadline_ns = value

    @property
    def progress(self) -> Progress | None:
        """Latest counters; `None` before the window."""
        with self._lock:
            return self._progress

    @progress.setter
    def progress(self, value: Progress | None) -> None:
        with self._lock:
            self._progress = value

    @property
    def stage(self) -> str:
        """ "planned", "opening", "planning", "warming", "measuring", "decoding", "calibrating" or "done"."""
        with self._lock:
            return self._stage

    @stage.setter
    def stage(self, value: str) -> None:
        with self._lock:
            self._stage = value
            self._stages.append((value, monotonic_ns()))

    @property
    def stages(self) -> tuple[tuple[str, int], ...]:
        """Each stage it came to and the monotonic instant of that, in their order."""
        with self._lock:
            return tuple(self._stages)
