"""vLLM, as data. Facts seen on 0.32.0; metric names also in 0.33.0."""

from __future__ import annotations

from typing import Any

from engines.contract import Capabilities, Endpoint, Engine, GenerationRequest
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS


def fields(endpoint: Endpoint, request: GenerationRequest) -> dict[str, Any]:
    """Neutral sampling, stated outright: what is left out comes from the model's `generation_config.json`.

    `ignore_eos` alone fixes the length; `min_tokens` would add a logits processor. Running usage is asked for, because
    chunks are not tokens: it costs some 70 bytes a chunk and is what tells the tokens in each.
    """
    found: dict[str, Any] = {"temperature": request.temperature, "repetition_penalty": 1.0}
    if request.fixed_length:
        found["ignore_eos"] = True
    if request.stream:
        found["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    return found


def command(model: str, port: int, args: tuple[str, ...]) -> list[str]:
    """`vllm serve`, on loopback."""
    return ["vllm", "serve", model, "--host", "127.0.0.1", "--port", str(port), *args]


VLLM = Engine(
    name="vllm",
    title="vLLM",
    capabilities=Capabilities(
        fixed_length=True,
        token_id_prompts=True,
        stream_usage=True,
        tokenize_path="/tokenize",
        version_path="/version",
        metrics_path="/metrics",
        health_path="/health",
        adds_bos=True,
    ),
    dialects={Endpoint.COMPLETIONS: OPENAI_COMPLETIONS, Endpoint.CHAT: OPENAI_CHAT},
    fields=fields,
    metric_names={
        "requests_running": "vllm:num_requests_running",
        "requests_waiting": "vllm:num_requests_waiting",
        "kv_cache_usage_ratio": "vllm:kv_cache_usage_perc",
        "prefix_cache_queries_total": "vllm:prefix_cache_queries_total",
        "prefix_cache_hits_total": "vllm:prefix_cache_hits_total",
        "preemptions_total": "vllm:num_preemptions_total",
        "prompt_tokens_total": "vllm:prompt_tokens_total",
        "generation_tokens_total": "vllm:generation_tokens_total",
        "requests_success_total": "vllm:request_success_total",
        "time_to_first_token_seconds_sum": "vllm:time_to_first_token_seconds_sum",
        "time_to_first_token_seconds_count": "vllm:time_to_first_token_seconds_count",
        "queue_time_seconds_sum": "vllm:request_queue_time_seconds_sum",
        "queue_time_seconds_count": "vllm:request_queue_time_seconds_count",
        "process_start_time_seconds": "process_start_time_seconds",
    },
    command=command,
    launch_env={"VLLM_NO_USAGE_STATS": "1"},
    docs_url="https://docs.vllm.ai",
)
