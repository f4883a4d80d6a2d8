"""Any server that speaks the OpenAI API, as data: standard fields only."""

from __future__ import annotations

from typing import Any

from engines.contract import Capabilities, Endpoint, Engine, GenerationRequest
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS


def fields(endpoint: Endpoint, request: GenerationRequest) -> dict[str, Any]:
    """Temperature, and usage in the stream. The standard knows no ignore-EOS.

    A server that has one is told through the workload's `extra_body`, such as `{"ignore_eos": true}`; one that refuses
    `stream_options` takes `{"stream_options": null}`.
    """
    found: dict[str, Any] = {"temperature": request.temperature}
    if request.stream:
        found["stream_options"] = {"include_usage": True}
    return found


OPENAI = Engine(
    name="openai",
    title="OpenAI-compatible server",
    capabilities=Capabilities(
        fixed_length=False,
        token_id_prompts=False,
        stream_usage=True,
        tokenize_path=None,
        version_path=None,
        metrics_path=None,
        health_path=None,
        adds_bos=True,
    ),
    dialects={Endpoint.COMPLETIONS: OPENAI_COMPLETIONS, Endpoint.CHAT: OPENAI_CHAT},
    fields=fields,
    metric_names={},
    docs_url="https://platform.openai.com/docs/api-reference",
)
