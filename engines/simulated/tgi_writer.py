"""How TGI puts an answer into bytes: frames of its native stream, chunks of its OpenAI streams, whole bodies."""

from __future__ import annotations

import json
from typing import Any

from engines.clock import utc_now
from engines.simulated.ask import Ask, Timing, dump
from engines.simulated.outputs import Output
from engines.simulated.tgi_wire import TgiWire, error
from engines.simulated.tokenizer import EOS_ID

FINGERPRINT = "3.3.5-native"


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
        return dump([body] if self._ask.listed else body), {"content-type": "application/json"} | self._timing_headers(
            timing, count
        )

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
