"""What a run knows about itself: what `validity` judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench_runner.measure.calibration import Calibration
from bench_runner.measure.cards import HeldBack
from bench_runner.measure.record import RequestRecord


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run knows about itself. `None`: it could not be learned, so it is not judged."""

    records: Sequence[RequestRecord]
    arrival_kind: str = "burst"
    #: cap of an open loop: what is due above it waits by design; `None`: no cap
    max_concurrency: int | None = None
    #: slots of a closed loop; `None`: not one
    concurrency: int | None = None
    #: start and end of the measured window, ns, where the run has one beside its ramp-up and drain
    measured: tuple[int, int] | None = None
    #: "complete", "cancelled", "timeout", "lapsed"
    ended: str = "complete"
    #: "ignore-eos", "overlay", "length-matched" or "natural"
    lengths: str = "ignore-eos"
    #: the engine can be told to give exactly the tokens asked for
    fixed_length: bool = True
    #: "length-matched": the run was asked for the lengths that another run's engine gave; else it is the one that gives
    matched: bool = False
    #: planned input lengths are estimates, not proven
    approximate_prompts: bool = False
    #: prompts differ from their first tokens on; a data set's may share them
    distinct_prompts: bool = True
    #: first tokens that a chat template gives every prompt of the run, and a cache may serve
    shared_prefix_tokens: int = 0
    #: the load process's CPU and wall time inside the window
    cpu_s: float | None = None
    wall_s: float | None = None
    #: worst gap between a kernel stamp and our reading it
    max_lag_s: float | None = None
    clock_stepped: bool = False
    #: inside the window: time for which a load process was ready to run and had no CPU, times that the kernel took the
    #: CPU from one, and CPU time that the hypervisor gave to others (all cores together)
    cpu_wait_s: float | None = None
    preemptions: int | None = None
    stolen_s: float | None = None
    #: how far the engine's own counters moved over the window: prompt tokens, generated tokens, prefix-cache hits
    counted_input_tokens: int | None = None
    counted_output_tokens: int | None = None
    counted_cached_tokens: int | None = None
    #: requests that the engine says it finished meanwhile
    counted_requests: int | None = None
    #: the engine's counters began anew within the window
    engine_restarted: bool = False
    #: "before" or "after" the load: when they could not be read, though the other time they could
    counters_unread: str | None = None
    #: (asked, answered, ns; requests running and waiting then) as the engine's own gauges said within the window
    gauges: Sequence[tuple[int, int, float]] = ()
    #: how long the clocks of each card of the engine's host were held back over the window, by its index
    cards: Mapping[str, HeldBack] = field(default_factory=dict)
    #: they are the target's; else some may be another's, and what slowed them is told and not judged
    cards_judged: bool = True
    #: the load process held against a known answer, under this run's load
    calibration: Calibration | None = None
    #: as stated; `None`: nothing was stated
    hardware: str | None = None
    precision: str | None = None
    #: the Summary's; leave out for simulated hardware, which may be told to be faster than it could be
    roofline_ratio: float | None = None
    #: in words, where the target never answered or died
    target_failure: str | None = None

    @property
    def good(self) -> list[RequestRecord]:
        """The successes."""
        return [record for record in self.records if record.ok]
