"""Why a response is no success: the words engines use for it, and which of several reasons counts."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from engines.contract import Capture, Failure, FailureKind
from engines.dialects.http1_response import ParsedResponse

MAX_MESSAGE = 500

_decode = msgspec.json.Decoder().decode
_decode_plainly = json.JSONDecoder().decode

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)

#: TGI's `error_type`s that refuse a request; its others are the engine's own failing
_REFUSALS = ("overloaded", "validation", "template_error", "missing_template_variable", "tool_error")
#: the same, where a route of TGI gives the message only
_REFUSAL_OPENINGS = ("Model is overloaded", "Input validation error", "Template error", "Tool error")


def clean(text: str, limit: int = MAX_MESSAGE) -> str:
    """Text from a server, fit for a row and a terminal: no control characters, no lone surrogates, not too long."""
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def parse_json(data: bytes) -> Any:
    """The value, or `None` where it is no JSON. (`null` is no answer either.)

    It is the standard library's value: what the fast decoder refuses (NaN, half a surrogate pair, numbers beyond a
    float) the plain one decides.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        return _decode_plainly(data.decode())
    except (ValueError, RecursionError):
        return None


def message_of(value: Any) -> str | None:
    """What the engine says went wrong, in any of the shapes engines use; `None` where it says nothing.

    vLLM and OpenAI: `{"error": {"message"}}`. TGI: `{"error", "error_type"}`. FastAPI: `{"detail": str | [{"msg"}]}`.
    Older servers: `{"object": "error", "message"}`.
    """
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if error is None:
        error = value.get("detail", value.get("message"))
    if isinstance(error, list) and error and isinstance(error[0], dict):
        where = error[0].get("loc")
        place = ".".join(str(part) for part in where) + ": " if isinstance(where, list) else ""
        error = f"{place}{error[0].get('msg', error[0])}"
    if isinstance(error, dict):
        error = error.get("message", error)
    if error is None:
        return None
    return error if isinstance(error, str) and error else json.dumps(error)


def error_event(value: dict[str, Any], status: int | None) -> Failure | None:
    """The failure in an answer or event that came with a 200; `None` where it is no error.

    TGI reports what it refuses this way too: overload and validation are `REJECTED`, as they would be without
    streaming; everything else is the engine's own error.
    """
    if not value.get("error") and value.get("object") != "error":
        return None
    message = clean(message_of(value) or "an error without a message")
    error_type = value.get("error_type")
    if error_type in _REFUSALS or message.startswith(_REFUSAL_OPENINGS):
        kind = error_type if isinstance(error_type, str) else "refused"
        return Failure(FailureKind.REJECTED, f"{kind} (in an event of a {status}): {message}", status)
    return Failure(FailureKind.ENGINE_ERROR, message, status)


def rejection(parsed: ParsedResponse) -> Failure:
    """The failure of a response whose status is not 2xx."""
    status = parsed.status
    if status is not None and 300 <= status < 400:
        place = clean(parsed.header("location").partition("?")[0], 200) or "another place"
        text = f"redirects to {place}; redirects are not followed: give the address it points to"
    else:
        text = message_of(parse_json(parsed.content)) or _bare_text(parsed)
    return Failure(FailureKind.REJECTED, clean(f"HTTP {status}: {text}"), status)


def is_html(parsed: ParsedResponse) -> bool:
    """A page for people, not an answer for programs."""
    start = parsed.content[:64].lstrip().lower()
    return "html" in parsed.header("content-type").lower() or start.startswith((b"<!doctype html", b"<html"))


def html_text(parsed: ParsedResponse) -> str:
    """What to say of an HTML answer."""
    match = _TITLE.search(parsed.content[:20_000].decode("utf-8", "replace"))
    title = f" titled {clean(match[1], 80)!r}" if match else ""
    return f"an HTML page{title} instead of the API's answer: is this the engine's own base URL?"


def _bare_text(parsed: ParsedResponse) -> str:
    if is_html(parsed):
        return html_text(parsed)
    return clean(parsed.content[:2000].decode("utf-8", "replace")) or "no message"


def transport_failure(capture: Capture, parsed: ParsedResponse) -> Failure | None:
    """What the connection did to the response: timeout, cancelled, broken or malformed; `None` where it is whole."""
    status = parsed.status
    reason = clean(capture.error)
    match capture.ended:
        case "timeout":
            return Failure(FailureKind.TIMEOUT, reason or "the request's time ran out", status)
        case "cancelled":
            return Failure(FailureKind.CANCELLED, reason or "the run was stopped", status)
        case "malformed":
            return Failure(FailureKind.MALFORMED, parsed.malformed or reason or "not HTTP", status)
    if parsed.malformed is not None:
        return Failure(FailureKind.MALFORMED, clean(parsed.malformed), status)
    was_reset = capture.ended == "reset" and (not parsed.complete or parsed.until_close)
    if was_reset or not parsed.complete:
        how = "reset" if was_reset else "closed"
        where = "inside the response" if capture.body else "before any byte of a response"
        return Failure(FailureKind.BROKEN_STREAM, f"connection {how} {where} {reason}".strip(), status)
    return None


def connect_failure(capture: Capture) -> Failure | None:
    """The failure of a request that never got onto a connection; `None` where it did."""
    if capture.ended == "connect":
        return Failure(FailureKind.CONNECT, clean(capture.error) or "no connection")
    if capture.sent_ns == 0 and not capture.body and capture.ended not in ("timeout", "cancelled"):
        return Failure(FailureKind.CONNECT, clean(capture.error) or "the connection ended before the request was sent")
    return None
