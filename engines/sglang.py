"""SGLang, as data. Fields and metric names read in its sources and documents, not seen on the wire here.

It serves /metrics only with `--enable-metrics`, and tells cached tokens in usage only with `--enable-cache-report`.
"""

from __future__ import annotations

from engines.contract import Capabilities, Endpoint, Engine
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.vllm import fields


def command(model: str, port: int, args: tuple[str, ...]) -> list[str]:
    """SGLang's server module, on loopback."""
    start = ["python3", "-m", "sglang.launch_server", "--model-path", model]
    return [*start, "--host", "127.0.0.1", "--port", str(port), *args]


SGLANG = Engine(
    name="sglang",
    title="SGLang",
    capabilities=Capabilities(
        fixed_length=True,
        token_id_prompts=True,
        stream_usage=True,
        tokenize_path=None,
        version_path="/get_server_info",
        metrics_path="/metrics",
        health_path="/health",
        adds_bos=True,
    ),
    dialects={Endpoint.COMPLETIONS: OPENAI_COMPLETIONS, Endpoint.CHAT: OPENAI_CHAT},
    # It took over vLLM's fields: `ignore_eos`, `repetition_penalty`, running usage.
    fields=fields,
    metric_names={
        "requests_running": "sglang:num_running_reqs",
        "requests_waiting": "sglang:num_queue_reqs",
        # Tokens, not requests, that the radix cache served.
        "prefix_cache_hits_total": "sglang:cached_tokens_total",
        "prompt_tokens_total": "sglang:prompt_tokens_total",
        "generation_tokens_total": "sglang:generation_tokens_total",
        "time_to_first_token_seconds_sum": "sglang:time_to_first_token_seconds_sum",
        "time_to_first_token_seconds_count": "sglang:time_to_first_token_seconds_count",
    },
    command=command,
    docs_url="https://docs.sglang.ai",
)
