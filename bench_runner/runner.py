"""One run: open the target, plan, warm up, load, decode, calibrate, measure, judge.

run(spec) ─▶ open_target ─▶ draw ─▶ warm up ─▶ drive ─▶ decode ─▶ calibrate ─▶ summarise ─▶ judge ─▶ RunOutcome
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from bench_runner.batch import Batch, facts_of, raise_early_end, refuse_impossible
from bench_runner.calibration import Conditions, NotCalibrated, calibrate
from bench_runner.errors import LoadFailed, RunCancelled, RunError, SpecError, TargetFailed
from bench_runner.load.contract import LoadOutcome, RunControl
from bench_runner.load.outcome import describe_load
from bench_runner.measure.cards import CardLog, card_notes, cards_of, describe_cards, describe_host, held_back
from bench_runner.measure.counters import Movement, counters_moved, only_counters
from bench_runner.measure.environment import describe, model_revision, network_path
from bench_runner.measure.evidence import Evidence
from bench_runner.measure.summary import RunFacts
from bench_runner.measure.telemetry import describe_telemetry, requests_in_engine
from bench_runner.measure.window import extend_to_last_send
from bench_runner.outcome import Notebook, RunOutcome
from bench_runner.plan.arrival import window_notes
from bench_runner.plan.spec import RunSpec, SyntheticPrompts
from bench_runner.plan.tokenizer import (
    ApproximateTokenizer,
    RemoteTokenizer,
    Tokenizer,
    check_match,
    open_tokenizer,
)
from bench_runner.plan.workload import MEASURED, DrawnWorkload
from bench_runner.warmup import warm_up
from engines.cards.watch import CardWatch
from engines.clock import monotonic_ns, sleep_s, utc_now
from engines.contract import Capture, Endpoint
from engines.errors import (
    EngineError,
    LaunchFailed,
    OpeningStopped,
    RequestNotPossible,
    TargetRefused,
    TargetUnavailable,
    UnknownEngine,
)
from engines.probe import PROBE_PROMPT
from engines.target import HeldServer, OpenTarget, Site, open_target
from engines.watch import Watch

log = logging.getLogger(__name__)

#: An engine may count a little behind its answers: counters are read again until they stand still, so often at most.
COUNTER_READS = 5
COUNTER_PAUSE_S = 0.1


def run(spec: RunSpec, *, control: RunControl, site: Site, held: HeldServer | None = None) -> RunOutcome:
    """Carries out one run. Whatever the target does ends in a RunOutcome, never in an exception.

    Args:
        spec: what to run.
        control: steers it from outside: cancel, lease deadline, progress.
        site: this host's secrets, rules and folders.
        held: keeps an engine that is started for the run up for the next one; `None`: it is stopped with this one.
    """
    notebook = Notebook(spec, utc_now())
    error: RunError | None = None
    try:
        _carry_out(spec, control, site, notebook, held)
    except RunError as raised:
        error = raised
    except EngineError as raised:
        error = _translated(raised)
        if isinstance(raised, LaunchFailed) and raised.log_tail:
            notebook.engine_log = raised.log_tail
    except Exception as raised:
        # A fault of ours. The run still ends, with what was measured until then.
        log.exception("run broke")
        error = RunError(f"internal error: {type(raised).__name__}: {raised}")
    control.stage = "done"
    return notebook.close(error)


def _carry_out(spec: RunSpec, control: RunControl, site: Site, notebook: Notebook, held: HeldServer | None) -> None:
    refuse_impossible(spec)
    control.stage = "opening"
    with _opened(spec, control, site, notebook, held) as target:
        deadline_ns = monotonic_ns() + int(spec.limits.run_timeout_s * 1e9)
        notebook.redact = target.redact
        _check_engine(target)
        control.stage = "planning"
        tokenizer = _choose_tokenizer(spec, target, control)
        notebook.environment = _environment(spec, target, tokenizer, notebook.notes)
        overhead = _template_tokens(target, tokenizer)
        batch = Batch(spec, target, tokenizer, overhead, control, site.state_dir, deadline_ns)
        drawn = batch.draw(MEASURED)
        notebook.prompts_digest = drawn.digest
        notebook.notes += drawn.notes
        control.stage = "warming"
        if held is not None:
            held.is_settled = False
        warm_up(batch, notebook, held)
        outcome = _measure(batch, notebook, drawn)
    raise_early_end(outcome)
    if held is not None:
        held.is_settled = True


@contextmanager
def _opened(
    spec: RunSpec, control: RunControl, site: Site, notebook: Notebook, held: HeldServer | None
) -> Iterator[OpenTarget]:
    with ExitStack() as stack:
        try:
            target = stack.enter_context(
                open_target(
                    spec.target,
                    site,
                    should_stop=lambda: control.cancelled,
                    probe_timeout_s=spec.limits.request_timeout_s,
                    overlay=spec.workload.lengths == "overlay",
                    extra=spec.workload.extra_body,
                    held=held,
                )
            )
        finally:
            notebook.start = None if held is None else held.describe()
        try:
            yield target
        finally:
            _keep_log(target, notebook)


def _keep_log(target: OpenTarget, notebook: Notebook) -> None:
    """What a started engine wrote last, while it is there to be asked: its own stop would push that out."""
    if not target.is_started:
        return
    notebook.engine_log = target.log_tail()
    if (code := target.exit_code) is not None:
        notebook.notes.append(f"the engine ended during the run, with exit code {code}; engine_log has its last words")


def _measure(batch: Batch, notebook: Notebook, drawn: DrawnWorkload) -> LoadOutcome:
    """The window: driven, watched, read back, and held against a replay of itself."""
    spec, target, control = batch.spec, batch.target, batch.control
    control.stage = "measuring"
    before = _still_counters(target)
    broken = partial(_keep_broken, batch, notebook, drawn)
    # A driver that was not there a moment ago, or hung, is not waited for again.
    has_cards = notebook.environment["cards"] is not None
    watched = _watch_cards(spec, target, spec.scrape_interval_s) if has_cards else CardWatch(None, interval_s=None)
    with target.watch(spec.scrape_interval_s) as watch, watched, batch.send(drawn, salvage=broken) as outcome:
        watch.stop()
        watched.stop()
        after = _still_counters(target, had=bool(before))
        moved = counters_moved(before, after)
        control.stage = "decoding"
        for record, raw in batch.decode(drawn, outcome):
            notebook.keep(record, raw)
    facts = facts_of(spec, outcome, drawn, sent=len(notebook.records))
    cards = CardLog(watched.readings, own=bool(_cards(spec, target)), troubles=watched.troubles)
    counted = moved.input_tokens, moved.output_tokens
    notebook.facts = replace(facts, counted_input_tokens=counted[0], counted_output_tokens=counted[1], cards=cards)
    if outcome.ended == "complete":
        window = outcome.window_start_ns, outcome.window_end_ns
        unsent = len(drawn.requests) - len(notebook.records)
        notebook.notes += window_notes(drawn.schedule, window, duration_s=spec.workload.duration_s, unsent=unsent)
    notebook.environment["load"] = describe_load(outcome)
    _keep_telemetry(notebook, outcome, watch, before, after)
    _keep_cards(notebook, outcome, cards)
    slowed = {str(card.index): held_back(readings) for card, readings in cards.cards}
    evidence = _evidence(batch, notebook, outcome, moved, watch)
    notebook.evidence = replace(evidence, cards=slowed, cards_judged=cards.is_judged)
    if outcome.ended == "complete":
        control.stage = "calibrating"
        _calibrate(batch, notebook, outcome, drawn)
    return outcome


def _keep_broken(batch: Batch, notebook: Notebook, drawn: DrawnWorkload, captures: Iterator[Capture]) -> None:
    """What a load that broke off had measured until then: its records, and a Summary of them. The run is INVALID."""
    for capture in captures:
        notebook.keep(batch.understand(capture, drawn.requests[capture.index]), capture.body)
    target = batch.spec.target
    if lost := len(drawn.requests) - len(notebook.records):
        notebook.notes.append(f"the load broke off, and {lost} of {len(drawn.requests)} requests cannot be read back")
    if any(record.sent_ns is not None for record in notebook.records):
        notebook.notes.append(
            "the load broke off: what its spool held is kept, and what was in flight counts as cancelled"
        )
        notebook.facts = RunFacts(
            arrival_kind=batch.spec.workload.arrival.kind,
            concurrency=drawn.schedule.concurrency,
            gpus=target.gpus,
            model=target.model,
            hardware=target.hardware,
            precision=target.precision,
        )


def _check_engine(target: OpenTarget) -> None:
    """A simulated engine says which one it plays; under another's name its figures would be that one's."""
    played = (target.facts.simulation or {}).get("engine")
    if played is not None and played != target.engine.name:
        raise SpecError(
            f"{target.origin.url} simulates {played}, not {target.engine.name}; mend engine", field="target.engine"
        )


def _choose_tokenizer(spec: RunSpec, target: OpenTarget, control: RunControl) -> Tokenizer:
    """The model's own file where one is given, else the engine's /tokenize, else an estimate."""
    adds_bos = target.engine.capabilities.adds_bos
    if spec.target.tokenizer is not None:
        local = open_tokenizer(spec.target.tokenizer, adds_bos=adds_bos)
        counted = target.facts.probe.get("input_tokens")
        if isinstance(counted, int) and target.endpoint is not Endpoint.CHAT:
            check_match(local, PROBE_PROMPT, counted)
        return local
    if _ids(target, PROBE_PROMPT) is None:
        return ApproximateTokenizer()

    def tokenize(text: str) -> tuple[int, ...]:
        if control.cancelled:
            raise RunCancelled("cancelled while prompts were drawn")
        ids = _ids(target, text)
        if ids is None:
            raise TargetUnavailable(f"{target.origin.url} stopped answering /tokenize", field="target.tokenizer")
        return ids

    return RemoteTokenizer(tokenize)


def _ids(target: OpenTarget, text: str) -> tuple[int, ...] | None:
    try:
        return target.tokenize(text)
    except TargetUnavailable as error:
        message = f"{error}; give the model's own tokenizer.json (target.tokenizer) to go without this route"
        raise TargetUnavailable(message, field="target.tokenizer", failure=error.failure) from None


def _template_tokens(target: OpenTarget, tokenizer: Tokenizer) -> int:
    """Tokens the chat template adds to a text, as the engine counted its probe; 0 for completions."""
    counted = target.facts.probe.get("input_tokens")
    if target.endpoint is not Endpoint.CHAT or not isinstance(counted, int) or not tokenizer.exact:
        return 0
    return counted - tokenizer.count(PROBE_PROMPT)


def _calibrate(batch: Batch, notebook: Notebook, outcome: LoadOutcome, drawn: DrawnWorkload) -> None:
    """The client's own error under this run's load; where there is none to be had, a note says why."""
    if not batch.spec.calibration:
        notebook.notes.append("not calibrated: calibration is off")
        return
    events = sum(len(record.event_ns) for record in notebook.records)
    conditions = Conditions(
        window_s=outcome.wall_s,
        concurrency=drawn.schedule.concurrency,
        socket=batch.socket,
        tls=batch.target.origin.scheme == "https",
        processes=outcome.processes,
        event_bytes=notebook.received_bytes // max(1, events),
        folder=batch.state_dir,
    )
    try:
        notebook.calibration = calibrate(notebook.records, conditions, batch.control)
    except (NotCalibrated, LoadFailed) as reason:
        notebook.notes.append(f"not calibrated: {reason}")


def _still_counters(target: OpenTarget, *, had: bool = False) -> dict[str, float]:
    """The engine's own counters once they stand still; {} where it has none, or no longer tells those it `had`.

    A reading that gave nothing says nothing of an earlier one.
    """
    counters = target.counters()
    for _ in range(COUNTER_READS if counters or had else 0):
        sleep_s(COUNTER_PAUSE_S)
        again = target.counters()
        if counters and again and all(again.get(name) == value for name, value in only_counters(counters).items()):
            return again
        counters = again or counters
    return counters


def _cards(spec: RunSpec, target: OpenTarget) -> tuple[int, ...] | None:
    path = "same host" if target.is_here else network_path(target.origin.address)
    return cards_of(spec.target, path, simulated=target.facts.simulated)


def _watch_cards(spec: RunSpec, target: OpenTarget, interval_s: float | None) -> CardWatch:
    """Its cards; where it does not say which these are, all of its host, though at both ends alone."""
    numbers = _cards(spec, target)
    return CardWatch(numbers, interval_s=interval_s if numbers else None)


def _keep_cards(notebook: Notebook, outcome: LoadOutcome, cards: CardLog) -> None:
    """What the target's cards drew and did over the measured window, where one is measured, else over all of it."""
    assert notebook.facts is not None
    measured = extend_to_last_send(notebook.records, notebook.facts.measured)
    span = measured or (outcome.window_start_ns, outcome.window_end_ns)
    told = describe_cards(cards, span)
    if told is not None:
        notebook.telemetry = {**(notebook.telemetry or {}), "cards": told}
    notebook.notes += [note for note in card_notes(cards, span) if note not in notebook.notes]


def _keep_telemetry(
    notebook: Notebook, outcome: LoadOutcome, watch: Watch, before: dict[str, float], after: dict[str, float]
) -> None:
    """What the engine said of itself; its scrapes are traffic that is not the load's, so the reader is told."""
    window = outcome.window_start_ns, outcome.window_end_ns
    notebook.telemetry = describe_telemetry(watch.readings, window, before, after)
    if watch.scrapes:
        told = f"the engine's own metrics were read {watch.scrapes} times beside the load"
        notebook.notes.append(f"{told}, until {watch.given_up}" if watch.given_up else told)
    elif notebook.spec.scrape_interval_s is None:
        notebook.notes.append("the engine's own metrics were not read beside the load: scrape_interval_s is null")


def _environment(spec: RunSpec, target: OpenTarget, tokenizer: Tokenizer, notes: list[str]) -> dict[str, object]:
    """What the run is made on; `notes` gets what could not be learned of it."""
    facts = target.facts
    server = {
        "engine": target.engine.name,
        "url": target.origin.url,
        "version": facts.version,
        "model_max_tokens": facts.model_max_tokens,
        "served_models": list(facts.served_models),
        "flags": list(facts.flags),
        "info": facts.info,
        "simulated": facts.simulated,
        "simulation": facts.simulation,
        "probe": facts.probe,
        "startup_s": facts.startup_s,
        "pid": target.pid,
    }
    stated = {
        "simulated": facts.simulated,
        "endpoint": target.endpoint.value,
        "hardware": spec.target.hardware,
        "gpus": spec.target.gpus,
        "precision": spec.target.precision,
        "flag_class": spec.target.flag_class,
        "socket_policy": spec.workload.socket.model_dump(),
        "tokenizer": tokenizer.name,
        "cards": _host_cards(spec, target, notes),
        "model_revision": model_revision(spec.target, facts.flags, facts.info),
    }
    return describe(target.origin.address, server=server, run=stated, port=target.origin.port)


def _host_cards(spec: RunSpec, target: OpenTarget, notes: list[str]) -> dict[str, object] | None:
    with _watch_cards(spec, target, None) as cards:
        cards.stop()
    notes += cards.troubles
    return describe_host(cards.host, own=bool(_cards(spec, target)))


def _evidence(batch: Batch, notebook: Notebook, outcome: LoadOutcome, moved: Movement, watch: Watch) -> Evidence:
    workload = batch.spec.workload
    window = outcome.window_start_ns, outcome.window_end_ns
    # A fixed prompt is the same in every run, and a cache knows it from the first on.
    distinct = isinstance(workload.prompts, SyntheticPrompts)
    return Evidence(
        records=notebook.records,
        arrival_kind=workload.arrival.kind,
        max_concurrency=getattr(workload.arrival, "max_concurrency", None),
        concurrency=getattr(workload.arrival, "concurrency", None),
        measured=None if notebook.facts is None else extend_to_last_send(notebook.records, notebook.facts.measured),
        ended=outcome.ended,
        lengths=workload.lengths,
        matched=workload.matched_output_tokens is not None,
        fixed_length=batch.target.engine.capabilities.fixed_length,
        approximate_prompts=not batch.tokenizer.exact,
        distinct_prompts=distinct,
        shared_prefix_tokens=batch.overhead,
        hardware=batch.spec.target.hardware,
        precision=batch.spec.target.precision,
        # A share of one core is judged: that of the process that used most.
        cpu_s=outcome.cpu_s if outcome.busiest_cpu_s is None else outcome.busiest_cpu_s,
        wall_s=outcome.wall_s,
        max_lag_s=outcome.max_lag_s,
        clock_stepped=outcome.clock_stepped,
        cpu_wait_s=outcome.cpu_wait_s,
        preemptions=outcome.preemptions,
        stolen_s=outcome.stolen_s,
        counted_input_tokens=moved.input_tokens,
        counted_output_tokens=moved.output_tokens,
        counted_cached_tokens=moved.cached_tokens,
        counted_requests=moved.requests,
        engine_restarted=moved.restarted,
        counters_unread=moved.unread,
        gauges=requests_in_engine(watch.readings, window),
    )


def _translated(error: EngineError) -> RunError:
    """An error of the floor below in the words of this one."""
    match error:
        case TargetUnavailable():
            return TargetFailed(str(error), field=_field(error), failure=error.failure)
        case LaunchFailed():
            tail = f"; the end of its log:\n{error.log_tail}" if error.log_tail else ""
            return TargetFailed(f"{error}{tail}", field=_field(error))
        case OpeningStopped():
            return RunCancelled(str(error))
        case RequestNotPossible():
            return SpecError(str(error), field=error.field and f"workload.{error.field}")
        case UnknownEngine() | TargetRefused():
            return SpecError(str(error), field=_field(error))
        case _:
            return TargetFailed(str(error), field=_field(error))


def _field(error: EngineError) -> str | None:
    return None if error.field is None else f"target.{error.field.removeprefix('target.')}"
