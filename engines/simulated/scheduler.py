"""Continuous batching without I/O: feed it sequences, ask for steps, get tokens. Time comes from StepTime alone.

Two policies. Chunked (vLLM): every step decodes all running sequences and fills the rest of its token budget with
prompt chunks; a full KV cache preempts the youngest, which computes again later. Prefill first (TGI): waiting prompts
go first, whole, in steps of their own while the others wait; a sequence enters only if its longest possible length
fits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from engines.simulated.step_time import StepTime


@dataclass(frozen=True, slots=True)
class Policy:
    """What one engine's scheduler allows in a step."""

    #: True: prompt chunks ride along with decodes (vLLM); False: prompts first, in their own steps (TGI)
    chunked: bool
    #: most tokens of a step (chunked) or of a prefill step
    prefill_budget_tokens: int
    max_running: int
    #: tokens whose KV fits the memory that the weights leave
    kv_capacity_tokens: int


@dataclass(slots=True, eq=False)
class Sequence:
    """One request inside the scheduler."""

    prompt_tokens: int
    #: tokens it will generate
    output_tokens: int
    #: tokens it may generate: what prefill-first reserves
    max_tokens: int
    #: prompt tokens whose KV a prefix cache holds already
    cached_tokens: int = 0
    #: tokens whose KV is computed
    computed: int = 0
    #: tokens to compute before the next one comes out: the prompt, and after a preemption what was generated too
    wanted: int = 0
    generated: int = 0
    preemptions: int = 0
    #: "new", "waiting", "prefilling", "decoding", "paused" or "gone"
    state: str = "new"
    owner: object = None

    @property
    def finished(self) -> bool:
        """All its tokens are out."""
        return self.generated >= self.output_tokens


@dataclass(slots=True)
class Step:
    """One step under way."""

    duration_s: float
    decoding: list[Sequence]
    #: sequence and the prompt tokens it computes
    chunks: list[tuple[Sequence, int]]


@dataclass(slots=True)
class Counters:
    """What the scheduler did since it began."""

    steps: int = 0
    busy_s: float = 0.0
    preemptions: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0


class Scheduler:
    """Runs sequences in steps. Not thread-safe; at most one step is under way."""

    def __init__(self, policy: Policy, times: StepTime) -> None:
        self.policy = policy
        self.waiting: deque[Sequence] = deque()
        self.counters = Counters()
        self._times = times
        self._prefilling: dict[Sequence, None] = {}
        self._decoding: dict[Sequence, None] = {}
        self._paused: set[Sequence] = set()
        self._step: Step | None = None
        self._kv_tokens = 0

    @property
    def running(self) -> int:
        """Sequences that hold KV cache."""
        return len(self._prefilling) + len(self._decoding) + len(self._paused)

    @property
    def kv_usage_ratio(self) -> float:
        """Share of the KV cache in use."""
        return self._kv_tokens / self.policy.kv_capacity_tokens

    def add(self, sequence: Sequence) -> None:
        """Put a new sequence into the queue."""
        sequence.wanted = sequence.prompt_tokens
        sequence.state = "waiting"
        self.waiting.append(sequence)

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence wherever it is, or where it never was: its client went away, or it was cut short."""
        match sequence.state:
            case "waiting":
                self.waiting.remove(sequence)
            case "prefilling" | "decoding" | "paused":
                self._release(sequence)
        sequence.state = "gone"

    def pause(self, sequence: Sequence) -> None:
        """Keep its KV, give it no more tokens until `resume`."""
        if sequence.state == "decoding":
            del self._decoding[sequence]
            self._paused.add(sequence)
            sequence.state = "paused"

    def resume(self, sequence: Sequence) -> None:
        """Let a paused sequence go on."""
        if sequence.state == "paused":
            self._paused.remove(sequence)
            self._decoding[sequence] = None
            sequence.state = "decoding"

    def begin_step(self) -> Step | None:
        """Choose the work of the next step; `None`: nothing to do."""
        assert self._step is None, "a step is under way"
        step = self._chunked_step() if self.policy.chunked else self._prefill_first_step()
        if not step.decoding and not step.chunks:
            return None
        self._step = step
        return step

    def end_step(self) -> list[Sequence]:
        """Close the step under way; the sequences that gave a token, each exactly one."""
        step = self._step
        assert step is not None, "no step is under way"
        self._step = None
        self.counters.steps += 1
        self.counters.busy_s += step.duration_s
        gave: list[Sequence] = []
        for sequence in step.decoding:
            if sequence.state == "gone":
                continue
            sequence.computed += 1
            self._kv_tokens += 1
            sequence.generated += 1
            gave.append(sequence)
        for sequence, tokens in step.chunks:
            if sequence.state == "gone":
                continue
            sequence.computed += tokens
            self._kv_tokens += tokens
            self.counters.prompt_tokens += tokens
            if sequence.computed >= sequence.wanted:
                del self._prefilling[sequence]
                self._decoding[sequence] = None
                sequence.state = "decoding"
                sequence.generated += 1
                gave.append(sequence)
        self.counters.generated_tokens += len(gave)
        for sequence in gave:
            if sequence.generated >= sequence.output_tokens:
                self._release(sequence)
                sequence.state = "gone"
        return gave

    def _chunked_step(self) -> Step:
        policy = self.policy
        while self._kv_tokens + len(self._decoding) > policy.kv_capacity_tokens and len(self._decoding) > 1:
            self._preempt(next(reversed(self._decoding)))
        decoding = list(self._decoding)
        budget = policy.prefill_budget_tokens - len(decoding)
        room = policy.kv_capacity_tokens - self._kv_tokens - len(decoding)
        chunks: list[tuple[Sequence, int]] = []
        for sequence in self._prefilling:
            tokens = min(budget, room, sequence.wanted - sequence.computed)
            if tokens <= 0:
                break
            chunks.append((sequence, tokens))
            budget -= tokens
            room -= tokens
        while self.waiting and budget > 0 and self.running < policy.max_running:
            sequence = self.waiting[0]
            # a prompt enters only if all of it fits, else prompts would preempt each other for ever
            if sequence.wanted > room and self.running:
                break
            room -= self._admit(sequence)
            tokens = min(budget, room, sequence.wanted - sequence.computed)
            chunks.append((sequence, tokens))
            budget -= tokens
            room -= sequence.wanted - sequence.computed
        return self._timed(decoding, chunks)

    def _prefill_first_step(self) -> Step:
        policy = self.policy
        chunks: list[tuple[Sequence, int]] = []
        budget = policy.prefill_budget_tokens
        held = sum(s.prompt_tokens + s.max_tokens for group in (self._decoding, self._paused) for s in group)
        while self.waiting and self.running < policy.max_running:
            sequence = self.waiting[0]
            longest = sequence.prompt_tokens + sequence.max_tokens
            # what is too large for the budget or the cache still runs, alone
            if held + longest > policy.kv_capacity_tokens and self.running:
                break
            if sequence.wanted > budget and chunks:
                break
            self._admit(sequence)
            held += longest
            tokens = sequence.wanted - sequence.computed
            chunks.append((sequence, tokens))
            budget -= tokens
        return self._timed([] if chunks else list(self._decoding), chunks)

    def _timed(self, decoding: list[Sequence], chunks: list[tuple[Sequence, int]]) -> Step:
        times = self._times
        duration_s = times.base_s + times.decode_s(len(decoding), sum(s.computed + 1 for s in decoding))
        for sequence, tokens in chunks:
            completes = sequence.computed + tokens >= sequence.wanted
            duration_s += times.prefill_s(sequence.computed, tokens, completes=completes)
        return Step(duration_s, decoding, chunks)

    def _admit(self, sequence: Sequence) -> int:
        """Take the first waiting sequence in; the KV tokens it brings along from the prefix cache."""
        self.waiting.popleft()
        # at least one token is computed, or nothing would come out
        sequence.computed = min(sequence.cached_tokens, sequence.wanted - 1)
        self._kv_tokens += sequence.computed
        self._prefilling[sequence] = None
        sequence.state = "prefilling"
        return sequence.computed

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.wanted = sequence.prompt_tokens + sequence.generated
        sequence.preemptions += 1
        self.counters.preemptions += 1
        sequence.state = "waiting"
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        self._prefilling.pop(sequence, None)
        self._decoding.pop(sequence, None)
        self._paused.discard(sequence)
        self._kv_tokens -= sequence.computed
        sequence.computed = 0


@dataclass(slots=True)
class Emissions:
    """What an offline run gave: the moment of each token, seconds from the start, a list for each request."""

    token_s: list[list[float]] = field(default_factory=list)

    @property
    def makespan_s(self) -> float:
        """Start to the last token."""
        return max(times[-1] for times in self.token_s)


def run_burst(scheduler: Scheduler, sequences: list[Sequence]) -> Emissions:
    """All sequences at once, to the end, without waiting for a clock."""
    emissions = Emissions([[] for _ in sequences])
    for position, sequence in enumerate(sequences):
        sequence.owner = emissions.token_s[position]
        scheduler.add(sequence)
    now_s = 0.0
    while (step := scheduler.begin_step()) is not None:
        now_s += step.duration_s
        for sequence in scheduler.end_step():
            assert isinstance(sequence.owner, list)
            sequence.owner.append(now_s)
    return emissions
