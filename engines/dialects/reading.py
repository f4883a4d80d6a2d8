"""From a Capture to a Completion: what all dialects share. A dialect adds how one event, or one answer, is understood.

Capture ─split_response▶ content ─parse_events▶ objects ─Take▶ Tally ─conclude▶ Completion
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engines.contract import Capture, Completion, Failure, FailureKind
from engines.dialects.failures import (
    clean,
    connect_failure,
    error_event,
    html_text,
    is_html,
    parse_json,
    rejection,
    transport_failure,
)
from engines.dialects.http1 import shown
from engines.dialects.http1_response import ParsedResponse, split_response
from engines.dialects.reads import Reads
from engines.dialects.runs import MeaningOf, Run, find_run, find_template
from engines.dialects.sse import Event, parse_events
from engines.dialects.tally import Tally, count

#: how often a stream is asked for a run: each costs a walk over the rest of it
_MOST_TRIES = 8

#: understands one event's object of a stream: (tally, object, its place among the events)
TakeEvent = Callable[[Tally, dict[str, Any], int], None]
#: the same of a run of events like the one before them: (tally, texts, running counts, their places)
TakeRun = Callable[[Tally, list[str], list[int] | None, Sequence[int]], None]
#: understands the object of an answer that did not stream: (tally, object, place 0)
TakeAnswer = Callable[[Tally, dict[str, Any], int], None]


def header_count(parsed: ParsedResponse, name: str) -> int | None:
    """A token count from a response header; `None` where there is none."""
    value = parsed.header(name)
    return count(int(value)) if value.isascii() and value.isdigit() and len(value) < 16 else None


@dataclass(frozen=True, slots=True)
class Shortcut:
    """How a dialect takes a run of events at once; equal to taking one after the other."""

    meaning_of: MeaningOf
    take_run: TakeRun


def _in_runs(parsed: ParsedResponse, meaning_of: MeaningOf | None) -> Iterator[Event | Run]:
    """The events of a stream; of those of one template the first, and the others together behind it."""
    content = parsed.content
    position, tries, behind_run = 0, 0 if meaning_of is None or b"\r" in content else _MOST_TRIES, False
    while True:
        run: Run | None = None
        for event in parse_events(content, position):
            if tries and meaning_of is not None and not behind_run and _is_one_line(event):
                tries -= 1
                # Where its one line begins, if it is as lines are nearly always written.
                start = event.end - len(event.data) - len(b"data: \n")
                template = find_template(event.data, meaning_of)
                pieces = parsed.pieces[bisect_right(parsed.content_ends, start) :]
                run = None if template is None else find_run(content, start, template, pieces)
            # The one behind a run is its last.
            behind_run = run is not None
            yield event
            if run is not None:
                yield run
                position = run.stop
                break
        else:
            return


def _is_one_line(event: Event) -> bool:
    return event.whole and not event.name and event.data != b"[DONE]" and b"\n" not in event.data


def read_stream(
    tally: Tally, parsed: ParsedResponse, reads: Reads, take: TakeEvent, shortcut: Shortcut | None = None
) -> None:
    """Walks the events of a stream, up to `[DONE]`."""
    found = list(_in_runs(parsed, None if shortcut is None else shortcut.meaning_of))
    ends = [end for one in found for end in (one.ends if isinstance(one, Run) else (one.end,))]
    reads.place(ends)
    status, behind = parsed.status, 0
    for one in found:
        if isinstance(one, Run):
            assert shortcut is not None
            place, behind = behind, behind + len(one.ends)
            shortcut.take_run(tally, one.texts, one.counts, range(place, behind))
            continue
        place, behind = behind, behind + 1
        if one.data == b"[DONE]":
            return
        value = parse_json(one.data)
        if isinstance(value, dict):
            failure = error_event(value, status)
            if failure is not None:
                tally.error = tally.error or failure
                continue
            take(tally, value, place)
        elif one.whole:
            tally.malformed = tally.malformed or f"an event is not a JSON object: {shown(one.data)}"
        else:
            tally.cut = True


def read_answer(tally: Tally, parsed: ParsedResponse, reads: Reads, take: TakeAnswer) -> None:
    """Understands an answer that did not stream."""
    value = parse_json(parsed.content)
    if not isinstance(value, dict):
        tally.malformed = f"the answer is not a JSON object: {shown(parsed.content)}"
        return
    tally.error = error_event(value, parsed.status)
    if tally.error is None:
        reads.place([len(parsed.content)])
        take(tally, value, 0)


def understand(
    capture: Capture,
    take_event: TakeEvent,
    take_answer: TakeAnswer,
    settle: Callable[[Tally], None] | None = None,
    shortcut: Shortcut | None = None,
) -> Completion:
    """Decodes a Capture; never raises, whatever the bytes.

    Args:
        capture: what the load process kept.
        take_event: understands one event of a stream.
        take_answer: understands an answer that did not stream.
        settle: runs once all content was read, for what only the whole tells.
        shortcut: takes events of a stream that are nearly the same together.
    """
    parsed = split_response(capture.body)
    reads = Reads(capture, parsed)
    tally = Tally()
    if parsed.status is not None and 200 <= parsed.status < 300:
        coding = parsed.header("content-encoding").lower()
        if coding not in ("", "identity"):
            tally.malformed = f"content-encoding {clean(coding, 40)!r}, which was not asked for"
        elif is_html(parsed):
            tally.malformed = html_text(parsed)
        elif _is_stream(parsed):
            read_stream(tally, parsed, reads, take_event, shortcut)
        elif parsed.complete:
            read_answer(tally, parsed, reads, take_answer)
        if settle is not None:
            settle(tally)
        _count_by_headers(tally, parsed)
    return conclude(capture, parsed, reads, tally)


def _count_by_headers(tally: Tally, parsed: ParsedResponse) -> None:
    """TGI's headers, for what the content does not count."""
    if tally.input_tokens is None:
        tally.input_tokens = header_count(parsed, "x-prompt-tokens")
    if tally.output_tokens is None:
        tally.output_tokens = header_count(parsed, "x-generated-tokens")
        tally.count_source = None if tally.output_tokens is None else "headers"


def conclude(capture: Capture, parsed: ParsedResponse, reads: Reads, tally: Tally) -> Completion:
    """Stamps for what was tallied, and the failure that counts."""
    carried = reads.carried(tally.event_places)
    stamps, clock = reads.stamps_ns(carried)
    shared = reads.shared(carried)
    whole = capture.ended == "complete" and not parsed.until_close and capture.body
    reason = tally.finish_reason
    return Completion(
        event_ns=stamps,
        event_tokens=array("q", tally.event_tokens),
        event_shared=shared,
        clock=clock,
        text=tally.text,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        count_source=tally.count_source,
        cached_tokens=tally.cached_tokens,
        finish_reason=reason,
        closed_ns=reads.stamp_ns(reads.last)[0] if whole else capture.ended_ns,
        status=parsed.status,
        failure=_failure(capture, parsed, tally),
        token_ids=None if tally.token_ids is None else tuple(tally.token_ids),
        model=None if tally.model is None else clean(tally.model, 300),
        merged_events=reads.merged(tally.event_places, shared) if 1 in shared else 0,
    )


def _failure(capture: Capture, parsed: ParsedResponse, tally: Tally) -> Failure | None:
    """The one that counts, by `FAILURE_PRECEDENCE`; our own limits come behind what the engine said of itself."""
    unconnected = connect_failure(capture)
    if unconnected is not None:
        return unconnected
    status = parsed.status
    if status is not None and not 200 <= status < 300:
        return rejection(parsed)
    reason = tally.finish_reason
    if tally.error is not None:
        return tally.error
    if reason == "error":
        return Failure(FailureKind.ENGINE_ERROR, "the engine ended the request with an error", status)
    if reason == "abort":
        return Failure(FailureKind.ABORTED, "the engine gave the request up", status)
    transport = transport_failure(capture, parsed)
    if transport is not None:
        return transport
    if tally.cut:
        return Failure(FailureKind.BROKEN_STREAM, "the stream ends inside an event", status)
    if tally.malformed is not None:
        return Failure(FailureKind.MALFORMED, clean(tally.malformed), status)
    if reason is None:
        return Failure(FailureKind.INCOMPLETE, "ended without a finish reason", status)
    told, arrived = tally.output_tokens, tally.arrived
    if arrived is not None and told is not None and arrived < told:
        text = f"{arrived} tokens arrived, the engine counted {told}"
        return Failure(FailureKind.INCOMPLETE, text, status)
    return None


def _is_stream(parsed: ParsedResponse) -> bool:
    """Events, whatever the content type says: gateways are seen to mislabel both ways."""
    start = parsed.content[:16].lstrip()
    if start.startswith((b"data:", b":", b"event:", b"{")):
        return not start.startswith(b"{")
    return "event-stream" in parsed.header("content-type").lower()
