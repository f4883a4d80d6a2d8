"""`transformers serve`, as data. Facts seen on 5.23.0."""

from __future__ import annotations

import json
from typing import Any

from engines.contract import Capabilities, Endpoint, Engine, GenerationRequest
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS


def fields(endpoint: Endpoint, request: GenerationRequest) -> dict[str, Any]:
    """A field it does not know is a 422, so what vLLM takes as fields goes into `generation_config`, a JSON string.

    It replaces the model's own as a whole, EOS ids included. That is wanted for a fixed length; a request that may
    stop early keeps the model's own and states the temperature only. Usage always comes, and is not to be asked for.
    """
    if not request.fixed_length:
        return {"temperature": request.temperature}
    config: dict[str, Any] = {
        "max_new_tokens": request.max_tokens,
        "do_sample": request.temperature > 0,
        "repetition_penalty": 1.0,
        "eos_token_id": -1,
        "pad_token_id": 0,
    }
    if request.temperature > 0:
        config["temperature"] = request.temperature
    return {"generation_config": json.dumps(config, separators=(",", ":"))}


def command(model: str, port: int, args: tuple[str, ...]) -> list[str]:
    """`transformers serve`, on loopback, pinned to one model."""
    return ["transformers", "serve", model, "--host", "127.0.0.1", "--port", str(port), *args]


TRANSFORMERS = Engine(
    name="transformers",
    title="Transformers",
    capabilities=Capabilities(
        fixed_length=True,
        token_id_prompts=False,
        stream_usage=True,
        tokenize_path=None,
        version_path=None,
        metrics_path=None,
        health_path="/health",
        adds_bos=True,
        strict_fields=True,
    ),
    dialects={Endpoint.COMPLETIONS: OPENAI_COMPLETIONS, Endpoint.CHAT: OPENAI_CHAT},
    fields=fields,
    metric_names={},
    command=command,
    docs_url="https://huggingface.co/docs/transformers/serving",
)
