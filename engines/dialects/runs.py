"""Streamed events that differ in their text and running counts alone, understood at once.

An engine writes thousands of events whose bytes are the same but for one string and at most two numbers. What one of
them means is decoded in full, and so is it again with marks in those places: where the marks come out as the text and
the count, they are whole JSON values, and any other value of that kind in their places means the same with that value.
So the others are cut at the bytes that stay the same, and only the values in between are looked at. Whatever does not
fit, or is no plain value of its kind, is left to the plain decoder, event by event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

from engines.dialects.failures import parse_json

#: where an event's text may be, and the running counts beside it
_TEXT = re.compile(rb'"(?:text|content|reasoning_content|reasoning)": ?"([^"\\\x00-\x1f]*)"')
_COUNT = re.compile(rb'"(?:completion_tokens|total_tokens)": ?(0|[1-9][0-9]{0,14})(?=[,}])')
#: plain values that mean nothing, and differ from answer to answer
_UNREAD = re.compile(rb'"(id|created)": ?(?:"[ !#-\[\]-~]*"|(?:0|[1-9][0-9]{0,18})(?=[,}]))')
#: what stands in their places while it is found out what they mean
_TEXT_MARK = "\u2e2e a text \u2e2e"
_COUNT_MARKS = (717_171_717_171, 919_191_919_191)
#: signs that no JSON has, in place of the bytes that stay the same: between two events, and between two values
_BREAK, _GAPS = b"\x01", (b"\x02", b"\x03")
_NOT_MARKS = bytes(sorted(set(range(256)) - {1, 2, 3}))
_TO_BREAKS = bytes.maketrans(b"\x02\x03", b"\x01\x01")
#: a string with none of these is its own JSON
_SPECIAL = re.compile(rb'[\x00-\x1f"\\]')
_OPENING, _CLOSING = b"data: ", b"\n\n"
_MOST_COUNT = 10**15
#: bytes that tell a literal apart, nearly always
_SHORT = 8

#: what an object means, as far as a run of them is concerned: (text, running count), the count `None` where it has
#: none; `None`: it means more than that. It may not depend on an object's "id" or "created".
Meaning = tuple[str, int | None]
MeaningOf = Callable[[dict[str, Any]], Meaning | None]


@dataclass(frozen=True, slots=True)
class Template:
    """The bytes that stay the same, framing included, and what comes between them."""

    #: one more than there are values
    literals: tuple[bytes, ...]
    #: which of the values is the text, and which the running count; `None`: there is none
    text_at: int
    count_at: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """Events one behind the other, of one template."""

    #: generated text of each
    texts: list[str]
    #: running count of each; `None`: they have none
    counts: list[int] | None
    #: content offset just behind the data line of each, as `Event.end`
    ends: list[int]
    #: content offset at which the event behind them begins
    stop: int


def find_template(data: bytes, meaning_of: MeaningOf) -> Template | None:
    """The template of an event's data; `None` where it has none that is sure."""
    counts = [match.span(1) for match in _COUNT.finditer(data)]
    if len(counts) > len(_COUNT_MARKS):
        return None
    for text in _TEXT.finditer(data):
        values = [(text.span(1), _TEXT_MARK.encode())]
        values += [(span, b"%d" % mark) for span, mark in zip(counts, _COUNT_MARKS, strict=False)]
        values.sort()
        places = [span for span, _ in values]
        literals = [data[stop:start] for (_, stop), (start, _) in pairwise([(0, 0), *places, (len(data), 0)])]
        marked = b"".join(part for pair in zip(literals, [mark for _, mark in values], strict=False) for part in pair)
        meaning = _meaning(_UNREAD.sub(rb'"\1":0', marked + literals[-1]), meaning_of)
        if meaning is None or meaning[0] != _TEXT_MARK:
            continue
        if meaning[1] is None and not counts:
            count_at = None
        elif meaning[1] in _COUNT_MARKS:
            count_at = places.index(counts[_COUNT_MARKS.index(meaning[1])])
        else:
            continue
        literals[0] = _OPENING + literals[0]
        return Template(tuple(literals), places.index(text.span(1)), count_at)
    return None


@lru_cache(maxsize=64)
def _meaning(data: bytes, meaning_of: MeaningOf) -> Meaning | None:
    """What the object means; remembered, for nearly all answers of an engine begin alike."""
    value = parse_json(data)
    return meaning_of(value) if isinstance(value, dict) else None


def find_run(content: bytes, start: int, template: Template, pieces: Sequence[bytes] = ()) -> Run | None:
    """The events of the template behind the one at `start`; `None` where there are none to be had.

    `pieces`: the content from `start` on, as it was framed. Where each of them is an event nothing needs to be looked
    for; else the last event before something else is not found, for it is told by its successor.
    """
    gaps = template.literals[1:-1]
    if any(mark in content for mark in (_BREAK, *_GAPS)):
        return None
    events = _cut_as_framed(content, start, template, pieces) or _cut_anywhere(content, start, template)
    if gaps:
        events = _mark_gaps(events, gaps)
    step = len(gaps) + 1
    values = events if step == 1 else _BREAK.join(events).translate(_TO_BREAKS).split(_BREAK)
    texts = _texts(values[template.text_at :: step])
    most = len(texts)
    counts: list[int] | None = None
    for at in range(step):
        if at != template.text_at:
            found = _counts(values[at::step])
            most = min(most, len(found))
            counts = found if at == template.count_at else counts
    if most < 2:
        return None
    same = sum(map(len, template.literals)) + len(_CLOSING) - len(gaps)
    ends = list(accumulate([len(event) + same for event in events[:most]], initial=start - 1))[2:]
    return Run(texts[1:most], None if counts is None else counts[1:most], ends, ends[-1] + 1)


def _cut_as_framed(content: bytes, start: int, template: Template, pieces: Sequence[bytes]) -> list[bytes]:
    """What is between the first and the last literal of each event; [] where pieces and events do not go together."""
    first, last = template.literals[0], template.literals[-1] + _CLOSING
    number = len(pieces)
    while number and not (pieces[number - 1].startswith(first) and pieces[number - 1].endswith(last)):
        number -= 1  # the last of a stream are of another kind
    opening, closing = len(first), -len(last)
    events = [piece[opening:closing] for piece in pieces[:number]]
    # That they are the content again is all there is to know, whatever the pieces were. Some may be several events.
    whole = b"".join((first, (last + first).join(events), last))
    fits = number > 0 and content.startswith(whole, start) and b"\n" not in b"".join(events)
    return events if fits else []


def _cut_anywhere(content: bytes, start: int, template: Template) -> list[bytes]:
    """The same, wherever chunks begin and end."""
    first, last = template.literals[0], template.literals[-1]
    between = last + _CLOSING + first
    stop = content.rfind(between, start)
    if stop < 0 or not content.startswith(first, start):
        return []
    return _put(_BREAK, between, content[start + len(first) : stop], at=len(last)).split(_BREAK)


def _mark_gaps(events: list[bytes], gaps: Sequence[bytes]) -> list[bytes]:
    """Each event with marks in the places of what stays the same in it, up to the first that has not all of them."""
    marked = _BREAK.join(events)
    for gap, mark in zip(gaps, _GAPS, strict=False):
        marked = _put(mark, gap, marked, at=0)
    # Put back in their places the literals give the content again, so what is in between is all there is to know.
    events, order = marked.split(_BREAK), b"".join(_GAPS[: len(gaps)])
    if marked.translate(None, _NOT_MARKS) != _BREAK.join([order] * len(events)):
        events = events[: next(k for k, event in enumerate(events) if event.translate(None, _NOT_MARKS) != order)]
    return events


def _put(mark: bytes, literal: bytes, data: bytes, *, at: int) -> bytes:
    """`data` with the mark in the place of each literal. `at`: in it, where a few bytes of it tell it apart.

    What is looked for should be short: the search prepares itself anew for each that it finds.
    """
    part = literal[at : at + _SHORT]
    before, behind = at, len(literal) - at - len(part)
    pieces = data.split(part)
    if len(pieces) > 1 and len(part) < len(literal):
        inner = [piece[behind : len(piece) - before] for piece in pieces[1:-1]]
        pieces = [pieces[0][: len(pieces[0]) - before], *inner, pieces[-1][behind:]]
    return mark.join(pieces) if literal.join(pieces) == data else data.replace(literal, mark)


def _texts(values: list[bytes]) -> list[str]:
    """The strings, up to the first that is none."""
    whole = b"".join(values)
    if whole.isascii() and _SPECIAL.search(whole) is None:
        return _BREAK.join(values).decode().split(_BREAK.decode())
    return list(_strings(values))


def _strings(values: list[bytes]) -> Iterator[str]:
    for value in values:
        text = parse_json(b'"%b"' % value)
        if not isinstance(text, str):
            return
        yield text


def _counts(values: list[bytes]) -> list[int]:
    """The numbers where all are such as an engine writes; none otherwise."""
    try:
        found = list(map(int, values))
    except ValueError:
        return []
    plain = list(map(b"%d".__mod__, found)) == values
    return found if plain and min(found, default=0) >= 0 and max(found, default=0) < _MOST_COUNT else []
