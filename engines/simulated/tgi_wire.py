"""TGI's wire: how it reads a request, and how it words its refusals. Shapes as TGI 3.3 sends them.

Its OpenAI routes ignore `model` and fields they do not know, `ignore_eos` included. On a stream every refusal after the
JSON was read comes as an event inside a 200; the server asks `in_stream` for it.
"""

from __future__ import annotations

import json
from typing import Any

from engines.simulated.ask import Ask, Refusal, dump
from engines.simulated.profiles import Profile
from engines.simulated.tokenizer import Tokenizer
from engines.simulated.vllm_wire import read_turns

#: what `max_new_tokens` and `max_tokens` are where they are left out
DEFAULT_NEW_TOKENS = 1024


def error(message: str, kind: str) -> bytes:
    """The body of an error."""
    return dump({"error": message, "error_type": kind})


def overloaded() -> Refusal:
    """More requests than `max-concurrent-requests`: refused at once, never queued."""
    return Refusal(429, error("Model is overloaded", "overloaded"))


def in_stream(refusal: Refusal) -> bytes:
    """A refusal as the event that a stream carries inside its 200."""
    return b"data:" + refusal.body + b"\n\n"


def _invalid(message: str) -> Refusal:
    return Refusal(422, error(f"Input validation error: {message}", "validation"))


def _unreadable(message: str, *, status: int = 422) -> Refusal:
    """The web framework's own refusal, plain text, on streams too."""
    return Refusal(status, message.encode(), content_type="text/plain; charset=utf-8")


def read_json(body: bytes) -> dict[str, Any]:
    """The request's JSON object.

    Raises:
        Refusal: no JSON (400), or no object (422).
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise _unreadable("Failed to parse the request body as JSON", status=400) from None
    if not isinstance(fields, dict):
        raise _unreadable("Failed to deserialize the JSON body into the target type: invalid type")
    return fields


class TgiWire:
    """One server's reading of requests."""

    def __init__(self, profile: Profile, model: str, context: int, tokenizer: Tokenizer) -> None:
        self.profile = profile
        self.model = model
        self.context = context
        self.tokenizer = tokenizer

    def read_ask(self, route: str, body: bytes, path: str) -> Ask:
        """Understand a generation request.

        Raises:
            Refusal: as TGI refuses it. `asks_stream` tells whether it goes into a stream.
        """
        fields = read_json(body)
        if route == "native":
            return self._native(fields, path)
        wants_stream = _typed(fields, "stream", bool, False)
        max_tokens = _typed(fields, "max_tokens", int, None)
        temperature = _typed(fields, "temperature", (int, float), None)
        if temperature is not None and temperature < 0:
            raise _invalid("`temperature` must be positive")
        if route == "chat":
            turns = read_turns(fields.get("messages"))
            if turns is None:
                raise _unreadable("Failed to deserialize the JSON body into the target type: messages")
            prompt = self.tokenizer.encode_chat(turns)
        else:
            text = fields.get("prompt")
            if isinstance(text, list) and len(text) == 1:
                text = text[0]
            if not isinstance(text, str):
                raise _unreadable("Failed to deserialize the JSON body into the target type: prompt: expected a string")
            prompt = self.tokenizer.encode_prompt(text)
        options = fields.get("stream_options")
        usage = isinstance(options, dict) and bool(options.get("include_usage"))
        return Ask(route, wants_stream, prompt, self._length(prompt, max_tokens), usage=usage)

    def _native(self, fields: dict[str, Any], path: str) -> Ask:
        at_root = path == "/"
        stream = path == "/generate_stream" or (at_root and _typed(fields, "stream", bool, False))
        text = fields.get("inputs")
        if not isinstance(text, str):
            raise _unreadable("Failed to deserialize the JSON body into the target type: missing field `inputs`")
        parameters = fields.get("parameters")
        if parameters is None:
            parameters = {}
        if not isinstance(parameters, dict):
            raise _unreadable("Failed to deserialize the JSON body into the target type: parameters")
        temperature = _typed(parameters, "temperature", (int, float), None)
        if temperature is not None and temperature <= 0:
            raise _invalid("`temperature` must be strictly positive")
        if stream and _typed(parameters, "decoder_input_details", bool, False):
            raise _invalid("`decoder_input_details` == true is not supported when streaming tokens")
        top_p = _typed(parameters, "top_p", (int, float), None)
        if top_p is not None and not 0 < top_p < 1:
            raise _invalid("`top_p` must be > 0.0 and < 1.0")
        max_tokens = _typed(parameters, "max_new_tokens", int, None)
        details = _typed(parameters, "details", bool, False)
        echo = text if _typed(parameters, "return_full_text", bool, at_root) else ""
        if not text:
            raise _invalid("`inputs` cannot be empty")
        prompt = self.tokenizer.encode_prompt(text)
        length = self._length(prompt, max_tokens)
        return Ask("native", stream, prompt, length, details=details, echo=echo, listed=at_root)

    def _length(self, prompt: list[int], asked: int | None) -> int:
        longest_input = self.context - 1
        if len(prompt) > longest_input:
            raise _invalid(f"`inputs` must have less than {longest_input} tokens. Given: {len(prompt)}")
        if asked is None:
            return min(DEFAULT_NEW_TOKENS, self.context - len(prompt))
        if asked <= 0:
            raise _invalid("`max_new_tokens` must be strictly positive")
        if len(prompt) + asked > self.context:
            raise _invalid(
                f"`inputs` tokens + `max_new_tokens` must be <= {self.context}. "
                f"Given: {len(prompt)} `inputs` tokens and {asked} `max_new_tokens`"
            )
        return asked

    def tokenize(self, body: bytes) -> bytes:
        """`/tokenize`: a list of tokens with their places in the text, in characters."""
        fields = read_json(body)
        text = fields.get("inputs")
        if not isinstance(text, str):
            raise _unreadable("Failed to deserialize the JSON body into the target type: missing field `inputs`")
        tokens = []
        data = text.encode("utf-8", "surrogatepass")
        stop = 0
        for token in self.tokenizer.encode_prompt(text):
            start = stop
            stop += self.tokenizer.byte_length(token)
            places = (len(data[:start].decode("utf-8", "ignore")), len(data[:stop].decode("utf-8", "ignore")))
            tokens.append({"id": token, "text": self.tokenizer.text(token), "start": places[0], "stop": places[1]})
        return dump(tokens)

    def info(self) -> bytes:
        """`/info`."""
        info = {
            "model_id": self.model,
            "model_sha": None,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": self.profile.max_concurrent_requests,
            "max_best_of": 2,
            "max_stop_sequences": 4,
            "max_input_tokens": self.context - 1,
            "max_total_tokens": self.context,
            "validation_workers": 2,
            "max_client_batch_size": 4,
            "router": "text-generation-router",
            "version": self.profile.engine_version,
            "sha": None,
            "docker_label": None,
        }
        return dump(info)


def asks_stream(path: str, body: bytes) -> bool:
    """A refused request had asked for a stream, by its route or in its body."""
    if path in ("/generate", "/generate_stream"):
        return path == "/generate_stream"
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("stream") is True


def _typed(fields: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _unreadable(f"Failed to deserialize the JSON body into the target type: {name}: invalid type")
    return value
