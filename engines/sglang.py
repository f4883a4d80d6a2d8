"""SGLang, as data. Fields read in its sources, not seen on the wire here."""

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
    metric_names={},
    command=command,
    docs_url="https://docs.sglang.ai",
)
