"""Bud Runtime, as data: an OpenAI-compatible gateway before servers it runs itself, reached with a bearer token."""

from __future__ import annotations

from engines.contract import Capabilities, Endpoint, Engine
from engines.dialects.openai_chat import OPENAI_CHAT
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from engines.openai_compatible import fields

BUD = Engine(
    name="bud",
    title="Bud Runtime",
    # Whether the gateway hands `ignore_eos` on to the server behind it is not known; `extra_body` may ask for it.
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
    docs_url="https://github.com/BudEcosystem/bud-runtime",
)
