"""What a person writes about a run: which load on which target, with which limits. Its digest names the work.

A field that came later is left out of the JSON where it is not used, so that the digests of older workloads hold.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from engines.spec import PLAIN, Spec, TargetSpec

Count = Annotated[int, Field(ge=1, le=1_000_000), PLAIN]
Tokens = Annotated[int, Field(ge=1, le=10_000_000), PLAIN]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1), PLAIN]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False), PLAIN]
Concurrency = Annotated[int, Field(ge=1, le=20_000), PLAIN]
#: requests a second
Rate = Annotated[float, Field(ge=0.001, le=1_000_000, allow_inf_nan=False), PLAIN]
RateOrNone = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False), PLAIN]
#: seconds
ScrapeInterval = Annotated[float, Field(ge=0.05, le=3600, allow_inf_nan=False), PLAIN]
SCRAPE_INTERVAL_S = 0.2


class FixedLength(Spec):
    """The same length for every request."""

    kind: Literal["fixed"] = "fixed"
    tokens: Tokens


class UniformLength(Spec):
    """Uniform over [low, high], both included."""

    kind: Literal["uniform"] = "uniform"
    low: Tokens
    high: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> UniformLength:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class NormalLength(Spec):
    """Normal, rounded, clipped to [low, high]."""

    kind: Literal["normal"] = "normal"
    mean: Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False), PLAIN]
    stddev: Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False), PLAIN]
    low: Tokens = 1
    high: Tokens = 131_072

    @model_validator(mode="after")
    def _ordered(self) -> NormalLength:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class ListedLength(Spec):
    """Length k goes to request k, starting over at the end; how `qwen-speed` walks its input lengths."""

    kind: Literal["list"] = "list"
    tokens: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=100_000)]


Length = Annotated[FixedLength | UniformLength | NormalLength | ListedLength, Field(discriminator="kind")]


class SyntheticPrompts(Spec):
    """Seeded text of an exact token length, distinct from its first tokens on."""

    kind: Literal["synthetic"] = "synthetic"
    input_tokens: Length
    #: "text" is the fair default; "token_ids" skips the server's tokeniser
    form: Literal["text", "token_ids"] = "text"


class FixedPrompt(Spec):
    """One given text for every request."""

    kind: Literal["text"] = "text"
    text: Annotated[str, Field(min_length=1, max_length=10_000_000)]


class DatasetPrompts(Spec):
    """Prompts from a file: own JSONL (`prompt`, optional `output_tokens`) or ShareGPT's JSON."""

    kind: Literal["dataset"] = "dataset"
    path: Annotated[str, Field(min_length=1, max_length=1000)]
    format: Literal["jsonl", "sharegpt"] = "jsonl"


Prompts = Annotated[SyntheticPrompts | FixedPrompt | DatasetPrompts, Field(discriminator="kind")]


class Burst(Spec):
    """All at once: every request is scheduled for the window's first moment."""

    kind: Literal["burst"] = "burst"


def _is_none(value: object) -> bool:
    return value is None


class ClosedLoop(Spec):
    """A fixed number in flight: a finished request is followed by the next, at once or after a time to think."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: Concurrency
    #: from the end of a response to the next request of its slot; `None`: at once
    think_time_s: Seconds | None = Field(default=None, exclude_if=_is_none)
    #: "fixed": always the same; "exponential": drawn anew each time, with think_time_s as the mean
    think_time: Literal["fixed", "exponential"] = Field(default="fixed", exclude_if=lambda value: value == "fixed")

    @model_validator(mode="after")
    def _has_a_mean(self) -> ClosedLoop:
        if self.think_time == "exponential" and self.think_time_s is None:
            raise ValueError("exponential think times need their mean: give think_time_s")
        return self


class Constant(Spec):
    """Open loop: requests at even gaps, the first at once, whatever the answers do."""

    kind: Literal["constant"] = "constant"
    rate_per_s: Rate
    #: most in flight; what is due above it waits, and its latency from the scheduled moment tells; `None`: no cap
    max_concurrency: Concurrency | None = None


class Poisson(Spec):
    """Open loop: independent requests, gaps exponential."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: Rate
    max_concurrency: Concurrency | None = None


class Gamma(Spec):
    """Open loop: gaps gamma-distributed around 1 ÷ rate."""

    kind: Literal["gamma"] = "gamma"
    rate_per_s: Rate
    #: shape of the distribution: 1 is Poisson, below 1 comes in bursts, above 1 is more even
    burstiness: Annotated[float, Field(ge=0.01, le=1_000, allow_inf_nan=False), PLAIN]
    max_concurrency: Concurrency | None = None


class Step(Spec):
    """One rate, held for a while."""

    rate_per_s: RateOrNone
    duration_s: Seconds


class Ramp(Spec):
    """Open loop at a changing rate: a line from one rate to another, or steps. The last rate holds from there on."""

    kind: Literal["ramp"] = "ramp"
    from_rate_per_s: RateOrNone | None = None
    to_rate_per_s: RateOrNone | None = None
    #: of the line
    duration_s: Seconds | None = None
    #: in place of a line
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=10_000)] | None = None
    #: "poisson": independent requests at the rate of the moment; "even": as evenly as the rate allows
    spacing: Literal["poisson", "even"] = "poisson"
    max_concurrency: Concurrency | None = None

    @model_validator(mode="after")
    def _line_or_steps(self) -> Ramp:
        line = (self.from_rate_per_s, self.to_rate_per_s, self.duration_s)
        if (self.steps is None and None in line) or (self.steps is not None and line != (None, None, None)):
            raise ValueError("give from_rate_per_s, to_rate_per_s and duration_s, or steps, and not both")
        if not any(max(low, high) > 0 for low, high, _ in self.segments):
            raise ValueError("a ramp needs a rate above 0 somewhere")
        return self

    @property
    def segments(self) -> tuple[tuple[float, float, float], ...]:
        """(rate at the beginning, rate at the end, seconds) of each part in turn."""
        if self.steps is not None:
            return tuple((step.rate_per_s, step.rate_per_s, step.duration_s) for step in self.steps)
        return ((self.from_rate_per_s or 0.0, self.to_rate_per_s or 0.0, self.duration_s or 0.0),)


class Trace(Spec):
    """Open loop: the moments of a recorded load, and its lengths, which go before the workload's own.

    "offsets": JSONL with offset_s and, where wanted, input_tokens and output_tokens. "mooncake": JSONL with timestamp
    (ms), input_length and output_length. "azure": CSV with TIMESTAMP, ContextTokens and GeneratedTokens. The last two
    begin at their first row.
    """

    kind: Literal["trace"] = "trace"
    path: Annotated[str, Field(min_length=1, max_length=1000)]
    format: Literal["offsets", "mooncake", "azure"] = "offsets"
    #: offsets are multiplied by it: 0.5 replays twice as fast
    time_scale: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False), PLAIN] = 1.0
    max_concurrency: Concurrency | None = None


ArrivalSpec = Annotated[Burst | ClosedLoop | Constant | Poisson | Gamma | Ramp | Trace, Field(discriminator="kind")]


def expected_requests(arrival: ArrivalSpec, duration_s: float) -> float | None:
    """How many requests an open loop sends within so many seconds on average; `None`: not known from its rates."""
    match arrival:
        case Constant(rate_per_s=rate) | Poisson(rate_per_s=rate) | Gamma(rate_per_s=rate):
            return rate * duration_s
        case Ramp(segments=segments):
            whole, left_s = 0.0, duration_s
            for low, high, length_s in segments:
                part_s = min(left_s, length_s)
                whole += part_s * (low + (high - low) * part_s / length_s / 2)
                left_s -= part_s
            return whole + left_s * segments[-1][1]
        case _:
            return None


def most_requests(arrival: ArrivalSpec, duration_s: float) -> int | None:
    """So many that an open loop's draw within the time does not exceed: six standard deviations above the mean."""
    mean = expected_requests(arrival, duration_s)
    if mean is None:
        return None
    dispersion = 1 / arrival.burstiness if isinstance(arrival, Gamma) else 1.0
    return math.ceil(mean + 6 * math.sqrt(max(mean, 1) * max(dispersion, 1)) + 10 * max(dispersion, 1))


class SocketPolicySpec(Spec):
    """How requests use TCP: part of the measurement, the same for all targets of a job."""

    #: "fresh": one connection a request, opened before the window where the arrival allows it;
    #: "reused": connections are kept for further requests
    connections: Literal["fresh", "reused"] = "fresh"
    #: re-arm TCP_QUICKACK at each read, so that a server without TCP_NODELAY does not wait for our ACK
    quick_ack: bool = True


class Slo(Spec):
    """Limits a request must keep to count as good. At least one is given."""

    ttft_s: Seconds | None = None
    tpot_s: Seconds | None = None
    e2e_s: Seconds | None = None

    @model_validator(mode="after")
    def _one_given(self) -> Slo:
        if self.ttft_s is None and self.tpot_s is None and self.e2e_s is None:
            raise ValueError("give at least one of ttft_s, tpot_s, e2e_s")
        return self


def _requests_may_be_left_out(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name != "requests"]


class WorkloadSpec(Spec):
    """Where prompts and output lengths come from, how many, and the arrival process. Engine-neutral.

    By count or by duration: with `duration_s`, `requests` is the most that are sent, and may be left out where the
    arrival has rates (it is then more than they will ever send in that time). What is under way at the end is awaited.
    """

    model_config = ConfigDict(json_schema_extra=_requests_may_be_left_out)

    name: Annotated[str, Field(min_length=1, max_length=100)] = "custom"
    requests: Count = Field(description="most that are sent; may be left out with duration_s and rates")
    prompts: Prompts
    output_tokens: Length
    arrival: ArrivalSpec = Burst()
    #: nothing new is sent from then on; `None`: until `requests` are sent
    duration_s: Seconds | None = Field(default=None, exclude_if=_is_none)
    #: first part of the window, in which requests are sent and not measured; `None`: all are measured
    ramp_up_s: Seconds | None = Field(default=None, exclude_if=_is_none)
    #: "ignore-eos": asked for in the request; "overlay": the launched model folder never stops early;
    #: "length-matched": lengths are given for each request; "natural": the model stops when it likes
    lengths: Literal["ignore-eos", "overlay", "length-matched", "natural"] = "ignore-eos"
    #: lengths of a "length-matched" run, one a request, as the engine that may stop early gave them
    matched_output_tokens: tuple[Tokens, ...] | None = None
    #: of its prompts, lengths and moments; `None`: the run's own. A run takes it over, so that workloads stay alike
    seed: Seed | None = Field(default=None, exclude_if=_is_none)
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False), PLAIN] = 0.0
    #: whole batches of the same shape thrown away first; "auto": until two in a row agree within 2 % (at most 8); with
    #: `duration_s` no more than 30 s of it each, behind the ramp-up. A later burst of a start goes on from there:
    #: "auto" holds its first batch against the last of the burst before, a number means one batch
    warmup_batches: Annotated[int, Field(ge=0, le=100), PLAIN] | Literal["auto"] = "auto"
    socket: SocketPolicySpec = SocketPolicySpec()
    #: further body fields for every request, over everything else
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _requests_from_rates(cls, body: object) -> object:
        """The most requests, where a duration and rates say how many there can be."""
        if not isinstance(body, dict) or body.get("requests") is not None or body.get("duration_s") is None:
            return body
        try:
            duration_s = _SECONDS.validate_python(body["duration_s"])
            arrival = _ARRIVAL.validate_python(body.get("arrival"))
        except ValidationError:
            return {**body, "requests": 1}  # what is wrong with these two is found below, and is all that is said
        most = most_requests(arrival, duration_s)
        return body if most is None else {**body, "requests": most}

    @model_validator(mode="after")
    def _times_fit(self) -> WorkloadSpec:
        if isinstance(self.arrival, Burst) and (self.duration_s is not None or self.ramp_up_s is not None):
            raise ValueError("a burst is sent at once: leave out duration_s and ramp_up_s, or choose another arrival")
        if self.duration_s is not None and self.ramp_up_s is not None and self.ramp_up_s >= self.duration_s:
            raise ValueError("ramp_up_s must be shorter than duration_s, or nothing is measured")
        return self


_SECONDS: TypeAdapter[float] = TypeAdapter(Seconds)
_ARRIVAL: TypeAdapter[ArrivalSpec] = TypeAdapter(ArrivalSpec)


class Limits(Spec):
    """When to stop waiting."""

    request_timeout_s: Seconds = 600.0
    #: from the open target to the window's end: planning and warm-up included
    run_timeout_s: Seconds = 3600.0
    connect_timeout_s: Seconds = 10.0


def without_seed(workload: WorkloadSpec) -> WorkloadSpec:
    """The workload as a run has it: the seed is the run's."""
    return workload.model_copy(update={"seed": None})


class RunSpec(Spec):
    """One run: target × workload × limits × SLO × seed. Everything that changes a number is in here."""

    target: TargetSpec
    workload: WorkloadSpec
    limits: Limits = Limits()
    slo: Slo | None = None
    seed: Seed = 0
    #: which repeat of its cell this is; prompts are drawn from (seed, repeat, attempt)
    repeat: Annotated[int, Field(ge=0, le=100_000), PLAIN] = 0
    attempt: Annotated[int, Field(ge=1, le=1_000), PLAIN] = 1
    #: keep the raw bytes of every response, not only of failed ones
    keep_raw: bool = False
    #: from one reading of the engine's own /metrics to the next beside the measured load; seldomer where the engine
    #: takes long to answer; `None`: it is left alone, and read before and after only
    scrape_interval_s: ScrapeInterval | None = SCRAPE_INTERVAL_S
    #: hold the load process against a known answer right after the window
    calibration: bool = Field(default=True, exclude_if=lambda value: value is True)


def digest(spec: Spec) -> str:
    """Stable name of what is asked: SHA-256 over canonical JSON, 16 hex digits."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
