"""Which engine, model and GPU the simulated engine stands for, as data."""

from __future__ import annotations

from dataclasses import dataclass

from engines.hardware import HARDWARE, Hardware
from engines.models import MODELS, ModelShape
from engines.simulated.scheduler import Policy, Scheduler
from engines.simulated.step_time import Fitted, StepTime

#: What `fit.fit_all` gives; a test holds them against it.
FITTED = {
    "vllm": Fitted(prefill_efficiency=0.3572, decode_efficiency=0.8009, overhead_s=0.003039),
    "tgi": Fitted(prefill_efficiency=0.3571, decode_efficiency=0.8008, overhead_s=0.003039),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One simulated server."""

    name: str
    #: "vllm" or "tgi": whose wire it speaks and whose scheduler it runs
    engine: str
    engine_version: str
    model: ModelShape
    hardware: Hardware
    #: most tokens of a step (vLLM's max-num-batched-tokens), or of a prefill (TGI's max-batch-prefill-tokens)
    prefill_budget_tokens: int
    max_running: int
    #: share of the GPU's memory that weights and KV cache may take
    memory_ratio: float
    #: requests above it are refused at once (TGI's max-concurrent-requests); `None`: queued without end
    max_concurrent_requests: int | None
    #: set TCP_NODELAY: vLLM's server does, TGI's does not
    nodelay: bool
    #: tokens that the KV cache holds; `None`: what the memory gives
    stated_kv_tokens: int | None = None

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens whose KV fits the memory that the BF16 weights leave."""
        if self.stated_kv_tokens is not None:
            return self.stated_kv_tokens
        free_bytes = self.hardware.memory_bytes * self.memory_ratio - 2.0 * self.model.parameters
        return int(free_bytes / self.model.kv_bytes_per_token())

    def scheduler(self, fitted: Fitted | None = None) -> Scheduler:
        """A new scheduler; `fitted` stands in for the committed parameters."""
        times = StepTime(self.model, self.hardware, fitted or FITTED[self.engine])
        policy = Policy(self.engine == "vllm", self.prefill_budget_tokens, self.max_running, self.kv_capacity_tokens)
        return Scheduler(policy, times)


_A100 = HARDWARE["A100-80GB"]
_QWEN = MODELS["Qwen/Qwen2.5-7B-Instruct"]
_MISTRAL = MODELS["mistralai/Mistral-7B-Instruct-v0.2"]

PROFILES = {
    p.name: p
    for p in (
        Profile("vllm-qwen2.5-7b", "vllm", "0.32.0", _QWEN, _A100, 2048, 256, 0.92, None, True),
        Profile("vllm-mistral-7b", "vllm", "0.32.0", _MISTRAL, _A100, 2048, 256, 0.92, None, True),
        Profile("tgi-qwen2.5-7b", "tgi", "3.3.5", _QWEN, _A100, 20_800, 1024, 0.95, 128, False),
        Profile("tgi-mistral-7b", "tgi", "3.3.5", _MISTRAL, _A100, 20_800, 1024, 0.95, 128, False),
    )
}
