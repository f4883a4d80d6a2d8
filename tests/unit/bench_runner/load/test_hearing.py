"""What a load process said last is heard, even where it ended with a message of ours unread."""

from __future__ import annotations

import socket

from bench_runner.load.process import LoadProcess


def test_an_outcome_behind_a_reset_is_heard() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = LoadProcess.__new__(LoadProcess)
    process.channel = ours
    theirs.send(b"outcome")
    ours.send(b"a deadline that nobody reads any more")
    theirs.close()
    with ours:
        process.hear()
    assert process.message == b"outcome"
