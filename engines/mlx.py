"""mlx-lm's server, as data. Facts seen on 0.32.2: HTTP/1.0, bodies end with the connection."""

from __future__ import annotations

from engines.contract import Capabilities, Endpoint, Engine
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.openai_compatible import fields


def command(model: str, port: int, args: tuple[str, ...]) -> list[str]:
    """`mlx_lm.server`, on loopback. Where its script is not installed, `python -m mlx_lm server` is the same."""
    return ["mlx_lm.server", "--model", model, "--host", "127.0.0.1", "--port", str(port), *args]


MLX = Engine(
    name="mlx",
    title="mlx-lm",
    # `ignore_eos` is ignored. A length can be fixed by a `logit_bias` against EOS, whose id we do not know: give it in
    # the workload's `extra_body`, such as `{"logit_bias": {"2": -100}}`.
    capabilities=Capabilities(
        fixed_length=False,
        token_id_prompts=False,
        stream_usage=True,
        tokenize_path=None,
        version_path=None,
        metrics_path=None,
        health_path="/health",
        adds_bos=True,
    ),
    dialects={Endpoint.COMPLETIONS: OPENAI_COMPLETIONS, Endpoint.CHAT: OPENAI_CHAT},
    fields=fields,
    metric_names={},
    command=command,
    docs_url="https://github.com/ml-explore/mlx-lm",
)
