"""Server-sent events out of content bytes, by the WHATWG rules where engines keep them and kindly where they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event that carries data."""

    #: the `data:` lines, joined with line feeds
    data: bytes
    #: content offset just behind the event's last `data:` line, its line end included: what had to arrive
    end: int
    #: the `event:` field, b"" without one
    name: bytes
    #: its last `data:` line has a line end; without one the stream may have been cut inside the event
    whole: bool


def parse_events(content: bytes) -> Iterator[Event]:
    """The events of a stream in their order. Comments and unknown fields are passed over.

    Kinder than the standard in one thing: an event without its empty line, at the end of the stream, still counts;
    `Event.whole` tells whether its last line was finished.
    """
    data: list[bytes] = []
    name = b""
    end = 0
    whole = True
    start = len(_BOM) if content.startswith(_BOM) else 0
    for match in _LINE.finditer(content, start):
        line, ending = match.groups()
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            end, whole = match.end(), bool(ending)
        elif not line:
            if data:
                yield Event(b"\n".join(data), end, name, whole)
                data = []
            name = b""
        elif line == b"data":
            data.append(b"")
            end, whole = match.end(), bool(ending)
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    if data:
        yield Event(b"\n".join(data), end, name, whole)
