"""What a person writes about a run: which load on which target, with which limits. Its digest names the work."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engines.spec import Spec, TargetSpec

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


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
    mean: Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False)]
    stddev: Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)]
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


class ClosedLoop(Spec):
    """A fixed number in flight: a finished request is followed by the next."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: Annotated[int, Field(ge=1, le=20_000)]


ArrivalSpec = Annotated[Burst | ClosedLoop, Field(discriminator="kind")]


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


class WorkloadSpec(Spec):
    """Where prompts and output lengths come from, how many, and the arrival process. Engine-neutral."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = "custom"
    requests: Count
    prompts: Prompts
    output_tokens: Length
    arrival: ArrivalSpec = Burst()
    #: "ignore-eos": asked for in the request; "overlay": the launched model folder never stops early;
    #: "length-matched": lengths are given for each request; "natural": the model stops when it likes
    lengths: Literal["ignore-eos", "overlay", "length-matched", "natural"] = "ignore-eos"
    #: lengths of a "length-matched" run, one a request, as the engine that may stop early gave them
    matched_output_tokens: tuple[Tokens, ...] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    #: whole batches of the same shape thrown away first; "auto": until two in a row agree within 2 % (at most 8)
    warmup_batches: Annotated[int, Field(ge=0, le=100)] | Literal["auto"] = "auto"
    socket: SocketPolicySpec = SocketPolicySpec()
    #: further body fields for every request, over everything else
    extra_body: dict[str, Any] = Field(default_factory=dict)


class Limits(Spec):
    """When to stop waiting."""

    request_timeout_s: Seconds = 600.0
    run_timeout_s: Seconds = 3600.0
    connect_timeout_s: Seconds = 10.0


class RunSpec(Spec):
    """One run: target × workload × limits × SLO × seed. Everything that changes a number is in here."""

    target: TargetSpec
    workload: WorkloadSpec
    limits: Limits = Limits()
    slo: Slo | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    #: which repeat of its cell this is; prompts are drawn from (seed, repeat, attempt)
    repeat: Annotated[int, Field(ge=0, le=100_000)] = 0
    attempt: Annotated[int, Field(ge=1, le=1_000)] = 1
    #: keep the raw bytes of every response, not only of failed ones
    keep_raw: bool = False


def digest(spec: Spec) -> str:
    """Stable name of what is asked: SHA-256 over canonical JSON, 16 hex digits."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
