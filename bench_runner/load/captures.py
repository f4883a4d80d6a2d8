"""Captures out of the spools of load processes, as the rest of the tree knows them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench_runner.load.spool import ENDINGS, Block, SpoolReader
from engines.contract import Capture


def read_captures(
    folders: Sequence[Path], indexes: array[int], offsets_ns: array[int] | None, window: tuple[int, int]
) -> Iterator[Capture]:
    """Captures in the order of the plan; `indexes` names each, one is in memory at a time.

    Args:
        folders: of the processes, by rank; each request is in one of them, or was never sent.
        indexes: of the requests, by their position in the plan.
        offsets_ns: as in the plan.
        window: first and last instant, ns.
    """
    start_ns, end_ns = window
    with ExitStack() as opened:
        readers = [opened.enter_context(SpoolReader(folder)) for folder in folders]
        for position, index in enumerate(indexes):
            for process, reader in enumerate(readers):
                if blocks := reader.blocks(position):
                    yield _captured(index, process, blocks)
                    break
            else:
                scheduled_ns = end_ns if offsets_ns is None else start_ns + offsets_ns[position]
                yield _never_sent(index, scheduled_ns, end_ns)


def _captured(index: int, process: int, blocks: Sequence[Block]) -> Capture:
    last = blocks[-1]
    user_ns, kernel_ns, lengths = array("q"), array("q"), array("q")
    for block in blocks:
        user_ns.extend(block.user_ns)
        kernel_ns.extend(block.kernel_ns)
        lengths.extend(block.lengths)
    return Capture(
        index=index,
        scheduled_ns=last.scheduled_ns,
        sent_ns=last.sent_ns,
        sent_clock="kernel" if last.kernel_sent else "user",
        connect_s=last.connect_ns / 1e9,
        local_port=last.local_port,
        process=process,
        resends=last.resends,
        read_user_ns=user_ns,
        read_kernel_ns=kernel_ns,
        read_bytes=lengths,
        body=b"".join(block.body for block in blocks),
        ended=ENDINGS[last.ending],
        ended_ns=last.ended_ns,
        error=last.error,
        fresh_connection=bool(last.first),
    )


def _never_sent(index: int, scheduled_ns: int, ended_ns: int) -> Capture:
    return Capture(
        index=index,
        scheduled_ns=scheduled_ns,
        sent_ns=0,
        sent_clock="user",
        connect_s=0.0,
        local_port=0,
        process=0,
        resends=0,
        read_user_ns=array("q"),
        read_kernel_ns=array("q"),
        read_bytes=array("q"),
        body=b"",
        ended="cancelled",
        ended_ns=ended_ns,
        error="sending was over before this request's turn came",
    )
