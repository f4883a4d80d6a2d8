"""HTTP/1.1 as engines speak it: whole requests out, responses framed as their bytes come in.

No JSON and no socket here: the load process imports this module for `ResponseFramer` and `WHOLE_CHUNKS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from engines.contract import Origin
from engines.errors import RequestNotPossible

USER_AGENT = "enginebench"

#: longest status line and headers, and longest chunk-size or trailer line, that are still taken for HTTP
MAX_HEAD_BYTES = 256 * 1024
MAX_LINE_BYTES = 16 * 1024

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"/[\x21-\x7e]*")
#: the empty line behind the headers; bare line feeds are forgiven
HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/(\d)\.(\d) (\d{3})(?: [^\r\n]*)?")
#: of a head whose lines are remembered
_MOST_KNOWN_BYTES = 4_096
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")

#: what we frame ourselves, so no header of a target may say otherwise
_OURS = frozenset({"content-length", "transfer-encoding", "connection", "content-type", "accept-encoding", "expect"})

#: chunk-size lines as they are nearly always written; a line that is not here is parsed strictly
SIZES = {form % size: size for size in range(1, 4096) for form in (b"%x", b"%X")}

#: chunk-size lines by the size, as they are nearly always written; the chunk of size 0 is none
LINES = [b"none", *(b"%x" % size for size in range(1, 4096))]

#: bytes of a chunk with its framing, by the size
FRAMED = [len(line) + size + 4 for size, line in enumerate(LINES)]

#: the longest read that `WHOLE_CHUNKS` has an entry for
LONGEST_READ_BYTES = 16_384


def _whole_chunks() -> tuple[tuple[bytes, ...], ...]:
    beginnings: list[tuple[bytes, ...]] = [()] * (LONGEST_READ_BYTES + 1)
    for line, size in SIZES.items():
        beginnings[len(line) + size + 4] += (line + b"\r\n",)
    return tuple(beginnings)


#: WHOLE_CHUNKS[n]: how a read of n bytes that is one whole chunk begins. Where a framer is `between_chunks`, a read
#: of n bytes that begins so and ends with a line end holds one whole chunk and nothing else, whatever the chunk's data
#: are. `feed` would answer False and be where it was, so it need not be asked.
WHOLE_CHUNKS = _whole_chunks()


def are_whole_chunks(data: bytes) -> bool:
    """Where a framer is `between_chunks`, a read for which this holds is whole chunks one behind the other, and nothing
    else: `feed` would answer False and be where it was. Sizes in unusual notation are left to it.
    """
    end = data.find(b"\r\n", 0, 6)
    line = data[:end]
    # Nearly always they are all of one size: then this cuts them at their beginnings.
    pieces = data[end + 2 : -2].split(b"\r\n%b\r\n" % line)
    if data[-2:] == b"\r\n" and set(map(len, pieces)) == {SIZES.get(line)}:
        return True
    at, available = 0, len(data)
    while at < available:
        end = data.find(b"\r\n", at, at + 6)
        # A read may end between the two bytes of a line end.
        size = SIZES.get(data[at:end]) if end > 0 else None
        if size is None:
            return False
        at = end + 4 + size
        if data[at - 2 : at] != b"\r\n":
            return False
    return at > 0


def encode_http(origin: Origin, path: str, body: bytes, *, keep_alive: bool) -> bytes:
    """One complete POST request.

    Raises:
        RequestNotPossible: a header or the path would not survive as one header or path (CR, LF, spaces, …), or a
            header is one that the framing of the request decides.
    """
    target = origin.base_path + path
    if not _TARGET.fullmatch(target):
        raise RequestNotPossible(f"{target!r} is not a path that can be asked for over HTTP", field="url")
    headers = {
        "host": origin.host_header,
        "user-agent": USER_AGENT,
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "keep-alive" if keep_alive else "close",
    }
    for name, value in origin.headers.items():
        if name.lower() in _OURS:
            raise RequestNotPossible(f"the header {name!r} is set by enginebench itself; leave it out", field="headers")
        headers[name.lower()] = value
    lines = [f"POST {target} HTTP/1.1"]
    for name, value in headers.items():
        # The value is not shown: it may be a credential.
        if not _TOKEN.fullmatch(name):
            raise RequestNotPossible(f"{name!r} cannot be the name of a header", field="headers")
        if not _VALUE.fullmatch(value):
            raise RequestNotPossible(f"the header {name!r} has a line break or another forbidden sign", field="headers")
        lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Head:
    """A status line with its headers, and what they say about the body."""

    version: str
    status: int
    #: names in lower case; repeated fields joined with ", "
    headers: dict[str, str]
    #: body length in bytes; `None`: chunked, or until the connection closes
    length: int | None
    chunked: bool
    keep_alive: bool

    @property
    def until_close(self) -> bool:
        """The body ends where the connection does."""
        return self.length is None and not self.chunked


def _parse_line(line: bytes) -> tuple[str, str] | None:
    """A header's name in lower case and its value; `None` where it is none."""
    raw_name, colon, raw_value = line.partition(b":")
    name = raw_name.decode("latin-1")
    return (name.lower(), raw_value.strip(b" \t").decode("latin-1")) if colon and _TOKEN.fullmatch(name) else None


_parse_known_line = lru_cache(maxsize=256)(_parse_line)


def parse_head(head: bytes) -> Head | str:
    """Status line and headers, without the empty line at their end; the text of what is wrong, where something is."""
    lines = head.replace(b"\r\n", b"\n").split(b"\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        return f"not an HTTP/1 status line: {shown(lines[0])}"
    # The answers of one server begin nearly alike, so most lines are known.
    parse = _parse_known_line if len(head) <= _MOST_KNOWN_BYTES else _parse_line
    headers: dict[str, str] = {}
    for line in lines[1:]:
        parsed = parse(line)
        if parsed is None:
            return f"not a header line: {shown(line)}"
        key, value = parsed
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    version = f"{match[1].decode()}.{match[2].decode()}"
    status = int(match[3])
    length: int | None = None
    codings = [c.strip().lower() for c in headers.get("transfer-encoding", "").split(",") if c.strip()]
    chunked = bool(codings) and codings[-1] == "chunked"
    if "content-length" in headers and not codings:
        values = {v.strip() for v in headers["content-length"].split(",")}
        text = values.pop()
        if values or not text.isascii() or not text.isdigit() or len(text) > 15:
            return f"content-length is not one number: {headers['content-length'][:80]!r}"
        length = int(text)
    if status < 200 or status in (204, 304):
        length, chunked = 0, False
    options = {o.strip().lower() for o in headers.get("connection", "").split(",")}
    keep_alive = "close" not in options if version != "1.0" else "keep-alive" in options
    if (length is None and not chunked) or (codings and ("content-length" in headers or version == "1.0")):
        # Both framings at once, or one that HTTP/1.0 does not have: read it, but do not trust what would follow.
        keep_alive = False
    return Head(version, status, headers, length, chunked, keep_alive)


def shown(line: bytes) -> str:
    """The beginning of some bytes, for a message."""
    return repr(line[:80].decode("latin-1"))


def chunk_size(line: bytes) -> int | None:
    """The size in a chunk-size line, extensions aside; `None` where it is none."""
    digits = line.partition(b";")[0].rstrip(b" \t")
    return int(digits, 16) if _HEX.fullmatch(digits) else None


class ResponseFramer:
    """Tells where a response ends, however its bytes are cut. One a connection; `reset` between responses.

    It looks at framing alone and keeps nothing but a few counters and an unfinished line.
    """

    __slots__ = (
        "_done",
        "_head",
        "_pending",
        "_skip",
        "_trailers",
        "between_chunks",
        "keep_alive",
        "malformed",
        "several",
        "status",
        "until_close",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Ready for the next response on the same connection."""
        #: what is wrong with the bytes; nothing more is read then
        self.malformed: str | None = None
        #: the connection may carry another request after this response
        self.keep_alive = False
        #: HTTP status once the headers are there; interim (1xx) responses are passed over
        self.status: int | None = None
        #: only the end of the connection ends this response: `feed` never answers True
        self.until_close = False
        #: a chunked body, and a chunk's size line comes next: see `WHOLE_CHUNKS`
        self.between_chunks = False
        #: the bytes that `feed` took last had parts of more than one chunk in them, or of a body without chunks
        self.several = False
        self._head: Head | None = None
        #: bytes of a head, a chunk-size line or a trailer that is not finished yet
        self._pending = b""
        #: body bytes still to come before the next thing to look at
        self._skip = 0
        self._trailers = False
        self._done = False

    @property
    def headers_done(self) -> bool:
        """Status line and headers were read."""
        return self._head is not None

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes.

        Returns:
            True once nothing more is to be read: the response is whole, or `malformed` says what is wrong with it.
        """
        self.several = False
        if self._head is None:
            return self._feed_head(data)
        if self._done:
            return self._finish(len(data))
        if self._head.chunked:
            return self._feed_chunked(data)
        self.several = True
        if self.until_close:
            return False
        self._skip -= len(data)
        return self._skip <= 0 and self._finish(-self._skip)

    def _feed_head(self, data: bytes) -> bool:
        if self.malformed is not None:
            return True
        pending = self._pending + data
        while True:
            match = HEAD_END.search(pending)
            if match is None:
                if len(pending) > MAX_HEAD_BYTES:
                    return self._fail("the headers do not end")
                if pending and not pending.startswith(b"HTTP/"[: len(pending)]):
                    return self._fail(f"not an HTTP/1 status line: {shown(pending)}")
                self._pending = pending
                return False
            head = parse_head(pending[: match.start()])
            pending = pending[match.end() :]
            if isinstance(head, str):
                return self._fail(head)
            if head.status >= 200:
                break
            if head.status == 101:
                return self._fail("switches to another protocol, which was not asked for")
        self._pending = b""
        self._head = head
        self.status = head.status
        self.keep_alive = head.keep_alive
        self.until_close = head.until_close
        self._skip = head.length or 0
        if head.length == 0:
            return self._finish(len(pending))
        return self.feed(pending) if pending else False

    def _feed_chunked(self, data: bytes) -> bool:
        """Walks from chunk size to chunk size. `_skip` covers a chunk's data and the line end after it."""
        if self._trailers:
            return self._feed_trailers(data)
        self.between_chunks = False
        if self._pending:
            data = self._pending + data
            self._pending = b""
        position = self._skip
        available = len(data)
        chunks = int(position > 2)
        while position <= available:
            # The line end after a chunk's data; of one begun in an earlier read only its last byte may be here.
            if data[position - 2 : position] != b"\r\n" and position and (position > 1 or data[0] != 10):
                return self._fail("a chunk is longer than its size says")
            if position == available:
                break
            end = data.find(b"\r\n", position)
            if end < 0:
                if available - position > MAX_LINE_BYTES:
                    return self._fail("a chunk-size line does not end")
                self._pending = data[position:]
                self._skip = 0
                return False
            line = data[position:end]
            size = SIZES.get(line) or chunk_size(line)
            if size is None:
                return self._fail(f"not a chunk size: {shown(line)}")
            if size == 0:
                self._trailers = True
                return self._feed_trailers(data[end + 2 :])
            position = end + 4 + size
            chunks += 1
            self.several = chunks > 1
        self._skip = position - available
        self.between_chunks = self._skip == 0
        if self._skip == 1 and data[-1:] not in (b"\r", b""):
            return self._fail("a chunk is longer than its size says")
        return False

    def _feed_trailers(self, data: bytes) -> bool:
        pending = self._pending + data
        while True:
            end = pending.find(b"\r\n")
            if end < 0:
                if len(pending) > MAX_LINE_BYTES:
                    return self._fail("a trailer does not end")
                self._pending = pending
                return False
            line, pending = pending[:end], pending[end + 2 :]
            if not line:
                self._pending = b""
                return self._finish(len(pending))

    def _finish(self, surplus: int) -> bool:
        self._done = True
        if surplus:
            # Bytes nobody asked for: the response stands, the connection must not be used again.
            self.keep_alive = False
        return True

    def _fail(self, text: str) -> bool:
        self.malformed = text
        self.keep_alive = False
        self._done = True
        self.between_chunks = False
        self._pending = b""
        return True
