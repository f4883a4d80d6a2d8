"""The published figures that the simulated engine is fitted on, and those it must predict.

Sources: (a) "Benchmarking Mistral 7B Inference performance on GPUs", Bud, 2024-11-25: Mistral-7B-Instruct-v0.2 on an
A100; captioned 100 prompts of 128 tokens, but its input totals are exactly 101 × 267. (b) Qwen2.5 speed benchmark,
documentation of the v2.5 series: batch size 1, 2,048 new tokens, one A100 80GB, speed = generated tokens ÷ time; vLLM
0.6.3, BF16.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One figure and the work behind it; exactly one of `duration_s` and `output_tokens_per_s` was published."""

    profile: str
    requests: int
    input_tokens: int
    output_tokens: int
    duration_s: float | None
    output_tokens_per_s: float | None
    #: fitted on, else held out
    fitted: bool

    @property
    def published(self) -> float:
        """The figure, seconds or tokens/s."""
        figure = self.duration_s if self.duration_s is not None else self.output_tokens_per_s
        assert figure is not None
        return figure


ROWS = (
    PublishedRow("vllm-mistral-7b", 101, 267, 128, 7.05, None, True),
    PublishedRow("tgi-mistral-7b", 101, 267, 128, 6.91, None, True),
    PublishedRow("vllm-qwen2.5-7b", 1, 1, 2048, None, 84.28, True),
    PublishedRow("vllm-qwen2.5-7b", 1, 6144, 2048, None, 80.70, False),
    PublishedRow("vllm-qwen2.5-7b", 1, 14336, 2048, None, 77.69, False),
    PublishedRow("vllm-qwen2.5-7b", 1, 30720, 2048, None, 70.33, False),
)
