"""The simulated engine's server: sockets in, scheduler steps on the clock, tokens out. One process, one loop."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import replace

from pydantic import ValidationError

from engines.clock import monotonic_ns
from engines.simulated import tgi_wire, vllm_wire
from engines.simulated.ask import Ask, Refusal, dump
from engines.simulated.connection import Connection, KernelClock
from engines.simulated.exposition import Exposition
from engines.simulated.faults import (
    FaultBook,
    FaultPlan,
    Html,
    IdleClose,
    PerRequest,
    Redirect,
    Refuse,
    Reset,
    SlowHeaders,
    Status,
    WantsToken,
)
from engines.simulated.generation import Generation, Writer
from engines.simulated.http import LAST_CHUNK, BadRequest, HttpRequest, chunk, head_bytes, whole_response
from engines.simulated.listener import Listener
from engines.simulated.loop import Loop
from engines.simulated.outputs import Outputs
from engines.simulated.plain import GENERATE_ROUTES, Answer, Plain, ServerOptions
from engines.simulated.prefix_cache import PrefixCache
from engines.simulated.scheduler import Sequence
from engines.simulated.step_clock import StepClock
from engines.simulated.tgi_wire import TgiWire
from engines.simulated.tgi_writer import TgiWriter
from engines.simulated.tokenizer import Tokenizer
from engines.simulated.truth import TruthLog, TruthRecord
from engines.simulated.vllm_wire import VllmWire
from engines.simulated.vllm_writer import VllmWriter

_JSON = {"content-type": "application/json"}
#: what a client may send ahead while its answer is under way
_MAX_PIPELINED_BYTES = 4 * 1024 * 1024


class Server:
    """Listens from construction on; `run` serves until `stop`."""

    def __init__(self, options: ServerOptions) -> None:
        profile = options.profile
        self._options = options
        self._profile = profile
        context = min(options.context or profile.model.context, profile.kv_capacity_tokens)
        tokenizer = Tokenizer(bos=profile.model.bos)
        wire = VllmWire if profile.engine == "vllm" else TgiWire
        self._wire: VllmWire | TgiWire = wire(profile, options.model or profile.model.name, context, tokenizer)
        self._outputs = Outputs(tokenizer, options.seed, split_every=options.split_characters)
        self._cache = PrefixCache(profile.kv_capacity_tokens) if options.prefix_cache else None
        self._scheduler = profile.scheduler()
        self._truth = TruthLog(options.truth_keep)
        self._faults = FaultBook(options.faults)
        self._exposition = Exposition(profile.engine, self._wire.model, self._scheduler, self._cache)
        self._plain = Plain(options, self._wire, self._truth, self._faults, self._exposition)
        self._loop = Loop()
        self._steps = StepClock(self._scheduler, self._loop, options.speed, self._on_prompts, self._on_tokens)
        self._clock = KernelClock()
        self._connections: set[Connection] = set()
        self._active: set[Generation] = set()
        self._listener = Listener(
            options.host, options.port, self._loop, nodelay=profile.nodelay, on_socket=self._on_socket
        )
        self._apply_faults()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    @property
    def loop(self) -> Loop:
        """For whoever must end it: signals, a parent's death."""
        return self._loop

    def run(self) -> None:
        """Serve until the loop is stopped."""
        self._loop.run()
        self._listener.close()

    def shut_down(self) -> None:
        """As the engines do on SIGTERM: vLLM aborts what is under way and says so, TGI's connections end."""
        for generation in list(self._active):
            if self._profile.engine == "vllm":
                generation.abort()
            self._scheduler.drop(generation.sequence)
        for connection in list(self._connections):
            connection.close_when_sent()
        self._loop.stop()

    # sockets

    def _on_socket(self, sock: socket.socket) -> None:
        try:
            self._connections.add(Connection(sock, self._loop, self._clock, self._on_bytes, self._on_gone))
        except OSError:
            # gone before it was looked at
            sock.close()

    def _on_gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        generation = connection.generation
        if isinstance(generation, Generation):
            connection.generation = None
            generation.client_gone()
            self._scheduler.drop(generation.sequence)
            self._active.discard(generation)
            self._exposition.finished(generation.truth)

    def _on_bytes(self, connection: Connection) -> None:
        if connection.busy and len(connection.reader.buffer) > _MAX_PIPELINED_BYTES:
            connection.close()
            return
        while not connection.busy and not connection.closed:
            try:
                request = connection.reader.next()
            except BadRequest as bad:
                connection.send(whole_response(bad.status, str(bad).encode(), {"connection": "close"}))
                connection.close_when_sent()
                return
            if request is None:
                if connection.reader.expects_continue:
                    connection.reader.expects_continue = False
                    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            connection.keep_alive = request.keep_alive
            connection.busy = True
            self._answer(connection, request)

    def _done(self, connection: Connection) -> None:
        """The response is complete: the next request may be read."""
        connection.busy = False
        connection.generation = None
        connection.idle_since_ns = monotonic_ns()
        if not connection.keep_alive:
            connection.close_when_sent()

    def _reply(self, connection: Connection, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        fields = dict(_JSON if headers is None else headers)
        if not connection.keep_alive:
            fields["connection"] = "close"
        connection.send(whole_response(status, body, fields))
        self._done(connection)

    # routes

    def _answer(self, connection: Connection, request: HttpRequest) -> None:
        if not request.path.startswith(("/simulated", "/truth", "/health")) and not self._allowed(request):
            self._reply(connection, 401, dump({"error": "Unauthorized"}), _JSON | {"www-authenticate": "Bearer"})
            return
        route = GENERATE_ROUTES[self._profile.engine].get(request.path)
        if route is not None and request.method == "POST":
            self._generate(connection, request, route)
            return
        if (request.method, request.path) == ("POST", "/simulated/faults"):
            self._reply(connection, *self._set_faults(request.body))
        else:
            self._reply(connection, *self._plain.answer(request))

    def _allowed(self, request: HttpRequest) -> bool:
        wanted = [fault.token for fault in self._faults.plan.faults if isinstance(fault, WantsToken)]
        return not wanted or request.headers.get("authorization") == f"Bearer {wanted[0]}"

    # faults

    def _set_faults(self, body: bytes) -> Answer:
        try:
            plan = FaultPlan.model_validate_json(body)
        except ValidationError as invalid:
            return 422, invalid.json(include_url=False).encode(), _JSON
        self._faults.replace(plan)
        self._apply_faults()
        return 200, dump(plan.model_dump(mode="json")), _JSON

    def _apply_faults(self) -> None:
        """The faults of the server as a whole: its listening socket, its idle connections."""
        plan = self._faults.plan
        refuse = next((fault for fault in plan.faults if isinstance(fault, Refuse)), None)
        if refuse is None:
            self._listener.open()
        else:
            self._listener.close()
            if refuse.for_s:
                self._loop.call_at(monotonic_ns() + int(refuse.for_s * 1e9), lambda: self._reopen(plan))
        self._close_idle(plan)

    def _reopen(self, plan: FaultPlan) -> None:
        if plan is self._faults.plan:
            self._listener.open()

    def _close_idle(self, plan: FaultPlan) -> None:
        fault = next((fault for fault in plan.faults if isinstance(fault, IdleClose)), None)
        if fault is None or plan is not self._faults.plan:
            return
        after_ns = fault.after_ms * 1_000_000
        now_ns = monotonic_ns()
        for connection in list(self._connections):
            if not connection.busy and not connection.has_unsent and now_ns - connection.idle_since_ns >= after_ns:
                connection.close()
        look_again_ns = min(max(after_ns // 4, 1_000_000), 500_000_000)
        self._loop.call_at(now_ns + look_again_ns, lambda: self._close_idle(plan))

    def _instead(self, connection: Connection, faults: tuple[PerRequest, ...]) -> tuple[int, str] | None:
        """Carry out a fault that stands in for an answer; its status and name."""
        html = {"content-type": "text/html; charset=utf-8"}
        for fault in faults:
            match fault:
                case Reset():
                    connection.close(reset=True)
                    return 0, "reset"
                case Status():
                    body = self._error_body(fault.status)
                    self._reply(connection, fault.status, body)
                    return fault.status, "rejected"
                case Html():
                    page = b"<!doctype html><html><body><h1>Welcome to the gateway</h1></body></html>\n"
                    self._reply(connection, 200, page, html)
                    return 200, "html"
                case Redirect():
                    self._reply(connection, fault.status, b"", html | {"location": fault.location})
                    return fault.status, "redirect"
        return None

    def _error_body(self, status: int) -> bytes:
        if self._profile.engine == "vllm":
            return vllm_wire.error(status, "planned fault", "InternalServerError")
        return tgi_wire.error("planned fault", "overloaded" if status == 429 else "generation")

    # generation

    def _generate(self, connection: Connection, request: HttpRequest, route: str) -> None:
        faults = self._faults.next_request()
        truth = self._truth.open(
            TruthRecord(
                0, connection.peer_port, route, False, connection.arrival_ns, connection.arrival_clock, 0, 0, 0, 0
            )
        )
        self._exposition.requests += 1
        instead = self._instead(connection, faults)
        if instead is not None:
            truth.status, truth.outcome = instead
            truth.end_ns = monotonic_ns()
            return
        try:
            ask = self._read_ask(request, route)
            limit = self._profile.max_concurrent_requests
            if limit is not None and len(self._active) >= limit:
                raise tgi_wire.overloaded()
        except Refusal as refusal:
            self._refuse(connection, request, refusal, truth)
            return
        self._start(connection, ask, truth, faults)

    def _read_ask(self, request: HttpRequest, route: str) -> Ask:
        if isinstance(self._wire, TgiWire):
            ask = self._wire.read_ask(route, request.body, request.path)
        else:
            ask = self._wire.read_ask(route, request.body)
        return replace(ask, ignore_eos=True) if self._options.never_stops else ask

    def _refuse(self, connection: Connection, request: HttpRequest, refusal: Refusal, truth: TruthRecord) -> None:
        truth.outcome, truth.status = "rejected", refusal.status
        truth.end_ns = monotonic_ns()
        self._exposition.rejected += 1
        in_stream = self._profile.engine == "tgi" and refusal.content_type == "application/json"
        if in_stream and tgi_wire.asks_stream(request.path, request.body):
            truth.status = 200
            headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
            connection.send(head_bytes(200, headers) + chunk(tgi_wire.in_stream(refusal)) + LAST_CHUNK)
            self._done(connection)
            return
        self._reply(connection, refusal.status, refusal.body, {"content-type": refusal.content_type})

    def _start(self, connection: Connection, ask: Ask, truth: TruthRecord, faults: tuple[PerRequest, ...]) -> None:
        output = self._outputs.draw(ask.prompt, ask.max_tokens, ignore_eos=ask.ignore_eos, min_tokens=ask.min_tokens)
        truth.stream = ask.stream
        truth.prompt_tokens = len(ask.prompt)
        truth.max_tokens = ask.max_tokens
        truth.planned_tokens = len(output.ids)
        writer: Writer
        if isinstance(self._wire, VllmWire):
            writer = VllmWriter(self._wire, ask, output, truth.index)
        else:
            writer = TgiWriter(self._wire, ask, output, truth.index)
        generation = Generation(connection, ask, output, writer, truth, faults)
        if self._cache is not None:
            truth.cached_tokens = generation.sequence.cached_tokens = self._cache.lookup(ask.prompt)
        connection.generation = generation
        self._active.add(generation)
        slow = next((fault.seconds for fault in faults if isinstance(fault, SlowHeaders)), None)
        if slow is None:
            generation.send_head()
        else:
            self._loop.call_at(monotonic_ns() + int(slow * 1e9), lambda: self._late_head(generation))
        stall_s = generation.stall_s(0)
        if stall_s is None:
            self._enqueue(generation)
        else:
            self._loop.call_at(monotonic_ns() + int(stall_s * 1e9), lambda: self._enqueue(generation))

    def _late_head(self, generation: Generation) -> None:
        generation.send_head()
        if generation.over:
            self._settle(generation)

    def _settle(self, generation: Generation) -> None:
        """An answer has ended: free its sequence, and let its connection go on."""
        if generation not in self._active:
            return
        self._active.discard(generation)
        self._scheduler.drop(generation.sequence)
        self._exposition.finished(generation.truth)
        connection = generation.connection
        if not connection.closed:
            self._done(connection)
            # a pipelined request may wait already
            self._on_bytes(connection)

    def _enqueue(self, generation: Generation) -> None:
        if not generation.over:
            generation.truth.queued_ns = monotonic_ns()
            self._steps.enqueue(generation.sequence)

    # tokens

    def _on_prompts(self, sequences: Iterable[Sequence], now_ns: int) -> None:
        for sequence in sequences:
            generation = sequence.owner
            assert isinstance(generation, Generation)
            # a later part of the prompt, or its second time after a preemption, is no longer the queue's
            if generation.truth.begun_ns is None:
                generation.truth.begun_ns = now_ns

    def _on_tokens(self, gave: list[Sequence], now_ns: int) -> None:
        for sequence in gave:
            generation = sequence.owner
            assert isinstance(generation, Generation)
            self._exposition.made_token(generation.truth, now_ns)
            if self._cache is not None and sequence.generated == 1:
                self._cache.insert(generation.ask.prompt)
            generation.advance()
            if generation.over:
                self._settle(generation)
            else:
                stall_s = generation.stall_s(sequence.generated)
                if stall_s is not None:
                    self._steps.stall(sequence, stall_s)
