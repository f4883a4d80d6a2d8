"""Runs a scheduler in real time: a step begins, lasts as long as it should, and its tokens come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engines.clock import monotonic_ns
from engines.simulated.loop import Loop
from engines.simulated.scheduler import Scheduler, Sequence

#: steps follow each other on the nominal clock, so that a late wake-up does not lengthen a run, unless it is this late
_CATCH_UP_NS = 250_000_000


class StepClock:
    """Sequences in with `enqueue`; those whose prompt a step works on out through `on_prompts` as it begins, those
    that gave a token through `on_tokens` as it ends, each with the moment.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        loop: Loop,
        speed: float,
        on_prompts: Callable[[Iterable[Sequence], int], None],
        on_tokens: Callable[[list[Sequence], int], None],
    ) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self._ns_per_s = 1e9 / speed
        self._on_prompts = on_prompts
        self._on_tokens = on_tokens
        self._due_ns = 0
        self._awake = False

    def enqueue(self, sequence: Sequence) -> None:
        """Let a sequence in at the next step."""
        self._scheduler.add(sequence)
        self._wake()

    def stall(self, sequence: Sequence, seconds: float) -> None:
        """No tokens for a sequence for a while."""
        self._scheduler.pause(sequence)
        self._loop.call_at(monotonic_ns() + int(seconds * 1e9), lambda: self._resume(sequence))

    def _resume(self, sequence: Sequence) -> None:
        self._scheduler.resume(sequence)
        self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._due_ns = 0
            # what arrived together goes into one step
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        step = self._scheduler.begin_step()
        if step is None:
            self._awake = False
            return
        now_ns = monotonic_ns()
        if step.chunks:
            self._on_prompts((sequence for sequence, _ in step.chunks), now_ns)
        begin_ns = now_ns if now_ns - self._due_ns > _CATCH_UP_NS else self._due_ns
        self._due_ns = begin_ns + int(step.duration_s * self._ns_per_s)
        self._loop.call_at(self._due_ns, self._end)

    def _end(self) -> None:
        self._on_tokens(self._scheduler.end_step(), monotonic_ns())
        self._loop.call_soon(self._begin)
