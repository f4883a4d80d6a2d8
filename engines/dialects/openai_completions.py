"""OpenAI text completions: `POST /v1/completions`."""

from __future__ import annotations

from typing import Any

from engines.contract import Capture, Completion, Dialect, GenerationRequest
from engines.dialects.openai_common import decode_openai


def body(request: GenerationRequest) -> dict[str, Any]:
    """JSON body before the engine's own fields; token ids go where text does."""
    prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    return {"model": request.model, "prompt": prompt, "max_tokens": request.max_tokens, "stream": request.stream}


def text_of(choice: dict[str, Any]) -> str:
    """A choice's text, streamed or not."""
    text = choice.get("text")
    return text if isinstance(text, str) else ""


def decode(capture: Capture) -> Completion:
    """Understands a response of this route."""
    return decode_openai(capture, text_of, text_of)


OPENAI_COMPLETIONS = Dialect(name="openai-completions", path="/v1/completions", body=body, decode=decode)
