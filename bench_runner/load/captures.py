"""Captures out of the spools of load processes, as the rest of the tree knows them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench_runner.load.spool import CANCELLED, ENDINGS, Kept, SpoolReader
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
                if (kept := reader.request(position)) is not None:
                    yield _captured(index, process, kept, end_ns)
                    break
            else:
                scheduled_ns = end_ns if offsets_ns is None else start_ns + offsets_ns[position]
                yield _never_sent(index, scheduled_ns, end_ns)


def _captured(index: int, process: int, kept: Kept, end_ns: int) -> Capture:
    over = kept.ending != 0
    return Capture(
        index=index,
        scheduled_ns=kept.scheduled_ns,
        sent_ns=kept.sent_ns,
        sent_clock="kernel" if kept.kernel_sent else "user",
        connect_s=kept.connect_ns / 1e9,
        local_port=kept.local_port,
        process=process,
        resends=kept.resends,
        read_user_ns=kept.user_ns,
        read_kernel_ns=kept.kernel_ns,
        read_bytes=kept.lengths,
        body=kept.body,
        ended=ENDINGS[kept.ending if over else CANCELLED],
        ended_ns=kept.ended_ns if over else end_ns,
        error=kept.error if over else "the load process died before this request was over",
        fresh_connection=bool(kept.first),
        waited_ns=kept.waited_ns,
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
