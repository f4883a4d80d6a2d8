"""Server-sent events out of content bytes, by the WHATWG rules where engines keep them and kindly where they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")
_BOM = b"\xef\xbb\xbf"


class Event(Struct, frozen=True, gc=False):
    """One event that carries data."""

    #: the `data:` lines, joined with line feeds
    data: bytes
    #: content offset just behind the event's last `data:` line, its line end included: what had to arrive
    end: int
    #: the `event:` field, b"" without one
    name: bytes
    #: its last `data:` line has a line end; without one the stream may have been cut inside the event
    whole: bool


def parse_events(content: bytes, position: int = 0) -> Iterator[Event]:
    """The events of a stream in their order. Comments and unknown fields are passed over.

    `position`: where one begins, to leave out what is before it.

    Kinder than the standard in one thing: an event without its empty line, at the end of the stream, still counts;
    `Event.whole` tells whether its last line was finished.
    """
    data: list[bytes] = []
    name = b""
    end = 0
    whole = True
    if position == 0 and content.startswith(_BOM):
        position = len(_BOM)
    only_line_feeds = b"\r" not in content
    while position < len(content):
        if only_line_feeds and not data and not name and content.startswith(b"data: ", position):
            # Nearly every event of nearly every engine: one line of data and the empty line behind it.
            end = content.find(b"\n", position)
            if content.startswith(b"\n\n", end):
                yield Event(content[position + 6 : end], end + 1, b"", True)
                position = end + 2
                continue
        match = _LINE.match(content, position)
        assert match is not None  # an empty line at least
        position = match.end()
        line, ending = match.groups()
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            end, whole = position, bool(ending)
        elif not line:
            if data:
                yield Event(b"\n".join(data), end, name, whole)
                data = []
            name = b""
        elif line == b"data":
            data.append(b"")
            end, whole = position, bool(ending)
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    if data:
        yield Event(b"\n".join(data), end, name, whole)
