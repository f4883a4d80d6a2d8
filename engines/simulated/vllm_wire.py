"""vLLM's wire: how it reads a request, and how it words its refusals. Shapes as vLLM 0.32.0 sends them."""

from __future__ import annotations

import json
from typing import Any

from engines.simulated.ask import Ask, Refusal, dump
from engines.simulated.profiles import Profile
from engines.simulated.tokenizer import Tokenizer


def error(status: int, message: str, kind: str, param: str | None = None) -> bytes:
    """The body of an error."""
    return dump({"error": {"message": message, "type": kind, "param": param, "code": status}})


def _bad(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, error(400, message, "BadRequestError", param))


def read_json(body: bytes) -> dict[str, Any]:
    """The request's JSON object.

    Raises:
        Refusal: no JSON, or no object.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as broken:
        position = getattr(broken, "pos", 0)
        reason = getattr(broken, "msg", "Expecting value")
        detail = {
            "type": "json_invalid",
            "loc": f"body.{position}",
            "msg": "JSON decode error",
            "input": "<dict of 0 items>",
            "ctx": {"error": reason},
        }
        message = f"1 validation error:\n  {detail}"
        raise Refusal(400, error(400, message, "Bad Request", f"body.{position}")) from None
    if not isinstance(fields, dict):
        raise Refusal(400, error(400, "Input should be a valid dictionary", "Bad Request", "body"))
    return fields


class VllmWire:
    """One server's reading of requests."""

    def __init__(self, profile: Profile, model: str, context: int, tokenizer: Tokenizer) -> None:
        self.profile = profile
        self.model = model
        self.context = context
        self.tokenizer = tokenizer

    def read_ask(self, route: str, body: bytes) -> Ask:
        """Understand a generation request.

        Raises:
            Refusal: as vLLM refuses it.
        """
        fields = read_json(body)
        self._check_model(fields)
        prompt, text = self._chat_prompt(fields) if route == "chat" else self._prompt(fields)
        max_tokens = self._max_tokens(fields, route, len(prompt))
        if _integer(fields, "n", 1) != 1:
            raise _bad("the simulated engine gives one choice a request: leave n out or set it to 1", "n")
        options = fields.get("stream_options") or {}
        if not isinstance(options, dict):
            raise _bad("Input should be a valid dictionary", "stream_options")
        stream = _flag(fields, "stream")
        if options and not stream:
            raise _bad("Stream options can only be defined when `stream=True`.", "stream_options")
        usage = bool(options.get("include_usage"))
        return Ask(
            route=route,
            stream=stream,
            prompt=prompt,
            max_tokens=max_tokens,
            ignore_eos=_flag(fields, "ignore_eos"),
            min_tokens=_integer(fields, "min_tokens", 0),
            usage=usage,
            running_usage=usage and bool(options.get("continuous_usage_stats")),
            return_ids=_flag(fields, "return_token_ids"),
            echo=text if _flag(fields, "echo") and route != "chat" else "",
        )

    def tokenize(self, body: bytes) -> bytes:
        """`/tokenize`: of a prompt, or of messages."""
        fields = read_json(body)
        self._check_model(fields)
        if "messages" in fields:
            ids, _ = self._chat_prompt(fields)
        else:
            text = fields.get("prompt")
            if not isinstance(text, str):
                raise _bad("Field required: prompt", "prompt")
            special = fields.get("add_special_tokens", True) is not False
            ids = self.tokenizer.encode_prompt(text) if special else self.tokenizer.encode(text)
        strings = [self.tokenizer.text(token) for token in ids] if fields.get("return_token_strs") else None
        return dump({"count": len(ids), "max_model_len": self.context, "tokens": ids, "token_strs": strings})

    def detokenize(self, body: bytes) -> bytes:
        """`/detokenize`: ids to text."""
        fields = read_json(body)
        self._check_model(fields)
        return dump({"prompt": self.tokenizer.decode(self._ids(fields.get("tokens"), "tokens"))})

    def _check_model(self, fields: dict[str, Any]) -> None:
        model = fields.get("model")
        if model is not None and model != self.model:
            message = f"The model `{model}` does not exist. Valid aliases: {self.model}."
            raise Refusal(404, error(404, message, "NotFoundError", "model"))

    def _prompt(self, fields: dict[str, Any]) -> tuple[list[int], str]:
        prompt = fields.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return self.tokenizer.encode_prompt(prompt), prompt
        if prompt is None:
            raise _bad("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
        ids = self._ids(prompt, "prompt")
        return ids, self.tokenizer.decode(ids)

    def _ids(self, value: Any, param: str) -> list[int]:
        if not isinstance(value, list) or not value or not all(type(token) is int for token in value):
            raise _bad(f"{param} must be a string or one non-empty list of token ids", param)
        limit = self.profile.model.vocab
        beyond = next((token for token in value if not 0 <= token < limit), None)
        if beyond is not None:
            raise _bad(f"Token id {beyond} is out of vocabulary", param)
        return value

    def _chat_prompt(self, fields: dict[str, Any]) -> tuple[list[int], str]:
        turns = read_turns(fields.get("messages"))
        if turns is None:
            raise _bad("messages must be a non-empty list of objects with role and content", "messages")
        generation_prompt = fields.get("add_generation_prompt", True) is not False
        return self.tokenizer.encode_chat(turns, generation_prompt=generation_prompt), ""

    def _max_tokens(self, fields: dict[str, Any], route: str, prompt_tokens: int) -> int:
        room = self.context - prompt_tokens
        name = "max_completion_tokens" if fields.get("max_completion_tokens") is not None else "max_tokens"
        asked = _integer(fields, name, room if route == "chat" else 16)
        if asked > self.context:
            raise _bad(
                f"{name}={asked} cannot be greater than max_model_len={self.context}. "
                f"Please request fewer output tokens. (parameter={name}, value={asked})",
                name,
            )
        if asked < 1:
            raise _bad(f"{name} must be at least 1, got {asked}.", name)
        if room < asked:
            raise _bad(
                f"This model's maximum context length is {self.context} tokens. However, you requested {asked} output "
                f"tokens and your prompt contains {prompt_tokens} input tokens, for a total of "
                f"{prompt_tokens + asked} tokens. Please reduce the length of the input prompt or the number of "
                "requested output tokens.",
                "input_tokens",
            )
        return asked


def read_turns(messages: Any) -> list[tuple[str, str]] | None:
    """(role, content) of OpenAI messages; `None` where they are none."""
    if not isinstance(messages, list) or not messages:
        return None
    turns = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return None
        content = message.get("content")
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "".join(part for part in parts if isinstance(part, str))
        if not isinstance(content, str):
            return None
        turns.append((message["role"], content))
    return turns


def _integer(fields: dict[str, Any], name: str, default: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise _bad(f"{name}: Input should be a valid integer", name)
    return value


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if type(value) is not bool:
        raise _bad(f"{name}: Input should be a valid boolean", name)
    return value
