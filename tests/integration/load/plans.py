"""Plans for the tests of the load process."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from bench_runner.load.contract import LoadPlan, SocketPolicy
from engines.contract import Origin, WireRequest


def make_request(index: int, *, keep_alive: bool = False, body: bytes = b"{}") -> WireRequest:
    """One POST; its path tells its index."""
    connection = b"keep-alive" if keep_alive else b"close"
    head = b"POST /%d HTTP/1.1\r\nhost: test\r\nconnection: %b\r\ncontent-length: %d\r\n\r\n"
    return WireRequest(index, head % (index, connection, len(body)) + body)


def make_plan(spool: Path, port: int, requests: int, **changes: Any) -> LoadPlan:
    """A burst over fresh connections, unless `changes` say otherwise."""
    reused = changes.pop("reused", False)
    body = changes.pop("body", b"{}")
    host = changes.pop("host", "127.0.0.1")
    scheme = changes.pop("scheme", "http")
    name = changes.pop("name", host)
    spool.mkdir(exist_ok=True)
    fields: dict[str, Any] = {
        "origin": Origin(scheme=scheme, host=name, port=port, base_path="", address=host),
        "requests": tuple(make_request(k, keep_alive=reused, body=body) for k in range(requests)),
        "offsets_ns": array("q", [0] * requests),
        "concurrency": None,
        "socket": SocketPolicy(fresh_connections=not reused, quick_ack=True),
        "request_timeout_s": 20.0,
        "connect_timeout_s": 5.0,
        "run_timeout_s": 30.0,
        "spool": spool,
    }
    return LoadPlan(**(fields | changes))


def closed_loop(spool: Path, port: int, requests: int, concurrency: int, **changes: Any) -> LoadPlan:
    """A closed loop over fresh connections, unless `changes` say otherwise."""
    return make_plan(spool, port, requests, offsets_ns=None, concurrency=concurrency, **changes)
