"""Opens a target: attached or launched, proven by a real generation, and asked what it is.

with open_target(spec, site) as target:
    target.origin, target.facts, target.tokenize(text), target.counters()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engines.address import check_headers
from engines.catalog import find_dialect, find_engine
from engines.clock import monotonic_ns
from engines.contract import Dialect, Endpoint, Engine, Failure, FailureKind, Origin
from engines.control import ControlClient
from engines.errors import TargetRefused, TargetUnavailable
from engines.facts import ServerFacts, describe, served_models
from engines.launch.disclosure import without
from engines.launch.held import HeldServer
from engines.probe import PROBE_PROMPT, PROBE_TOKENS, Probe, check_model, probe, wrong_model
from engines.scrape import scrape
from engines.site import Secret, Site
from engines.spec import Attached, TargetSpec
from engines.watch import Watch

if TYPE_CHECKING:
    from engines.launch.container import LaunchedContainer
    from engines.launch.process import LaunchedProcess

__all__ = ["HeldServer", "OpenTarget", "Secret", "ServerFacts", "Site", "open_target"]


@dataclass(frozen=True, slots=True)
class OpenTarget:
    """A server that answered a real generation."""

    origin: Origin
    engine: Engine
    endpoint: Endpoint
    dialect: Dialect
    #: the model's name as requests must give it; a launched server may know it by its folder
    model: str
    facts: ServerFacts
    _client: ControlClient = field(repr=False)
    #: it was started on this host, whatever its network makes of the way there
    is_here: bool
    _process: LaunchedProcess | LaunchedContainer | None = field(repr=False)
    _secrets: tuple[str, ...] = field(repr=False)

    def tokenize(self, text: str, *, chat: bool = False) -> tuple[int, ...] | None:
        """Token ids of a text as the engine counts them as a prompt: BOS, and for chat the template, included.

        `None` where the engine has no route for it. Raises TargetUnavailable where it does not answer.
        """
        path = self.engine.capabilities.tokenize_path
        if path is None:
            return None
        # vLLM and SGLang read `prompt`, TGI `inputs`; both pass over what they do not know.
        body: dict[str, Any] = {"model": self.model, "prompt": text, "inputs": text}
        paths = [path]
        if chat:
            messages = [{"role": "user", "content": text}]
            body = {"model": self.model, "messages": messages, "add_generation_prompt": True}
            paths = [path, "/chat_tokenize"]
        for path in paths:
            answer = self._client.post(path, body)
            tokens = _token_ids(answer.json()) if answer.ok else None
            if tokens is not None:
                return tokens
        return None

    def counters(self) -> dict[str, float]:
        """The engine's own counters and gauges now, under canonical names; {} where it has no metrics."""
        return scrape(self._client, self.engine)

    def watch(self, interval_s: float | None) -> Watch:
        """Reads its counters and gauges for the length of a `with` block, in a thread of its own; `None`: does not."""
        return Watch(self.origin, self.engine, interval_s=interval_s)

    def log_tail(self) -> str:
        """The last lines that an engine which was started wrote, at most 8 KiB; "" for an attached one."""
        return "" if self._process is None else self.redact(self._process.log_tail())

    @property
    def is_started(self) -> bool:
        """It was started for its runs, as a process or a container."""
        return self._process is not None

    @property
    def exit_code(self) -> int | None:
        """Of an engine that was started and has ended; `None`: it is up, or attached."""
        return None if self._process is None else self._process.exit_code

    def redact(self, text: str) -> str:
        """The text without this target's token, should the server have repeated it."""
        return without(text, self._secrets)

    @property
    def pid(self) -> int | None:
        """First process of a launched engine; `None`: attached, in a container, or gone."""
        return None if self._process is None else self._process.pid


@contextmanager
def open_target(
    spec: TargetSpec,
    site: Site,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    probe_timeout_s: float = 60.0,
    overlay: bool = False,
    extra: Mapping[str, Any] | None = None,
    held: HeldServer | None = None,
) -> Iterator[OpenTarget]:
    """A target that answered a real generation; one that was started for it is stopped again on leaving, or stays held.

    Args:
        spec: what to open.
        site: this host's secrets and rules.
        should_stop: asked every quarter of a second at most while waiting.
        probe_timeout_s: longest wait for an attached server's one short generation.
        overlay: launch with a model folder whose end-of-sequence id is never sampled; a container has to have one.
        extra: the workload's own body fields; the probe sends them as a run would.
        held: keeps the server up for the next target; `None`: nobody does.

    Raises:
        UnknownEngine: no such engine, or it lacks the endpoint.
        TargetRefused: the URL, a header or the secret may not be used.
        RequestNotPossible: `extra` cannot be put on the wire.
        TargetUnavailable: an attached server did not generate; its `failure` says how.
        LaunchFailed: a launched server died or did not get ready.
        OpeningStopped: `should_stop` said so.
    """
    engine = find_engine(spec.engine)
    endpoint, dialect = find_dialect(engine, spec.endpoint)
    check_headers(spec.headers)
    if overlay and isinstance(spec.reach, Attached):
        raise TargetRefused("the overlay protocol needs a launched server: set reach.kind to process", field="reach")
    with ExitStack() as stack:
        held = held or stack.enter_context(HeldServer())
        with held.opening(spec, site, engine, overlay, should_stop, extra) as server, _redacting(server.secrets):
            client = stack.enter_context(ControlClient(server.origin))
            if server.process is None or held.opened:
                model = held.model or spec.model
                seen = _probe_running(client, engine, endpoint, dialect, model, probe_timeout_s, should_stop, extra)
            else:
                from engines.launch.ready import await_generation

                seen, model = await_generation(
                    server.process,
                    server.origin,
                    engine,
                    endpoint,
                    dialect,
                    server.names,
                    timeout_s=server.ready_timeout_s,
                    should_stop=should_stop,
                    extra=extra,
                )
                held.startup_s = (monotonic_ns() - server.process.started_ns) / 1e9
            held.model = model
            facts = _facts(client, engine, model, seen, held.startup_s, server.flags)
            facts.info.update(server.made_of)
            check_model(model, seen.completion.model, _model_told(facts))
            if Endpoint.NATIVE in engine.dialects:
                # Hugging Face's client sends none of the workload's fields, so both sides go without.
                plain = seen if endpoint is Endpoint.NATIVE and not extra else None
                _agree(client, engine, model, plain, facts, probe_timeout_s)
        yield OpenTarget(
            origin=server.origin,
            engine=engine,
            endpoint=endpoint,
            dialect=dialect,
            model=model,
            facts=facts,
            is_here=spec.reach.kind == "process" or (spec.reach.kind == "container" and site.starts_containers_here),
            _client=client,
            _process=server.process,
            _secrets=server.secrets,
        )


def _probe_running(
    client: ControlClient,
    engine: Engine,
    endpoint: Endpoint,
    dialect: Dialect,
    model: str,
    timeout_s: float,
    should_stop: Callable[[], bool],
    extra: Mapping[str, Any] | None,
) -> Probe:
    """One generation of a server that should be ready, with the models it lists in the error where it refuses ours."""
    try:
        return probe(
            client.origin, engine, endpoint, dialect, model, timeout_s=timeout_s, should_stop=should_stop, extra=extra
        )
    except TargetUnavailable as error:
        refused = error.failure is not None and error.failure.status in (400, 404, 422)
        raise (wrong_model(error, model, served_models(client)) if refused else error) from None


def _facts(
    client: ControlClient, engine: Engine, model: str, seen: Probe, startup_s: float | None, flags: tuple[str, ...]
) -> ServerFacts:
    told = describe(client, engine, model, simulated=seen.simulated)
    return ServerFacts(
        version=told.version,
        model_max_tokens=told.model_max_tokens,
        served_models=told.served_models,
        simulated=told.simulation is not None,
        simulation=told.simulation,
        info=told.info,
        startup_s=startup_s,
        flags=flags,
        probe=dict(seen.figures),
    )


def _model_told(facts: ServerFacts) -> tuple[str, ...]:
    """The model that the server says it serves, where it says so."""
    told = facts.info.get("model_id")
    return (str(told),) if told else ()


def _agree(
    client: ControlClient, engine: Engine, model: str, native: Probe | None, facts: ServerFacts, timeout_s: float
) -> None:
    """Hugging Face's client counts the target's tokens as our dialect does; `native`: our own probe, if made."""
    from engines.hub_probe import count_with_hub_client

    if native is None:
        dialect = engine.dialects[Endpoint.NATIVE]
        native = probe(client.origin, engine, Endpoint.NATIVE, dialect, model, timeout_s=timeout_s)
    ours = native.completion.output_tokens
    theirs = count_with_hub_client(client.origin, PROBE_PROMPT, PROBE_TOKENS, timeout_s=timeout_s)
    facts.probe["hub_client_output_tokens"] = theirs
    facts.probe["native_output_tokens"] = ours
    if ours != theirs:
        message = f"huggingface_hub's client counts {theirs} generated tokens where we count {ours}; is this TGI?"
        raise TargetUnavailable(message, field="engine", failure=Failure(FailureKind.MALFORMED, message))


@contextmanager
def _redacting(secrets: Iterable[str]) -> Iterator[None]:
    """Errors that leave here do not carry the token, should the server have repeated it."""
    try:
        yield
    except TargetUnavailable as error:
        message = without(str(error), secrets)
        if message == str(error):
            raise
        failure = None if error.failure is None else replace(error.failure, message=message)
        raise TargetUnavailable(message, field=error.field, failure=failure) from None


def _token_ids(answer: Any) -> tuple[int, ...] | None:
    """Ids out of a tokenizer route's answer: vLLM's `tokens`, TGI's list of tokens, or its chat form."""
    found = answer
    if isinstance(answer, dict):
        found = answer.get("tokens", answer.get("tokenize_response"))
    if not isinstance(found, list):
        return None
    ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in found]
    numbers = tuple(one for one in ids if isinstance(one, int))
    return numbers if len(numbers) == len(ids) else None
