"""How long one step of a continuous batch takes: the roofline of its work, plus an overhead.

    step_s = FLOPs ÷ (peak × prefill_efficiency) + bytes ÷ (bandwidth × decode_efficiency) + overhead_s

The two roofs are added, not the larger taken: a step runs many kernels one after another, some bound by arithmetic and
some by memory, and a batch of a hundred sequences is near both roofs. FLOPs: every token of a prompt chunk and every
decoded token, attention included, the LM head once a sequence that gives a token. Bytes: the weights once a step, and
the KV cache of every sequence in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.hardware import Hardware
from engines.models import ModelShape


@dataclass(frozen=True, slots=True)
class Fitted:
    """The three parameters of an engine; everything else is arithmetic."""

    #: share of the GPU's FLOP/s that its arithmetic reaches
    prefill_efficiency: float
    #: share of the GPU's memory bandwidth that its reads reach
    decode_efficiency: float
    #: scheduling, sampling, launching: each step, whatever is in it
    overhead_s: float


class StepTime:
    """Seconds of a step's parts for one model on one GPU."""

    def __init__(self, model: ModelShape, hardware: Hardware, fitted: Fitted) -> None:
        s_per_flop = 1 / (hardware.flops_per_s * fitted.prefill_efficiency)
        s_per_byte = 1 / (hardware.memory_bytes_per_s * fitted.decode_efficiency)
        #: of any step: the weights are read once
        self.base_s = model.weight_bytes() * s_per_byte + fitted.overhead_s
        self._prompt_token_s = 2.0 * model.prefill_parameters * s_per_flop
        self._head_s = 2.0 * model.embedding_parameters * s_per_flop
        self._attention_s = model.attention_flops_per_token(1) * s_per_flop
        self._kv_s = model.kv_bytes_per_token() * s_per_byte
        self._decode_token_s = 2.0 * model.decode_parameters * s_per_flop

    def prefill_s(self, before: int, tokens: int, *, completes: bool) -> float:
        """A chunk of `tokens` of one prompt, after `before` tokens of it; the last chunk runs the LM head."""
        context = before + tokens / 2
        head_s = self._head_s if completes else 0.0
        return tokens * (self._prompt_token_s + self._attention_s * context) + self._kv_s * before + head_s

    def decode_s(self, sequences: int, context_tokens: int) -> float:
        """One token for each of `sequences`, which see `context_tokens` tokens in all."""
        return sequences * self._decode_token_s + context_tokens * (self._attention_s + self._kv_s)
