"""The socket that the API listens on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from services.cli.serve import listen


def test_answers_do_not_wait_for_a_delayed_ack() -> None:
    async def accepted_has_nodelay() -> bool:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            found.set_result(bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            writer.close()

        with listen("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(look, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                answer = await found
                writer.close()
                return answer

    assert asyncio.run(accepted_has_nodelay())


def test_a_port_that_is_taken_is_an_error() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", listener.getsockname()[1])


def test_ipv6() -> None:
    with listen("::1", 0) as listener:
        assert listener.family == socket.AF_INET6
