"""Is there a server that generates? A target is ready only after a real generation; a 200 on /health is not enough.

What the probe sees is decoded by the very dialect of the run, so what passes here is what a run would understand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engines.address import carries_key
from engines.catalog import encode_request, request_path
from engines.contract import (
    Capture,
    Completion,
    Dialect,
    Endpoint,
    Engine,
    Failure,
    FailureKind,
    GenerationRequest,
    Origin,
)
from engines.control import SIMULATED_SERVER
from engines.dialects.http1_response import ParsedResponse, split_response
from engines.errors import OpeningStopped, TargetUnavailable
from engines.exchange import exchange

#: Asked of every target before a run. Any model has something to say to it.
PROBE_PROMPT = "Count slowly: one, two, three, four,"
PROBE_TOKENS = 8

#: Of a workload's own fields, those that say how much is generated: the probe's answer stays short.
_AMOUNTS = frozenset((
    "max_tokens", "max_completion_tokens", "max_new_tokens", "min_tokens", "min_new_tokens",
    "n", "best_of", "stop", "stop_token_ids",
))  # fmt: skip

#: Text of a server's own words that is put into a message.
_MOST_QUOTED = 300


@dataclass(frozen=True, slots=True)
class Probe:
    """What one short generation showed."""

    completion: Completion
    #: every response says so where the engine is the simulated one
    simulated: bool
    #: the figures of it, for the RunResult
    figures: dict[str, Any] = field(default_factory=dict)


def probe(
    origin: Origin,
    engine: Engine,
    endpoint: Endpoint,
    dialect: Dialect,
    model: str,
    *,
    timeout_s: float = 60.0,
    should_stop: Callable[[], bool] = lambda: False,
    extra: Mapping[str, Any] | None = None,
) -> Probe:
    """One short generation, as a run would ask for it.

    Args:
        extra: the workload's own body fields, sent as they are but for those that say how much is generated: a server
            may not answer at all without them (an adapter, a provider), and a chat template may count other tokens.

    Raises:
        RequestNotPossible: the fields cannot be put on the wire.
        TargetUnavailable: no generation came; `failure` says which kind, the message names the mend.
        OpeningStopped: `should_stop` said so.
    """
    request = GenerationRequest(
        model=model,
        prompt=PROBE_PROMPT,
        max_tokens=PROBE_TOKENS,
        fixed_length=engine.capabilities.fixed_length,
        extra=_without_amounts(extra or {}),
    )
    wire = encode_request(engine, endpoint, request, origin, index=0, keep_alive=False)
    capture = exchange(origin, wire, timeout_s=timeout_s, should_stop=should_stop)
    if capture.ended == "cancelled":
        raise OpeningStopped("stopped while the target was being probed")
    completion = dialect.decode(capture)
    response = split_response(capture.body)
    trouble = _trouble(capture, completion, response, origin, dialect, timeout_s)
    if trouble is not None:
        raise trouble
    simulated = response.header("server").lower().startswith(SIMULATED_SERVER)
    return Probe(completion, simulated, _figures(capture, completion))


def _without_amounts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields but for those of `_AMOUNTS`, at any depth: TGI's own route has them below `parameters`."""
    return {
        name: _without_amounts(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if name not in _AMOUNTS
    }


def _figures(capture: Capture, completion: Completion) -> dict[str, Any]:
    first = (completion.event_ns[0] - capture.sent_ns) / 1e9 if completion.event_ns else None
    return {
        "connect_s": capture.connect_s,
        "ttft_s": first,
        "closed_s": (completion.closed_ns - capture.sent_ns) / 1e9,
        "input_tokens": completion.input_tokens,
        "output_tokens": completion.output_tokens,
        "finish_reason": completion.finish_reason,
        "model": completion.model,
    }


def _trouble(
    capture: Capture,
    completion: Completion,
    response: ParsedResponse,
    origin: Origin,
    dialect: Dialect,
    timeout_s: float,
) -> TargetUnavailable | None:
    """What kept the target from generating, with the mend; `None` where it generated."""
    url, route = origin.url, _route(origin, dialect)
    failure = completion.failure
    if capture.ended == "connect":
        return _unavailable(
            FailureKind.CONNECT,
            f"nothing answers at {url}{_tried(origin)}: {capture.error}; {_connect_mend(capture.error)}",
        )
    if capture.ended == "timeout":
        seen = "did not accept a connection" if capture.sent_ns == 0 else "did not finish a short generation"
        return _unavailable(
            FailureKind.TIMEOUT,
            f"{url} {seen} within {timeout_s:g} s; see whether the server is still loading, stuck or busy",
        )
    refused = _refused(response, origin, dialect)
    if refused is not None:
        return refused
    if failure is not None:
        return _unavailable(
            failure.kind,
            f"{route} did not generate: {_quoted(failure.message)}; see the server's own log",
            failure.status,
        )
    if not completion.event_ns and not completion.output_tokens:
        return _unavailable(
            FailureKind.INCOMPLETE, f"{route} answered without generating anything; see the server's log"
        )
    return None


def _tried(origin: Origin) -> str:
    """The address that was asked, where the URL has a name."""
    return "" if origin.address == origin.host else f" ({origin.address})"


def _connect_mend(error: str) -> str:
    """What to do about a connection that did not come to be; TLS has troubles of its own."""
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return "its certificate is not trusted: name its authority's file in SSL_CERT_FILE, or mend reach.url"
    if "SSL" in error:
        return "it does not speak TLS as we do: mend reach.url (http:// where it speaks none)"
    return "start the server, or mend reach.url"


def _refused(response: ParsedResponse, origin: Origin, dialect: Dialect) -> TargetUnavailable | None:
    """A response that is no generation at all, told by its status line and headers; without them there is none."""
    route = _route(origin, dialect)
    status = response.status
    if status is None:
        return None
    quoted = _quoted(response.content.decode("utf-8", errors="replace"))
    if 300 <= status < 400:
        where = _quoted(response.header("location") or "an unnamed place")
        return _rejected(
            status, f"{route} redirects to {where}; redirects are not followed: give the final base URL in reach.url"
        )
    if status in (401, 403):
        if carries_key(origin.headers):
            mend = "mend the secret that api_key_env names, or the header that api_key_header does"
            message = f"{route} refuses the token (status {status}); {mend}"
        else:
            message = f"{route} wants a token (status {status}); name the secret that holds it in api_key_env"
        return _rejected(status, message, field="reach.api_key_env")
    if "html" in response.header("content-type"):
        message = f"{route} answers HTML (status {status}), not an engine's JSON; mend reach.url"
        if 200 <= status < 300:
            return _unavailable(FailureKind.MALFORMED, message, status)
        return _rejected(status, message)
    if status == 404:
        return _rejected(
            status, f"{route} answers 404: {quoted}; mend the model's name, reach.url or the engine", field="model"
        )
    if not 200 <= status < 300:
        return _rejected(status, f"{route} refuses a short generation (status {status}): {quoted}; mend what it names")
    return None


def wrong_model(error: TargetUnavailable, model: str, served: Sequence[str]) -> TargetUnavailable:
    """The same error in better words where the server lists its models and the asked one is not among them."""
    rejected = error.failure is not None and error.failure.kind is FailureKind.REJECTED
    if not rejected or error.failure is None or error.failure.status not in (400, 404, 422) or not served:
        return error
    if any(is_same_model(model, name) for name in served):
        return error
    message = f"the server does not serve {model!r}; it serves {', '.join(served[:5])}: mend model"
    return TargetUnavailable(message, field="model", failure=replace(error.failure, message=message))


def check_model(asked: str, answered: str | None, served: Sequence[str]) -> None:
    """Refuses a server that generates happily with another model than the one asked for.

    Args:
        asked: the model's name in the request.
        answered: the name in the answer; `None` where the wire carries none.
        served: the names the server lists. Some list more than they serve, so the answer's name goes first.

    Raises:
        TargetUnavailable: the answer, or where it names none the list, is of another model.
    """
    names = [answered] if answered else list(served)
    if not names or any(is_same_model(asked, name) for name in names):
        return
    message = f"the server generates with {', '.join(names[:5])}, not with {asked!r}: mend model"
    raise TargetUnavailable(message, field="model", failure=Failure(FailureKind.REJECTED, message))


def is_same_model(asked: str, answered: str) -> bool:
    """The names mean one model: equal, a folder or organisation more, a revision (`DIR@main`) or date at the end."""
    a, b = asked.rstrip("/").lower(), answered.rstrip("/").lower()
    if a == b or b.startswith((a + "@", a + ":")) or re.fullmatch(re.escape(a) + r"-\d{4}[\d-]*", b):
        return True
    return a.rsplit("/", 1)[-1] == b.rsplit("/", 1)[-1].partition("@")[0]


def _route(origin: Origin, dialect: Dialect) -> str:
    """What was asked, as a URL."""
    return origin.url + request_path(origin.base_path, dialect.path)


def _quoted(text: str) -> str:
    """A server's own words, on one line and short."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_QUOTED else line[:_MOST_QUOTED] + "…"


def _rejected(status: int, message: str, field: str = "reach.url") -> TargetUnavailable:
    return _unavailable(FailureKind.REJECTED, message, status, field)


def _unavailable(
    kind: FailureKind, message: str, status: int | None = None, field: str = "reach.url"
) -> TargetUnavailable:
    return TargetUnavailable(message, field=field, failure=Failure(kind, message, status))
