"""A whole response, split into headers and content, with the way back from content offsets to raw ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from engines.dialects.http1 import FRAMED, HEAD_END, LINES, SIZES, Head, chunk_size, parse_head, shown

#: of the line end that closes a chunk; counted where there are no chunks too, so that all raw ends are alike
CLOSING_BYTES = 2


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """One response, split. `content` is the body without its framing."""

    head: Head | None
    content: bytes
    #: the framing says that this is all of it; of a body that ends with the connection: as far as bytes can tell
    complete: bool
    #: what is wrong with the bytes, `None` where nothing is; what came before it is in `content` still
    malformed: str | None
    #: the body as it was framed, joined it is `content`: its chunks, or all of it where there are none
    pieces: list[bytes] = field(default_factory=list)
    #: where each piece ends, side by side: in the content; in the raw bytes, `CLOSING_BYTES` further on
    content_ends: list[int] = field(default_factory=list)
    raw_ends: list[int] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        """HTTP status, `None` without a whole head."""
        return None if self.head is None else self.head.status

    @property
    def until_close(self) -> bool:
        """Only the end of the connection ends the body."""
        return self.head is not None and self.head.until_close

    def header(self, name: str) -> str:
        """A header's value by its lower-case name, "" where there is none."""
        return "" if self.head is None else self.head.headers.get(name, "")


def split_response(raw: bytes) -> ParsedResponse:
    """Splits what one connection gave for one request; interim responses are passed over. Never raises."""
    position = 0
    while True:
        match = HEAD_END.search(raw, position)
        if match is None:
            start = raw[position : position + 5]
            wrong = None if b"HTTP/".startswith(start) else f"not an HTTP/1 status line: {shown(raw[position:])}"
            return ParsedResponse(None, b"", complete=False, malformed=wrong)
        head = parse_head(raw[position : match.start()])
        position = match.end()
        if isinstance(head, str):
            return ParsedResponse(None, b"", complete=False, malformed=head)
        if head.status == 101:
            wrong = "switches to another protocol, which was not asked for"
            return ParsedResponse(None, b"", complete=False, malformed=wrong)
        if head.status >= 200:
            break
    if head.chunked:
        return _split_chunks(head, raw, position)
    content = raw[position:] if head.length is None else raw[position : position + head.length]
    complete = head.length is None or len(content) == head.length
    return ParsedResponse(
        head, content, complete, None, [content], [len(content)], [position + len(content) + CLOSING_BYTES]
    )


def _split_chunks(head: Head, raw: bytes, position: int) -> ParsedResponse:
    return _split_plain_chunks(head, raw, position) or _walk_chunks(head, raw, position)


def _split_plain_chunks(head: Head, raw: bytes, position: int) -> ParsedResponse | None:
    """A whole body of small chunks with no line end in their data and none but the usual framing; else `None`.

    Cut at its line ends it is size, data, size, data, … and each size says how long its data are: then it is what a
    walk from chunk to chunk would find.
    """
    lines = raw[position:].split(b"\r\n")
    if lines[-3:] != [b"0", b"", b""]:
        return None
    sizes, pieces = lines[:-3:2], lines[1:-3:2]
    lengths = list(map(len, pieces))
    usual = max(lengths, default=0) < len(LINES) and list(map(LINES.__getitem__, lengths)) == sizes
    if not usual and list(map(SIZES.get, sizes)) != lengths:
        return None
    raw_ends = list(accumulate(map(FRAMED.__getitem__, lengths), initial=position))
    return ParsedResponse(head, b"".join(pieces), True, None, pieces, list(accumulate(lengths)), raw_ends[1:])


def _walk_chunks(head: Head, raw: bytes, position: int) -> ParsedResponse:
    pieces: list[bytes] = []
    raw_ends: list[int] = []
    complete = False
    malformed: str | None = None
    while True:
        end = raw.find(b"\r\n", position)
        if end < 0:
            break
        line = raw[position:end]
        size = SIZES.get(line) or chunk_size(line)
        if size is None:
            malformed = f"not a chunk size: {shown(line)}"
            break
        if size == 0:
            complete = _trailers_end(raw, end + 2)
            break
        start = end + 2
        stop = start + size
        piece = raw[start:stop]
        pieces.append(piece)
        raw_ends.append(start + len(piece) + CLOSING_BYTES)
        position = stop + 2
        if not b"\r\n".startswith(raw[stop:position]):
            malformed = "a chunk is longer than its size says"
            break
    content_ends = list(accumulate(map(len, pieces)))
    return ParsedResponse(head, b"".join(pieces), complete, malformed, pieces, content_ends, raw_ends)


def _trailers_end(raw: bytes, position: int) -> bool:
    """The empty line after the last chunk is there."""
    return raw.startswith(b"\r\n", position) or raw.find(b"\r\n\r\n", position) >= 0
