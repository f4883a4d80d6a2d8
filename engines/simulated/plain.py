"""The routes that answer at once: what the server is, what it serves, its health, its metrics, its truth."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qs

from engines.clock import utc_now
from engines.simulated import tgi_wire
from engines.simulated.ask import Refusal, dump
from engines.simulated.exposition import Exposition
from engines.simulated.faults import FaultBook, FaultPlan, Unhealthy
from engines.simulated.http import HttpRequest
from engines.simulated.profiles import FITTED, Profile
from engines.simulated.tgi_wire import TgiWire
from engines.simulated.truth import TruthLog
from engines.simulated.vllm_wire import VllmWire

Answer = tuple[int, bytes, dict[str, str]]
_JSON = {"content-type": "application/json"}

GENERATE_ROUTES = {
    "vllm": {"/v1/completions": "completions", "/v1/chat/completions": "chat"},
    "tgi": {
        "/v1/completions": "completions",
        "/v1/chat/completions": "chat",
        "/generate": "native",
        "/generate_stream": "native",
        "/": "native",
    },
}


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How one simulated server runs."""

    profile: Profile
    host: str = "127.0.0.1"
    port: int = 0
    #: the model's name on the wire; `None`: the profile's own
    model: str | None = None
    #: `None`: the model's own
    context: int | None = None
    seed: int = 0
    #: steps take 1/speed of their time
    speed: float = 1.0
    #: requests that the truth log keeps
    truth_keep: int = 20_000
    #: the model never ends by itself: an overlay folder whose EOS is never sampled
    never_stops: bool = False
    prefix_cache: bool = True
    #: one word in so many is a character split over three tokens; 0: none is
    split_characters: int = 0
    faults: FaultPlan = field(default_factory=FaultPlan)


class Plain:
    """Answers whatever is no generation and changes nothing."""

    def __init__(
        self,
        options: ServerOptions,
        wire: VllmWire | TgiWire,
        truth: TruthLog,
        faults: FaultBook,
        exposition: Exposition,
    ) -> None:
        self._options = options
        self._profile = options.profile
        self._wire = wire
        self._truth = truth
        self._faults = faults
        self._exposition = exposition
        self._start_id = uuid.uuid4().hex
        self._started_s = int(utc_now().timestamp())

    def answer(self, request: HttpRequest) -> Answer:
        """Status, body and headers."""
        try:
            return self._route(request)
        except Refusal as refusal:
            return refusal.status, refusal.body, {"content-type": refusal.content_type}

    def _route(self, request: HttpRequest) -> Answer:
        wire = self._wire
        match request.method, request.path:
            case "GET", "/simulated":
                return 200, dump(self._about()), _JSON
            case "GET", "/simulated/faults":
                return 200, dump(self._faults.plan.model_dump(mode="json")), _JSON
            case "GET", "/truth":
                return self._tell_truth(request.query)
            case "GET", "/health":
                return self._health()
            case "GET", "/metrics":
                text = self._exposition.render()
                return 200, text.encode(), {"content-type": "text/plain; version=1.0.0; charset=utf-8"}
            case "GET", "/v1/models":
                return 200, dump(self._models()), _JSON
            case "POST", "/tokenize":
                return 200, wire.tokenize(request.body), _JSON
            case "POST", "/detokenize" if isinstance(wire, VllmWire):
                return 200, wire.detokenize(request.body), _JSON
            case "GET", "/version" if isinstance(wire, VllmWire):
                return 200, dump({"version": self._profile.engine_version}), _JSON
            case "GET", "/info" | "/" if isinstance(wire, TgiWire):
                return 200, wire.info(), _JSON
            case _:
                return self._no_route(request)

    def _no_route(self, request: HttpRequest) -> Answer:
        known = {"/tokenize", "/v1/models", "/metrics", "/health", *GENERATE_ROUTES[self._profile.engine]}
        status, detail = (405, "Method Not Allowed") if request.path in known else (404, "Not Found")
        if self._profile.engine == "vllm":
            return status, dump({"detail": detail}), _JSON
        return status, b"", {}

    def _health(self) -> Answer:
        if not any(isinstance(fault, Unhealthy) for fault in self._faults.plan.faults):
            return 200, b"", {}
        if self._profile.engine == "vllm":
            return 503, b"", {}
        return 503, tgi_wire.error("unhealthy", "healthcheck"), _JSON

    def _models(self) -> dict[str, Any]:
        name = self._wire.model
        model: dict[str, Any] = {"id": name, "object": "model", "created": self._started_s}
        if self._profile.engine == "tgi":
            return {"object": "list", "data": [model | {"created": 0, "owned_by": name}]}
        permission = {
            "id": f"modelperm-{self._start_id[:16]}",
            "object": "model_permission",
            "created": self._started_s,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        model |= {"owned_by": "vllm", "root": name, "parent": None, "max_model_len": self._wire.context}
        return {"object": "list", "data": [model | {"permission": [permission]}]}

    def _about(self) -> dict[str, Any]:
        """What this server is: `GET /simulated`."""
        profile, options = self._profile, self._options
        return {
            "simulated": True,
            "profile": profile.name,
            "engine": profile.engine,
            "engine_version": profile.engine_version,
            "model": self._wire.model,
            "hardware": profile.hardware.name,
            "precision": "BF16",
            "seed": options.seed,
            "speed": options.speed,
            "start_id": self._start_id,
            "pid": os.getpid(),
            "context": self._wire.context,
            "fitted": asdict(FITTED[profile.engine]),
            "prefill_budget_tokens": profile.prefill_budget_tokens,
            "max_running": profile.max_running,
            "max_concurrent_requests": profile.max_concurrent_requests,
            "kv_capacity_tokens": profile.kv_capacity_tokens,
            "never_stops": options.never_stops,
            "prefix_cache": options.prefix_cache,
            "split_characters": options.split_characters,
        }

    def _tell_truth(self, query: str) -> Answer:
        fields = parse_qs(query)
        since = fields.get("since", ["0"])[0]
        if not (since.isascii() and since.isdigit() and len(since) < 19):
            return 400, dump({"error": "since must be the index of a record, from 0"}), _JSON
        told = self._truth.since(int(since), tokens=fields.get("tokens", ["1"])[0] != "0")
        return 200, dump(told | {"start_id": self._start_id}), _JSON
