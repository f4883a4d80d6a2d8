"""What a competent engineer writes in an afternoon: a load generator on httpx, and one on aiohttp.

`python -m tests.calibration.plain_clients httpx --url URL --requests N --concurrency C [--offsets FILE] --out FILE`

They are what `make bench-client` holds ours against, so they are as good as their libraries let them be: connections
are reused, nothing limits the pool, each line is stamped as it is handed out and kept, and JSON is decoded only after
the last answer. The output is one line of JSON a request: `port`, `due_ns`, `sent_ns`, `event_ns` (of the lines that
carried text), `tokens` (the server's own count). With `--brief` one line in all: how many tokens came, and TTFT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from engines.clock import monotonic_ns

PROMPT = " ".join(["tok"] * 128)


@dataclass(slots=True)
class Seen:
    """One request."""

    due_ns: int
    sent_ns: int = 0
    port: int = 0
    lines: list[tuple[int, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Its row; the lines are understood only here."""
        event_ns, tokens = [], None
        for stamp_ns, line in self.lines:
            if line == "[DONE]":
                continue
            event = json.loads(line)
            if event["choices"] and event["choices"][0].get("text"):
                event_ns.append(stamp_ns)
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
        return {
            "port": self.port,
            "due_ns": self.due_ns,
            "sent_ns": self.sent_ns,
            "event_ns": event_ns,
            "tokens": tokens,
        }


#: sends one request and keeps what comes
Ask = Callable[[Seen], Coroutine[Any, Any, None]]


@asynccontextmanager
async def httpx_client(url: str, body: dict[str, Any]) -> AsyncIterator[Ask]:
    """On httpx.AsyncClient."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:

        async def ask(seen: Seen) -> None:
            seen.sent_ns = monotonic_ns()
            async with client.stream("POST", url, json=body) as response:
                seen.port = response.extensions["network_stream"].get_extra_info("client_addr")[1]
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        seen.lines.append((monotonic_ns(), line[6:]))

        yield ask


@asynccontextmanager
async def aiohttp_client(url: str, body: dict[str, Any]) -> AsyncIterator[Ask]:
    """On aiohttp.ClientSession."""
    import aiohttp

    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(seen: Seen) -> None:
            seen.sent_ns = monotonic_ns()
            async with session.post(url, json=body) as response:
                if response.connection is not None and response.connection.transport is not None:
                    seen.port = response.connection.transport.get_extra_info("sockname")[1]
                async for line in response.content:
                    if line.startswith(b"data: "):
                        seen.lines.append((monotonic_ns(), line[6:-1].decode()))

        yield ask


CLIENTS: dict[str, Callable[[str, dict[str, Any]], AbstractAsyncContextManager[Ask]]] = {
    "httpx": httpx_client,
    "aiohttp": aiohttp_client,
}


async def keep_in_flight(ask: Ask, requests: int, concurrency: int) -> list[Seen]:
    """A closed loop; a burst where the concurrency is the number of requests."""
    start_ns = monotonic_ns()
    seen: list[Seen] = []
    numbers = iter(range(requests))

    async def slot(turns: Iterator[int]) -> None:
        for _ in turns:
            one = Seen(start_ns)
            seen.append(one)
            await ask(one)

    await asyncio.gather(*(slot(numbers) for _ in range(concurrency)))
    return seen


async def keep_time(ask: Ask, offsets_ns: array[int]) -> list[Seen]:
    """An open loop: each request at its offset from now, whatever the others do."""
    start_ns = monotonic_ns() + 50_000_000
    seen, tasks = [], []
    for offset_ns in offsets_ns:
        if (wait_ns := start_ns + offset_ns - monotonic_ns()) > 0:
            await asyncio.sleep(wait_ns / 1e9)
        one = Seen(start_ns + offset_ns)
        seen.append(one)
        tasks.append(asyncio.create_task(ask(one)))
    await asyncio.gather(*tasks)
    return seen


async def drive(arguments: argparse.Namespace) -> list[Seen]:
    """The load that the command line asks for."""
    body = {
        "model": "replay",
        "prompt": PROMPT,
        "max_tokens": arguments.tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with CLIENTS[arguments.client](arguments.url + "/v1/completions", body) as ask:
        if arguments.offsets is not None:
            offsets_ns = array("q")
            offsets_ns.frombytes(arguments.offsets.read_bytes())
            return await keep_time(ask, offsets_ns)
        return await keep_in_flight(ask, arguments.requests, arguments.concurrency)


def main(argv: list[str]) -> int:
    """Drive, then write what was seen."""
    parser = argparse.ArgumentParser(description="A plain load generator.")
    parser.add_argument("client", choices=sorted(CLIENTS))
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--offsets", type=Path, help="send offsets, ns, signed 64-bit: an open loop")
    parser.add_argument("--brief", action="store_true", help="totals alone")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    seen = asyncio.run(drive(arguments))
    rows = (one.to_json() for one in seen)
    with arguments.out.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in ([total(rows)] if arguments.brief else rows))
    return 0


def total(rows: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The least that a load generator says at its end."""
    tokens, ttfts_ns = 0, []
    for row in rows:
        tokens += len(row["event_ns"])
        ttfts_ns += [first_ns - row["sent_ns"] for first_ns in row["event_ns"][:1]]
    return {"tokens": tokens, "ttft_mean_s": fmean(ttfts_ns) / 1e9 if ttfts_ns else None}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
