"""The least time the hardware allows for a piece of work: max(ΣFLOPs ÷ peak, Σbytes ÷ bandwidth) over the whole of it.

A strict lower bound, never a sum of phases (prefill of one request may hide under the decoding of another), so
whatever is not certain is left out: activations, the all-reduce of tensor parallelism, softmax, sampling. It holds for
engines that give one token a step and request; speculative decoding can pass it.
Source: the roofline model (Williams, Waterman, Patterson, 2009) over the model arithmetic of `engines.models`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engines.hardware import Hardware, find_hardware
from engines.models import ModelShape, find_model


@dataclass(frozen=True, slots=True)
class Precision:
    """What a stated precision means for the bound."""

    bytes_per_weight: float
    #: tensor peak over the BF16 peak: weight-only quantisation computes in 16 bits, 8-bit activations run twice as fast
    peak_factor: float
    #: least bytes of one cached key or value
    bytes_per_kv_value: float


_BF16 = Precision(2.0, 1.0, 2.0)
_EIGHT_BIT = Precision(1.0, 2.0, 1.0)
_WEIGHTS_INT8 = Precision(1.0, 1.0, 2.0)
_WEIGHTS_INT4 = Precision(0.5, 1.0, 2.0)

#: Stated precision, upper case -> what it means. Scales, zero points and layers kept in 16 bits are left out: it is a
#: lower bound.
PRECISIONS = {
    "FP32": Precision(4.0, 1.0, 2.0),
    "BF16": _BF16,
    "FP16": _BF16,
    "FP8": _EIGHT_BIT,
    "INT8": _EIGHT_BIT,
    "W8A8": _EIGHT_BIT,
    "GPTQ-INT8": _WEIGHTS_INT8,
    "W8A16": _WEIGHTS_INT8,
    "INT4": _WEIGHTS_INT4,
    "GPTQ-INT4": _WEIGHTS_INT4,
    "AWQ": _WEIGHTS_INT4,
    "W4A16": _WEIGHTS_INT4,
}

#: The dtype the known models ship in, and the one every engine takes when told nothing.
SHIPPED_PRECISION = "BF16"


@dataclass(frozen=True, slots=True)
class Work:
    """One request's tokens."""

    input_tokens: int
    output_tokens: int
    #: prompt tokens the engine had cached, and so did not compute
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class LeastTime:
    """The bound, and what it was made of."""

    flops: float
    bytes: float
    compute_s: float
    memory_s: float
    precision: str

    @property
    def least_s(self) -> float:
        """No engine can do the work in less."""
        return max(self.compute_s, self.memory_s)


def least_time(
    work: Sequence[Work],
    *,
    model: str | None,
    hardware: str | None,
    precision: str | None = None,
    gpus: int = 1,
    concurrency: int | None = None,
) -> LeastTime | None:
    """The least time of `work`; `None` where model, hardware or precision is not known, or there is no work.

    `None` too where the weights do not fit the memory: then the host's memory and bus bound the run, not the card.

    Args:
        precision: as stated; `None` takes the dtype the model ships in.
        gpus: divide the work between them; what they must tell each other is left out.
        concurrency: most requests in flight; `None`: all at once. A step serves at most so many, so few in flight
            means that the weights are read more often.
    """
    shape, card = find_model(model), find_hardware(hardware)
    stated = (precision or SHIPPED_PRECISION).upper()
    meaning = PRECISIONS.get(stated)
    if shape is None or card is None or meaning is None or not work:
        return None
    if not _fits(shape, card, meaning, gpus):
        return None
    flops = sum(_flops(shape, one) for one in work)
    moved = _least_bytes(shape, meaning, work, concurrency)
    return LeastTime(
        flops=flops,
        bytes=moved,
        compute_s=flops / (card.flops_per_s * meaning.peak_factor * gpus),
        memory_s=moved / (card.memory_bytes_per_s * gpus),
        precision=stated,
    )


def _fits(shape: ModelShape, card: Hardware, precision: Precision, gpus: int) -> bool:
    return shape.parameters * precision.bytes_per_weight <= card.memory_bytes * gpus


def _flops(shape: ModelShape, work: Work) -> float:
    """The first output token comes from the prompt's pass; each further one sees all before it."""
    computed = max(work.input_tokens - work.cached_tokens, 1)
    steps = max(work.output_tokens - 1, 0)
    return shape.prefill_flops(computed) + steps * shape.decode_flops(_mean_context(work))


def _least_bytes(shape: ModelShape, precision: Precision, work: Sequence[Work], concurrency: int | None) -> float:
    """Best batching: a step serves every request in flight, so the longest output (or the slots) sets the steps."""
    tokens = [max(one.output_tokens - 1, 0) for one in work]
    steps = max(tokens)
    if concurrency is not None:
        steps = max(steps, math.ceil(sum(tokens) / concurrency))
    per_context = shape.kv_bytes_per_token(precision.bytes_per_kv_value)
    cache = sum(count * _mean_context(one) * per_context for count, one in zip(tokens, work, strict=True))
    return steps * shape.weight_bytes(precision.bytes_per_weight) + cache


def _mean_context(work: Work) -> float:
    """Decode step k (1 to output - 1) reads input + k tokens; both costs are linear in it, so the mean serves."""
    return work.input_tokens + work.output_tokens / 2
