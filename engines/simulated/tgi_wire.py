"""TGI's wire: how it reads a request, words its refusals, and writes events and answers. Shapes as TGI 3.3 sends them.

Its OpenAI routes ignore `model` and fields they do not know, `ignore_eos` included. On a stream every refusal after the
JSON was read comes as an event inside a 200; the server asks `in_stream` for it.
"""

from __future__ import annotations

import json
from typing import Any

from engines.clock import utc_now
from engines.simulated.ask import Ask, Refusal, Timing, dump
from engines.simulated.outputs import Output
from engines.simulated.profiles import Profile
from engines.simulated.tokenizer import EOS_ID, Tokenizer
from engines.simulated.vllm_wire import read_turns

FINGERPRINT = "3.3.5-native"
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

    def read_ask(self, route: str, body: bytes, *, stream: bool | None = None) -> Ask:
        """Understand a generation request; `stream` where the route itself says so.

        Raises:
            Refusal: as TGI refuses it. `asks_stream` tells whether it goes into a stream.
        """
        fields = read_json(body)
        if route == "native":
            return self._native(fields, bool(stream))
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

    def _native(self, fields: dict[str, Any], stream: bool) -> Ask:
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
        echo = text if _typed(parameters, "return_full_text", bool, False) else ""
        if not text:
            raise _invalid("`inputs` cannot be empty")
        prompt = self.tokenizer.encode_prompt(text)
        return Ask("native", stream, prompt, self._length(prompt, max_tokens), details=details, echo=echo)

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


def asks_stream(route: str, body: bytes) -> bool:
    """A refused request of an OpenAI route had asked for a stream."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return route != "native" and isinstance(fields, dict) and fields.get("stream") is True


def _typed(fields: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _unreadable(f"Failed to deserialize the JSON body into the target type: {name}: invalid type")
    return value


class TgiWriter:
    """One answer of TGI, on its native or its OpenAI routes."""

    def __init__(self, wire: TgiWire, ask: Ask, output: Output, index: int) -> None:
        self._ask = ask
        self._ids = output.ids
        self._texts = output.texts
        #: tokens that the engine counts beyond those it sent (a planned fault)
        self.usage_error = 0
        self._tokenizer = wire.tokenizer
        kind = "chat.completion.chunk" if ask.route == "chat" else "text_completion"
        self._about = {
            "object": kind,
            "id": "",
            "created": int(utc_now().timestamp()),
            "model": wire.model,
            "system_fingerprint": FINGERPRINT,
        }
        self._opening = b"data: " + dump(self._about)[:-1]

    def headers(self) -> dict[str, str]:
        """Of the stream."""
        return {
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            "vary": "origin, access-control-request-method, access-control-request-headers",
            "access-control-allow-origin": "*",
            "transfer-encoding": "chunked",
        }

    def opening(self) -> bytes:
        """Nothing goes before the first token."""
        return b""

    def tokens(self, first: int, end: int, finish: str | None) -> bytes:
        """Tokens `first` to `end` - 1; the native route gives each a frame of its own."""
        match self._ask.route:
            case "native":
                last = end - 1
                return b"".join(self._frame(k, finish if k == last else None) for k in range(first, end))
            case "chat":
                return self._chat_event(first, end, finish)
            case _:
                return self._completion_event(first, end, finish)

    def closing(self, count: int) -> bytes:
        """After the last token: nothing on the native route, else usage (chat, where asked for) and the end marker."""
        if self._ask.route == "native":
            return b""
        events = b"data: [DONE]\n\n"
        if self._ask.route == "chat" and self._ask.usage:
            usage = dump(self._usage(count + self.usage_error))
            events = self._opening + b',"choices":[],"usage":' + usage + b"}\n\n" + events
        return events

    def failure(self, message: str) -> bytes:
        """An error event inside the 200."""
        event = b"data:" + error(f"Request failed during generation: {message}", "generation") + b"\n\n"
        return event if self._ask.route == "native" else event + b"data: [DONE]\n\n"

    def whole(self, count: int, finish: str | None, timing: Timing) -> tuple[bytes, dict[str, str]]:
        """The answer that does not stream, with its first `count` tokens: body and headers."""
        ids = self._ids[:count]
        text = self._ask.echo + self._tokenizer.decode(ids)
        counted = count + self.usage_error
        body: dict[str, Any]
        match self._ask.route:
            case "native":
                body = {"generated_text": text}
                if self._ask.details:
                    body["details"] = {
                        "finish_reason": _native_reason(finish),
                        "generated_tokens": counted,
                        "seed": None,
                        "prefill": [],
                        "tokens": [json.loads(self._token(k)) for k in range(count)],
                    }
            case "chat":
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
                body = self._about | {"object": "chat.completion", "choices": [choice], "usage": self._usage(counted)}
            case _:
                reason = _native_reason(finish)
                choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
                body = self._about | {"choices": [choice], "usage": self._usage(counted)}
        return dump(body), {"content-type": "application/json"} | self._timing_headers(timing, count)

    def _frame(self, k: int, finish: str | None) -> bytes:
        start = b'data:{"index":%d,"token":%b' % (k + 1, self._token(k))
        if finish is None:
            return start + b',"generated_text":null,"details":null}\n\n'
        text = self._ask.echo + self._tokenizer.decode(self._ids[: k + 1])
        details = {
            "finish_reason": _native_reason(finish),
            "generated_tokens": k + 1 + self.usage_error,
            "seed": None,
            "input_length": len(self._ask.prompt),
        }
        return start + b',"generated_text":%b,"details":%b}\n\n' % (dump(text), dump(details))

    def _token(self, k: int) -> bytes:
        token = self._ids[k]
        if token == EOS_ID:
            return b'{"id":%d,"text":"</s>","logprob":-0.25,"special":true}' % token
        return b'{"id":%d,"text":"%b","logprob":-0.25,"special":false}' % (token, self._texts[k])

    def _chat_event(self, first: int, end: int, finish: str | None) -> bytes:
        text = b"".join(self._texts[first:end])
        reason = b"null" if finish is None else b'"%b"' % finish.encode()
        return (
            self._opening
            + b',"choices":[{"index":0,"delta":{"role":"assistant","content":"%b"},"logprobs":null,"finish_reason":%b}]'
            % (text, reason)
            + b',"usage":null}\n\n'
        )

    def _completion_event(self, first: int, end: int, finish: str | None) -> bytes:
        text = b"".join(self._texts[first:end])
        reason = b"" if finish is None else _native_reason(finish).encode()
        choice = b',"choices":[{"index":0,"text":"%b","logprobs":null,"finish_reason":"%b"}]' % (text, reason)
        usage = b"" if finish is None else b',"usage":' + dump(self._usage(end + self.usage_error))
        return self._opening + choice + usage + b"}\n\n"

    def _usage(self, count: int) -> dict[str, int]:
        prompt = len(self._ask.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}

    def _timing_headers(self, timing: Timing, count: int) -> dict[str, str]:
        total_s = timing.queue_s + timing.inference_s
        return {
            "x-compute-type": "1-nvidia-a100-sxm4-80gb",
            "x-compute-time": f"{total_s:.9f}",
            "x-compute-characters": str(len(self._tokenizer.decode(self._ask.prompt))),
            "x-total-time": str(round(total_s * 1e3)),
            "x-validation-time": "0",
            "x-queue-time": str(round(timing.queue_s * 1e3)),
            "x-inference-time": str(round(timing.inference_s * 1e3)),
            "x-time-per-token": str(round(timing.inference_s * 1e3 / max(count, 1))),
            "x-prompt-tokens": str(len(self._ask.prompt)),
            "x-generated-tokens": str(count),
        }


def _native_reason(finish: str | None) -> str:
    return "eos_token" if finish == "stop" else finish or ""
