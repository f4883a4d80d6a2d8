"""Planned faults: which requests get which, as a person writes it (`--fault`, `POST /simulated/faults`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from engines.spec import Spec

Every = Annotated[int, Field(ge=1, le=1_000_000)]
Position = Annotated[int, Field(ge=0, le=1_000_000)]
Delay = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Planned(Spec):
    """Part of a fault: it hits generation requests number `every`, 2 × `every`, …, counted from when it was set."""

    every: Every = 1


class Refuse(Spec):
    """The listening socket is closed, so connections are refused, for `for_s` from now (0: until faults change)."""

    kind: Literal["refuse"]
    for_s: Delay = 0.0


class Reset(Planned):
    """The connection is reset instead of an answer."""

    kind: Literal["reset"]


class Status(Planned):
    """An error status instead of an answer."""

    kind: Literal["status"]
    status: Annotated[int, Field(ge=400, le=599)] = 503


class Stall(Planned):
    """The stream stops for a while before token `token` (0: the first)."""

    kind: Literal["stall"]
    token: Position = 1
    seconds: Delay = 1.0


class Cut(Planned):
    """The connection ends inside the response, before token `token`; `reset`: with an RST."""

    kind: Literal["cut"]
    token: Position = 1
    reset: bool = False


class ErrorEvent(Planned):
    """An error event inside the 200, instead of token `token`."""

    kind: Literal["error_event"]
    token: Position = 1
    message: str = "EngineCore encountered an issue. See stack trace (above) for the root cause."


class Abort(Planned):
    """The stream ends properly after `token` tokens, but says `abort`."""

    kind: Literal["abort"]
    token: Position = 1


class NoFinish(Planned):
    """The stream ends properly after `token` tokens, without a finish reason or usage."""

    kind: Literal["no_finish"]
    token: Position = 1


class WrongUsage(Planned):
    """The engine counts `tokens` more (or fewer) than it sent."""

    kind: Literal["wrong_usage"]
    tokens: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 1


class Coalesce(Planned):
    """Several tokens in a chunk."""

    kind: Literal["coalesce"]
    tokens: Annotated[int, Field(ge=2, le=1_000_000)] = 4


class SlowHeaders(Planned):
    """The response's head comes late."""

    kind: Literal["slow_headers"]
    seconds: Delay = 1.0


class Garbage(Planned):
    """Bytes that are no chunk, instead of token `token`; then the connection ends."""

    kind: Literal["garbage"]
    token: Position = 1


class Html(Planned):
    """A proxy's HTML page with status 200 instead of an answer."""

    kind: Literal["html"]


class Redirect(Planned):
    """A redirect instead of an answer."""

    kind: Literal["redirect"]
    location: Annotated[str, Field(max_length=2000)] = "http://127.0.0.1:9/elsewhere"
    status: Literal[301, 302, 307, 308] = 307


class WantsToken(Spec):
    """401 on every route but /health, unless the request carries this bearer token."""

    kind: Literal["wants_token"]
    token: Annotated[str, Field(min_length=1, max_length=200)]


class IdleClose(Spec):
    """A connection without a request for this long is closed."""

    kind: Literal["idle_close"]
    after_ms: Annotated[int, Field(ge=1, le=86_400_000)]


class Unhealthy(Spec):
    """`/health` answers 503; generation goes on."""

    kind: Literal["unhealthy"]


PerRequest = (
    Reset
    | Status
    | Stall
    | Cut
    | ErrorEvent
    | Abort
    | NoFinish
    | WrongUsage
    | Coalesce
    | SlowHeaders
    | Garbage
    | Html
    | Redirect
)
Fault = Annotated[PerRequest | Refuse | WantsToken | IdleClose | Unhealthy, Field(discriminator="kind")]


class FaultPlan(Spec):
    """All faults of a server; a new plan replaces the old one."""

    faults: Annotated[tuple[Fault, ...], Field(max_length=100)] = ()


ONE_FAULT: TypeAdapter[Fault] = TypeAdapter(Fault)


class FaultBook:
    """The plan under way, and how many generation requests it has seen."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._seen = 0

    def replace(self, plan: FaultPlan) -> None:
        """A new plan; requests are counted anew."""
        self.plan = plan
        self._seen = 0

    def next_request(self) -> tuple[PerRequest, ...]:
        """Faults of the next generation request."""
        self._seen += 1
        return tuple(f for f in self.plan.faults if isinstance(f, Planned) and self._seen % f.every == 0)
