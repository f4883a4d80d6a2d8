"""HTTP/1.1 as a server: requests out of a growing buffer, response heads into bytes. No sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import format_datetime

from engines.clock import utc_now

SERVER_NAME = "enginebench-simulated"
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024

REASONS = {
    200: "OK",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    422: "Unprocessable Entity",
    424: "Failed Dependency",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, whole."""

    method: str
    path: str
    query: str
    #: names in lower case; of repeated ones the last
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class BadRequest(Exception):
    """Bytes that are no request we take; the connection is closed after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str]
    keep_alive: bool
    #: `None`: a chunked body
    length: int | None


@dataclass(slots=True)
class RequestReader:
    """Bytes in, requests out, however they are split."""

    buffer: bytearray = field(default_factory=bytearray)
    #: a client waits for `100 Continue`; the caller answers and clears it
    expects_continue: bool = False
    _head: _Head | None = None
    _chunks: bytearray = field(default_factory=bytearray)

    def next(self) -> HttpRequest | None:
        """The next whole request; `None`: more bytes are needed.

        Raises:
            BadRequest: malformed, or too large.
        """
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
        head = self._head
        body = self._read_chunked() if head.length is None else self._read_length(head.length)
        if body is None:
            return None
        self._head = None
        path, _, query = head.target.partition("?")
        return HttpRequest(head.method, path, query, head.headers, body, head.keep_alive)

    def _read_head(self) -> _Head | None:
        while self.buffer[:2] == b"\r\n":
            del self.buffer[:2]
        end = self.buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD_BYTES or (end < 0 and len(self.buffer) > MAX_HEAD_BYTES):
            raise BadRequest(431, "request head above 64 KiB")
        if end < 0:
            return None
        lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        words = lines[0].split(" ")
        if len(words) != 3 or not words[0].isalpha() or not words[1].startswith("/"):
            raise BadRequest(400, "malformed request line")
        method, target, version = words
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise BadRequest(505 if version.startswith("HTTP/") else 400, "HTTP/1.1 only")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadRequest(400, "malformed header line")
            headers[name.lower()] = value.strip()
        connection = headers.get("connection", "").lower()
        keep_alive = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
        self.expects_continue = headers.get("expect", "").lower() == "100-continue"
        return _Head(method, target, headers, keep_alive, _body_length(headers))

    def _read_length(self, length: int) -> bytes | None:
        if len(self.buffer) < length:
            return None
        body = bytes(self.buffer[:length])
        del self.buffer[:length]
        return body

    def _read_chunked(self) -> bytes | None:
        while True:
            end = self.buffer.find(b"\r\n", 0, 1024)
            if end < 0:
                if len(self.buffer) > 1024:
                    raise BadRequest(400, "malformed chunk size")
                return None
            try:
                size = int(bytes(self.buffer[:end]).split(b";")[0].strip(), 16)
            except ValueError:
                raise BadRequest(400, "malformed chunk size") from None
            if size < 0 or len(self._chunks) + size > MAX_BODY_BYTES:
                raise BadRequest(413, "body above 64 MiB")
            if len(self.buffer) < end + 2 + size + 2:
                return None
            if self.buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                raise BadRequest(400, "malformed chunk")
            self._chunks += self.buffer[end + 2 : end + 2 + size]
            del self.buffer[: end + 4 + size]
            if size == 0:
                body = bytes(self._chunks)
                self._chunks.clear()
                return body


def _body_length(headers: dict[str, str]) -> int | None:
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked" or "content-length" in headers:
            raise BadRequest(400, "transfer-encoding must be chunked, without a content-length")
        return None
    text = headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit():
        raise BadRequest(400, "content-length is not a number")
    if len(text) > 12 or int(text) > MAX_BODY_BYTES:
        raise BadRequest(413, "body above 64 MiB")
    return int(text)


def head_bytes(status: int, headers: dict[str, str]) -> bytes:
    """Status line and headers of a response, `date` and `server` first."""
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
        f"date: {format_datetime(utc_now(), usegmt=True)}",
        f"server: {SERVER_NAME}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def whole_response(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    """A response with its length."""
    return head_bytes(status, {"content-length": str(len(body)), **headers}) + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
