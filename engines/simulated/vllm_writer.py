"""How vLLM puts an answer into bytes: chunks of a stream, or the whole body. Shapes as vLLM 0.32.0 sends them."""

from __future__ import annotations

from typing import Any

from engines.clock import utc_now
from engines.simulated.ask import Ask, Timing, dump
from engines.simulated.outputs import Output
from engines.simulated.vllm_wire import VllmWire, error

FINGERPRINT = "vllm-0.32.0-simulated"


class VllmWriter:
    """One answer on vLLM's OpenAI routes: SSE payloads, or the whole body."""

    def __init__(self, wire: VllmWire, ask: Ask, output: Output, index: int) -> None:
        self._ask = ask
        self._ids = output.ids
        self._texts = output.texts
        #: tokens that the engine counts beyond those it sent (a planned fault)
        self.usage_error = 0
        self._tokenizer = wire.tokenizer
        self._chat = ask.route == "chat"
        self._model = wire.model
        self._created = int(utc_now().timestamp())
        self._id = f"{'chatcmpl' if self._chat else 'cmpl'}-{index:016x}"
        self._prompt_tokens = len(ask.prompt)
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        self._opening = dump({"id": self._id, "object": kind, "created": self._created, "model": self._model})[:-1]
        content = b',"choices":[{"index":0,"delta":{"content":"' if self._chat else b',"choices":[{"index":0,"text":"'
        self._before = b"data: " + self._opening + content
        self._middle = b'"},"logprobs":null,"finish_reason":' if self._chat else b'","logprobs":null,"finish_reason":'

    def headers(self) -> dict[str, str]:
        """Of the stream."""
        return {"content-type": "text/event-stream; charset=utf-8", "vary": "Origin", "transfer-encoding": "chunked"}

    def opening(self) -> bytes:
        """What goes out with the first token: chat's role event."""
        if not self._chat:
            return b""
        shown = dump(self._ask.prompt) if self._ask.return_ids else b"null"
        return (
            b"data: "
            + self._opening
            + b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
            + b',"prompt_token_ids":'
            + shown
            + b',"prompt_text":null'
            + (self._usage_field(0) if self._ask.running_usage else b"")
            + b"}\n\n"
        )

    def tokens(self, first: int, end: int, finish: str | None) -> bytes:
        """One event with tokens `first` to `end` - 1; `finish` on the last: "length", "stop" or "abort"."""
        ask = self._ask
        parts = [self._before, *self._texts[first:end], self._middle]
        parts.append(b"null" if finish is None else b'"' + finish.encode() + b'"')
        if not self._chat:
            parts.append(b',"stop_reason":null,"prompt_token_ids":')
            parts.append(dump(ask.prompt) if ask.return_ids and first == 0 else b"null")
        elif finish is not None:
            parts.append(b',"stop_reason":null')
        parts += (b',"token_ids":', dump(self._ids[first:end]) if ask.return_ids else b"null", b"}]")
        if ask.running_usage:
            parts.append(self._usage_field(end))
        if finish is not None and not ask.usage:
            parts.append(b',"system_fingerprint":"' + FINGERPRINT.encode() + b'"')
        parts.append(b"}\n\n")
        return b"".join(parts)

    def closing(self, count: int) -> bytes:
        """After the last token: usage where asked for, then the end marker."""
        events = b"data: [DONE]\n\n"
        if self._ask.usage:
            usage = self._usage_field(count + self.usage_error)
            tail = b',"choices":[]' + usage + b',"system_fingerprint":"' + FINGERPRINT.encode() + b'"}\n\n'
            events = b"data: " + self._opening + tail + events
        return events

    def failure(self, message: str) -> bytes:
        """An error event inside the 200, and the end marker."""
        return b"data: " + error(500, message, "InternalServerError") + b"\n\ndata: [DONE]\n\n"

    def whole(self, count: int, finish: str | None, timing: Timing) -> tuple[bytes, dict[str, str]]:
        """The answer that does not stream, with its first `count` tokens: body and headers."""
        ask = self._ask
        ids = self._ids[:count]
        text = self._tokenizer.decode(ids)
        end: dict[str, Any] = {"logprobs": None, "finish_reason": finish, "stop_reason": None}
        shown = ids if ask.return_ids else None
        prompt = ask.prompt if ask.return_ids else None
        transfer: dict[str, Any] = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        if self._chat:
            message: dict[str, Any] = {
                "role": "assistant",
                "content": text,
                "refusal": None,
                "annotations": None,
                "audio": None,
            }
            message |= {"function_call": None, "reasoning": None}
            choice = {"index": 0, "message": message} | end | {"token_ids": shown, "routed_experts": None}
            transfer = {"prompt_logprobs": None, "prompt_token_ids": prompt, "prompt_text": None} | transfer
        else:
            choice = {"index": 0, "text": ask.echo + text} | end | {"token_ids": shown, "prompt_logprobs": None}
            choice |= {"prompt_token_ids": prompt, "routed_experts": None}
        body = {
            "id": self._id,
            "object": "chat.completion" if self._chat else "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self._usage(len(ids) + self.usage_error)
            | {"prompt_tokens_details": None, "completion_tokens_details": None},
        }
        return dump(body | transfer), {"content-type": "application/json", "vary": "Origin"}

    def _usage(self, count: int) -> dict[str, Any]:
        prompt = self._prompt_tokens
        return {"prompt_tokens": prompt, "total_tokens": prompt + count, "completion_tokens": count}

    def _usage_field(self, count: int) -> bytes:
        prompt = self._prompt_tokens
        counts = (prompt, prompt + count, count)
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % counts
