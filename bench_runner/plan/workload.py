"""From a WorkloadSpec to the requests of one batch: what is sent and when, how long it is, how long the answer may be.

Words and lengths come from separate seeded streams. Lengths hang on (seed, repeat) alone, so that a warm-up batch and
a second attempt do the same work; words hang on (seed, repeat, attempt, stream) too, so that no batch repeats what a
prefix cache may hold.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from bench_runner.errors import DatasetError, SpecError
from bench_runner.plan.arrival import Schedule, schedule
from bench_runner.plan.dataset import Entry, read_dataset
from bench_runner.plan.lengths import Room, draw_lengths, fit_lengths, match_lengths
from bench_runner.plan.prompt import Prompt, write_prompts
from bench_runner.plan.seeds import open_stream
from bench_runner.plan.spec import DatasetPrompts, FixedPrompt, ListedLength, SyntheticPrompts, Trace, WorkloadSpec
from bench_runner.plan.tokenizer import Tokenizer
from bench_runner.plan.trace import TraceRow, read_trace

#: The stream whose requests are the measurement; every other name is a warm-up batch or a probe.
MEASURED = "measured"
#: A warm-up batch of a run by duration is sent for so long behind its ramp-up at most.
WARMUP_S = 30.0
#: Most input tokens of one batch: about a gigabyte of text.
_MAX_BATCH_TOKENS = 200_000_000


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request before any engine's dialect has seen it."""

    prompt: str | tuple[int, ...]
    #: as the engine counts them, template and BOS included
    input_tokens: int
    #: `input_tokens` is proven, not estimated
    exact: bool
    #: output tokens asked for, or the most allowed where lengths are natural
    max_tokens: int
    #: characters of the text; `None` for token ids
    characters: int | None


@dataclass(frozen=True, slots=True)
class DrawnWorkload:
    """The requests of one batch."""

    requests: tuple[PlannedRequest, ...]
    #: of the realised prompts: SHA-256, 16 hex digits
    digest: str
    #: what the reader of the result must know, such as lengths left out
    notes: tuple[str, ...]
    #: when each of them is sent
    schedule: Schedule


def draw(
    workload: WorkloadSpec,
    *,
    seed: int,
    repeat: int,
    attempt: int,
    stream: str,
    tokenizer: Tokenizer,
    context_tokens: int | None,
    overhead: int = 0,
) -> DrawnWorkload:
    """The requests of one batch, the same for the same arguments.

    A batch other than `MEASURED` has the same lengths and moments and other words, and no more than `WARMUP_S` of them
    in a run by duration; given texts and datasets are never sent there. A trace's lengths go before the workload's own
    where prompts are drawn.

    Args:
        workload: what is asked for.
        seed: of the run.
        repeat: of its cell.
        attempt: of the run.
        stream: which batch: `MEASURED`, "warmup-0", "probe", …
        tokenizer: proves or estimates the lengths.
        context_tokens: longest input + output the target takes; `None`: not known, so not checked.
        overhead: tokens the target's chat template adds to the tokenizer's count of a text; 0 for completions.

    Raises:
        SpecError: it cannot be carried out as asked; `field` names what to mend.
    """
    notes: list[str] = []
    room = Room(tokenizer, context_tokens, overhead)
    if workload.duration_s is not None and stream != MEASURED:
        warm_s = min(workload.duration_s, (workload.ramp_up_s or 0) + WARMUP_S)
        workload = workload.model_copy(update={"duration_s": warm_s})
    words = open_stream("prompts", seed, repeat, attempt, stream)
    rows = _rows(workload, notes)
    most = workload.requests
    planned = _schedule(workload, rows, seed, repeat, attempt)
    _check_ramp_up(workload, planned)
    if planned.offsets_ns is not None:
        workload = workload.model_copy(update={"requests": len(planned.offsets_ns)})
    if stream != MEASURED and workload.matched_output_tokens is not None:
        # A shorter warm-up batch takes the first of them.
        matched = workload.matched_output_tokens[: workload.requests]
        workload = workload.model_copy(update={"matched_output_tokens": matched})
    outputs = draw_lengths(workload.output_tokens, workload.requests, open_stream("output-lengths", seed, repeat))
    kept = list(range(workload.requests))
    match workload.prompts:
        case SyntheticPrompts(input_tokens=length, form=form):
            inputs = draw_lengths(length, workload.requests, open_stream("input-lengths", seed, repeat))
            inputs = _recorded([row.input_tokens for row in rows], inputs)
            outputs = _recorded([row.output_tokens for row in rows], outputs)
            one_by_one = bool(rows) or isinstance(length, ListedLength)
            kept = fit_lengths(inputs, outputs, room, notes, one_by_one=one_by_one)
            outputs = [outputs[position] for position in kept]
            prompts = _write([inputs[position] for position in kept], words, room, as_ids=form == "token_ids")
            if alike := len(prompts) - len({prompt.content for prompt in prompts}):
                notes.append(f"{alike} prompts are the same as others: so few tokens leave no more different texts")
        case FixedPrompt(text=text):
            prompts = [room.prompt(text)] * workload.requests
            if workload.requests > 1:
                notes.append("every request carries the same prompt, so a prefix cache serves all but the first")
        case DatasetPrompts() as dataset:
            order = open_stream("dataset-order", seed, attempt)
            prompts, outputs = _pick_entries(dataset, outputs, room, order, repeat * most, notes)
            if attempt > 1:
                notes.append("a further attempt draws from the same dataset, so prompts of earlier ones may recur")
        case _ as unknown:
            assert_never(unknown)
    if rows and not isinstance(workload.prompts, SyntheticPrompts):
        notes.append("of the trace only its moments are used: prompts are given, and their lengths with them")
    if len(kept) < workload.requests:
        short = workload.model_copy(update={"requests": len(kept)})
        planned = _picked(planned, kept) if rows else _schedule(short, rows, seed, repeat, attempt)
    outputs = match_lengths(workload, outputs, kept, notes)
    for prompt, output in zip(prompts, outputs, strict=True):
        room.check(prompt.tokens, output)
    if stream != MEASURED and not isinstance(workload.prompts, SyntheticPrompts):
        prompts = _write([prompt.tokens for prompt in prompts], words, room)
    if not tokenizer.exact:
        notes.append("prompt lengths are estimates: no tokenizer at hand")
    requests = tuple(
        PlannedRequest(p.content, p.tokens, p.exact, output, p.characters)
        for p, output in zip(prompts, outputs, strict=True)
    )
    return DrawnWorkload(requests, _digest(prompts), tuple(notes), planned)


def _check_ramp_up(workload: WorkloadSpec, planned: Schedule) -> None:
    """Raises SpecError where the sending is over before anything is measured."""
    ramp_up_s = workload.ramp_up_s
    if ramp_up_s is not None and planned.span_ns is not None and planned.span_ns <= ramp_up_s * 1e9:
        raise SpecError(
            f"every request is sent within the ramp-up of {ramp_up_s:g} s, so nothing is measured; give more requests "
            "or a shorter ramp-up",
            field="workload.ramp_up_s",
        )


def _rows(workload: WorkloadSpec, notes: list[str]) -> tuple[TraceRow, ...]:
    """What a trace asks for; () for every other arrival."""
    if not isinstance(workload.arrival, Trace):
        return ()
    rows = read_trace(workload.arrival, most=workload.requests, duration_s=workload.duration_s)
    if len(rows) < workload.requests:
        notes.append(f"the trace has {len(rows)} requests for the {workload.requests} that may be sent")
    if workload.arrival.format == "mooncake":
        notes.append("prefixes that the trace's requests share (hash_ids) are not replayed: every prompt is new")
    return rows


def _recorded(recorded: list[int | None], own: list[int]) -> list[int]:
    """A trace's lengths where it has them, the workload's own elsewhere."""
    return [there or drawn for there, drawn in zip(recorded, own, strict=True)] if recorded else own


def _schedule(workload: WorkloadSpec, rows: tuple[TraceRow, ...], seed: int, repeat: int, attempt: int) -> Schedule:
    return schedule(
        workload.arrival,
        workload.requests,
        seed=seed,
        repeat=repeat,
        attempt=attempt,
        duration_s=workload.duration_s,
        trace_s=[row.offset_s for row in rows],
    )


def _picked(planned: Schedule, kept: list[int]) -> Schedule:
    """The moments of the rows that are sent: the others' leave gaps, as they would with a target that refuses them."""
    offsets_ns = planned.offsets_ns
    assert offsets_ns is not None
    return replace(planned, offsets_ns=array("q", (offsets_ns[position] for position in kept)))


def _pick_entries(
    dataset: DatasetPrompts, outputs: list[int], room: Room, order: random.Random, before: int, notes: list[str]
) -> tuple[list[Prompt], list[int]]:
    """Entries in a seeded order, from behind those that repeats `before` this one took; too long ones are passed over.

    An entry's own output length goes before the drawn one in `outputs`.
    """
    entries = read_dataset(dataset.path, dataset.format)
    wanted = len(outputs)
    if len(entries) < wanted:
        raise DatasetError(
            f"dataset {dataset.path} has {len(entries)} usable entries, too few for {wanted} requests; "
            "ask for fewer requests or give a longer file: entries are never sent twice in one run",
            field="workload.requests",
        )
    shuffled = order.sample(entries, len(entries))
    start = before % len(entries)
    prompts: list[Prompt] = []
    lengths: list[int] = []
    passed_over = 0
    for entry in shuffled[start:] + shuffled[:start]:
        prompt = room.prompt(entry.prompt)
        output = _own_output(entry, room) or outputs[len(prompts)]
        if room.holds(prompt.tokens, output):
            prompts.append(prompt)
            lengths.append(output)
            if len(prompts) == wanted:
                break
        else:
            passed_over += 1
    else:
        raise DatasetError(
            f"dataset {dataset.path}: only {len(prompts)} of {len(entries)} entries fit the target's context of "
            f"{room.context_tokens} with their output, too few for {wanted} requests; ask for fewer requests",
            field="workload.requests",
        )
    if passed_over:
        notes.append(f"{passed_over} dataset entries longer than the context of {room.context_tokens} passed over")
    if before + wanted + passed_over > len(entries):
        notes.append("the dataset is shorter than all repeats so far, so prompts recur between repeats")
    if alike := wanted - len({prompt.content for prompt in prompts}):
        notes.append(f"{alike} dataset prompts are the same as others of this run")
    return prompts, lengths


def _own_output(entry: Entry, room: Room) -> int | None:
    """The output length that the dataset gives for an entry; `None` where it gives none."""
    if entry.answer is not None:
        return max(1, room.tokenizer.count(entry.answer) - int(room.tokenizer.bos))
    return entry.output_tokens


def _write(lengths: Sequence[int], words: random.Random, room: Room, *, as_ids: bool = False) -> list[Prompt]:
    if sum(lengths) > _MAX_BATCH_TOKENS:
        raise SpecError(
            f"{sum(lengths)} input tokens in one batch, more than the {_MAX_BATCH_TOKENS} that can be drawn; "
            "ask for fewer requests or shorter prompts",
            field="workload.requests",
        )
    return write_prompts(lengths, words, room.tokenizer, overhead=room.overhead, as_ids=as_ids)


def _digest(prompts: Sequence[Prompt]) -> str:
    """SHA-256 over kind, size and content of each prompt in turn, 16 hex digits."""
    digest = hashlib.sha256()
    for prompt in prompts:
        if isinstance(prompt.content, str):
            kind, content = b"text", prompt.content.encode()
        else:
            kind, content = b"ids", ",".join(map(str, prompt.content)).encode()
        digest.update(b"%s %d\n" % (kind, len(content)))
        digest.update(content)
    return digest.hexdigest()[:16]
