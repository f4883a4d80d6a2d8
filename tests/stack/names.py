"""Names that only Docker's network has, without one: a proxy that knows where on loopback each of them listens."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

#: Of one hop, so not handed on.
HOP = {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "content-length"}


@contextmanager
def names(listening: Mapping[str, int]) -> Iterator[str]:
    """An HTTP proxy for GET; its URL.

    Args:
        listening: "name:port" -> port on loopback. What asks for another name gets no answer, as of a container that is
            not up.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            port = listening.get(asked.netloc)
            answer = None if port is None else self._ask(port, f"{asked.path}?{asked.query}".removesuffix("?"))
            if answer is None:
                self.send_error(502)
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _ask(self, port: int, path: str) -> tuple[int, dict[str, str], bytes] | None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
            try:
                connection.request("GET", path, headers=_handed_on(self.headers.items()))
                answer = connection.getresponse()
                return answer.status, _handed_on(answer.getheaders()), answer.read()
            except (OSError, http.client.HTTPException):
                return None
            finally:
                connection.close()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: there are some ten a second."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _handed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in HOP}
