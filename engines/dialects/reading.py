"""From a Capture to a Completion: what all dialects share. A dialect adds how one event, or one answer, is understood.

Capture ─split_response▶ content ─parse_events▶ objects ─Take▶ Tally ─conclude▶ Completion
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, repeat
from itertools import count as count_up
from operator import add, eq, gt, le, lt, sub
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
from engines.dialects.runs import MeaningOf, Run, find_run, find_template
from engines.dialects.sse import Event, parse_events

_LARGEST = 2**62
#: events at the end of a stream that need not come in reads of their own
_LAST_TOGETHER = 4
#: how often a stream is asked for a run: each costs a walk over the rest of it
_MOST_TRIES = 8


@dataclass(slots=True)
class Tally:
    """What was understood of one response so far. Lives inside one decode."""

    #: which event of the content each token event is, in their order from 0, and its tokens (-1 unknown), side by side
    event_places: list[int] = field(default_factory=list)
    event_tokens: list[int] = field(default_factory=list)
    #: generated text of each choice, by the choice's index
    texts: dict[int, list[str]] = field(default_factory=dict)
    #: finish reason of each choice seen, `None` until it has one
    finish_reasons: dict[int, str | None] = field(default_factory=dict)
    token_ids: list[int] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    count_source: str | None = None
    model: str | None = None
    #: an error the engine reported inside a 200
    error: Failure | None = None
    #: what is wrong with the content
    malformed: str | None = None
    #: the stream ends inside an event
    cut: bool = False

    def add_event(self, place: int, tokens: int) -> None:
        """One event that carried generated text or a token."""
        self.event_places.append(place)
        self.event_tokens.append(tokens)

    def add_finish(self, choice: int, reason: Any) -> None:
        """What a choice says of its end; anything but a text that says something is not an end yet."""
        said = clean(reason, 100) if reason and isinstance(reason, str) else None
        if said or choice not in self.finish_reasons:
            self.finish_reasons[choice] = said or None

    def add_events(self, places: Sequence[int], tokens: Sequence[int]) -> None:
        """Many of them, side by side."""
        self.event_places += places
        self.event_tokens += tokens

    def add_text(self, choice: int, text: str) -> None:
        """More generated text of one choice."""
        self.texts.setdefault(choice, []).append(text)

    def add_texts(self, choice: int, texts: list[str]) -> None:
        """Much of it."""
        self.texts.setdefault(choice, []).extend(texts)

    @property
    def text(self) -> str:
        """The text of all choices in their order. A surrogate without its partner becomes a replacement character."""
        text = "".join("".join(parts) for _, parts in sorted(self.texts.items()))
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    @property
    def arrived(self) -> int | None:
        """Tokens that came: as many as there are ids, or as all events tell together; `None` where that is unknown."""
        if self.token_ids is not None:
            return len(self.token_ids)
        return sum(self.event_tokens) if self.event_tokens and -1 not in self.event_tokens else None

    @property
    def finish_reason(self) -> str | None:
        """The first choice's, or the first that is not a usual one; `None` where a choice has none."""
        reasons = [self.finish_reasons[choice] for choice in sorted(self.finish_reasons)]
        bad = [r for r in reasons if r in ("abort", "error")]
        if bad:
            return bad[0]
        return reasons[0] if reasons and None not in reasons else None


#: understands one event's object of a stream: (tally, object, its place among the events)
TakeEvent = Callable[[Tally, dict[str, Any], int], None]
#: the same of a run of events like the one before them: (tally, texts, running counts, their places)
TakeRun = Callable[[Tally, list[str], list[int] | None, Sequence[int]], None]
#: understands the object of an answer that did not stream: (tally, object, place 0)
TakeAnswer = Callable[[Tally, dict[str, Any], int], None]


def count(value: Any) -> int | None:
    """A token count as a server gives it; `None` where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None


def header_count(parsed: ParsedResponse, name: str) -> int | None:
    """A token count from a response header; `None` where there is none."""
    value = parsed.header(name)
    return count(int(value)) if value.isascii() and value.isdigit() and len(value) < 16 else None


class Reads:
    """When content arrived: event -> the read that completed it -> its stamp."""

    def __init__(self, capture: Capture, parsed: ParsedResponse) -> None:
        self._capture = capture
        self._parsed = parsed
        self._ends = list(accumulate(capture.read_bytes))
        self._last = min(len(capture.read_user_ns), len(capture.read_kernel_ns), len(self._ends)) - 1
        #: by an event's place: the read that completed it, and the piece of the body (its chunk) that did
        self._carried: list[int] = []
        self._pieces: Sequence[int] = ()

    def place(self, content_ends: Sequence[int]) -> None:
        """Finds all events of the content by the offsets just behind them, which rise."""
        starts, raw_starts = self._parsed.content_starts, self._parsed.raw_starts
        number = len(content_ends)
        if number <= len(starts) and all(map(lt, starts, content_ends)) and all(map(le, content_ends, starts[1:])):
            # each in a chunk of its own, as nearly always
            self._pieces = range(number)
            raw_ends = list(map(sub, map(add, raw_starts, content_ends), starts))
        else:
            last_piece, piece = len(starts) - 1, 0
            raw_ends = []
            pieces: list[int] = []
            self._pieces = pieces
            for content_end in content_ends:
                while piece < last_piece and starts[piece + 1] < content_end:
                    piece += 1
                raw_ends.append(raw_starts[piece] + content_end - starts[piece])
                pieces.append(piece)
        self._carried = self._reads_of(raw_ends)

    def _reads_of(self, raw_ends: list[int]) -> list[int]:
        """Of bytes whose offsets rise, the read that carried the one before each."""
        ends, last, number = self._ends, max(self._last, 0), len(raw_ends)
        # Mostly one read an event, up to the last few of a stream, which come together.
        first = bisect_left(ends, raw_ends[0]) if raw_ends else 0
        singly = max(min(number - _LAST_TOGETHER, last - first), 0)
        behind = first + singly
        in_time = all(map(le, raw_ends[:singly], ends[first:behind]))
        if not singly or not in_time or not all(map(lt, ends[first:behind], raw_ends[1 : singly + 1])):
            singly = behind = 0
        # Of the others, how many were there at the end of each read but the last, which has the rest.
        others = raw_ends[singly:]
        by_then = list(map(bisect_right, repeat(others), ends[behind:last]))
        each = map(sub, [*by_then, len(others)], [0, *by_then])
        return [*range(first, behind), *chain.from_iterable(map(repeat, count_up(behind), each))]

    def carried(self, places: Sequence[int]) -> list[int]:
        """The read of each of these events."""
        return list(map(self._carried.__getitem__, places))

    def merged(self, places: Sequence[int], shared: array[int]) -> int:
        """How many of the shared ones of these events came in a chunk of their own, as far as is known."""
        chunked = self._parsed.head is not None and self._parsed.head.chunked
        pieces = list(map(self._pieces.__getitem__, places)) if chunked else places
        return sum(map(gt, shared[1:], map(eq, pieces[1:], pieces)))

    def stamp_ns(self, read: int) -> tuple[int, bool]:
        """The read's stamp, and whether the kernel gave it."""
        if self._last < 0:
            return self._capture.ended_ns, False
        kernel = self._capture.read_kernel_ns[read]
        return (kernel, True) if kernel > 0 else (self._capture.read_user_ns[read], False)

    def stamps_ns(self, reads: list[int]) -> tuple[array[int], int]:
        """The stamps of many reads, and how many of them the kernel gave."""
        if self._last < 0:
            return array("q", [self._capture.ended_ns] * len(reads)), 0
        kernel = self._capture.read_kernel_ns
        if reads and reads[-1] - reads[0] == len(reads) - 1 and min(map(sub, reads[1:], reads), default=1) == 1:
            stamps = kernel[reads[0] : reads[-1] + 1]  # one read an event, with nothing between them
        else:
            stamps = array("q", map(kernel.__getitem__, reads))
        if min(stamps, default=0) > 0:
            return stamps, len(stamps)
        both = [self.stamp_ns(read) for read in reads]
        return array("q", [stamp for stamp, _ in both]), sum(from_kernel for _, from_kernel in both)

    @property
    def last(self) -> int:
        """The last read."""
        return max(0, self._last)


@dataclass(frozen=True, slots=True)
class Shortcut:
    """How a dialect takes a run of events at once; equal to taking one after the other."""

    meaning_of: MeaningOf
    take_run: TakeRun


def _in_runs(content: bytes, meaning_of: MeaningOf | None) -> Iterator[Event | Run]:
    """The events of a stream; of those of one template the first, and the others together behind it."""
    position, tries, behind_run = 0, 0 if meaning_of is None or b"\r" in content else _MOST_TRIES, False
    while True:
        run: Run | None = None
        for event in parse_events(content, position):
            if tries and meaning_of is not None and not behind_run and _is_one_line(event):
                tries -= 1
                # Where its one line begins, if it is as lines are nearly always written.
                start = event.end - len(event.data) - len(b"data: \n")
                template = find_template(event.data, meaning_of)
                run = None if template is None else find_run(content, start, template)
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
    found = list(_in_runs(parsed.content, None if shortcut is None else shortcut.meaning_of))
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
    stamps, clock = _stamps(reads, carried)
    shared = array("b", map(eq, carried, [-1, *carried]))
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


def _stamps(reads: Reads, event_reads: list[int]) -> tuple[array[int], str]:
    """Each event's stamp, and which clock they are from."""
    stamps, kernel_stamps = reads.stamps_ns(event_reads)
    if not stamps:
        return stamps, ""
    if kernel_stamps in (0, len(stamps)):
        return stamps, "kernel" if kernel_stamps else "user"
    # Our own reading may be late where the kernel's is not. Bytes arrive in order: none came after a later one.
    for k in range(len(stamps) - 2, -1, -1):
        stamps[k] = min(stamps[k], stamps[k + 1])
    return stamps, "mixed"


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
