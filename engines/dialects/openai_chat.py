"""OpenAI chat completions: `POST /v1/chat/completions`, one user message."""

from __future__ import annotations

from typing import Any

from engines.contract import Capture, Completion, Dialect, GenerationRequest
from engines.dialects.openai_common import decode_openai
from engines.errors import RequestNotPossible

#: where generated text may be: the answer, and what reasoning models think first (vLLM's and SGLang's names for it)
_TEXT_FIELDS = ("reasoning", "reasoning_content", "content", "refusal")


def body(request: GenerationRequest) -> dict[str, Any]:
    """JSON body before the engine's own fields.

    Raises:
        RequestNotPossible: the prompt is token ids, which a chat message cannot carry.
    """
    if not isinstance(request.prompt, str):
        raise RequestNotPossible("chat messages are text; use the completions endpoint for token ids", field="prompts")
    messages = [{"role": "user", "content": request.prompt}]
    return {"model": request.model, "messages": messages, "max_tokens": request.max_tokens, "stream": request.stream}


def delta_text(choice: dict[str, Any]) -> str:
    """Generated text of a streamed choice. The role that opens a stream is none."""
    return _message_text(choice.get("delta"))


def answer_text(choice: dict[str, Any]) -> str:
    """Generated text of a choice that did not stream."""
    return _message_text(choice.get("message"))


def _message_text(message: Any) -> str:
    if not isinstance(message, dict):
        return ""
    # Servers that send both names of the reasoning send the same text twice.
    parts = list(dict.fromkeys(p for f in _TEXT_FIELDS[:2] if isinstance(p := message.get(f), str)))
    parts += [p for f in _TEXT_FIELDS[2:] if isinstance(p := message.get(f), str)]
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts += [p for f in ("name", "arguments") if isinstance(p := function.get(f), str)]
    return "".join(parts)


def decode(capture: Capture) -> Completion:
    """Understands a response of this route."""
    return decode_openai(capture, delta_text, answer_text)


OPENAI_CHAT = Dialect(name="openai-chat", path="/v1/chat/completions", body=body, decode=decode)
