"""Text Generation Inference, as data. Facts from its 3.3 OpenAPI document, metrics and sources."""

from __future__ import annotations

from typing import Any

from engines.contract import Capabilities, Endpoint, Engine, GenerationRequest
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.dialects.tgi_generate import TGI_GENERATE


def fields(endpoint: Endpoint, request: GenerationRequest) -> dict[str, Any]:
    """Greedy, as each route wants it; nothing fixes the length, for TGI has no ignore-EOS.

    The OpenAI routes sample unless `temperature` is 0; the native ones refuse 0 and are greedy unless asked. A
    repetition penalty left out is none. Completions always count in their last chunk; chat has to be asked.
    """
    match endpoint:
        case Endpoint.NATIVE if request.temperature > 0:
            return {"parameters": {"do_sample": True, "temperature": request.temperature}}
        case Endpoint.NATIVE:
            return {"parameters": {"do_sample": False}}
        case Endpoint.CHAT if request.stream:
            return {"temperature": request.temperature, "stream_options": {"include_usage": True}}
    return {"temperature": request.temperature}


def command(model: str, port: int, args: tuple[str, ...]) -> list[str]:
    """`text-generation-launcher`, on loopback, without its telemetry."""
    address = ["--hostname", "127.0.0.1", "--port", str(port)]
    return ["text-generation-launcher", "--model-id", model, *address, "--usage-stats", "off", *args]


TGI = Engine(
    name="tgi",
    title="Text Generation Inference",
    capabilities=Capabilities(
        fixed_length=False,
        token_id_prompts=False,
        stream_usage=True,
        tokenize_path="/tokenize",
        version_path="/info",
        metrics_path="/metrics",
        health_path="/health",
        adds_bos=True,
    ),
    dialects={
        Endpoint.COMPLETIONS: OPENAI_COMPLETIONS,
        Endpoint.CHAT: OPENAI_CHAT,
        Endpoint.NATIVE: TGI_GENERATE,
    },
    fields=fields,
    # Its counters have no `_total`; the token counts are the sums of histograms over requests. It has no time to first
    # token, no KV cache in use, no preemptions and no prefix cache's hits.
    metric_names={
        "requests_running": "tgi_batch_current_size",
        "requests_waiting": "tgi_queue_size",
        "prompt_tokens_total": "tgi_request_input_length_sum",
        "generation_tokens_total": "tgi_request_generated_tokens_sum",
        "requests_success_total": "tgi_request_success",
        "queue_time_seconds_sum": "tgi_request_queue_duration_sum",
        "queue_time_seconds_count": "tgi_request_queue_duration_count",
    },
    command=command,
    docs_url="https://huggingface.co/docs/text-generation-inference",
)
