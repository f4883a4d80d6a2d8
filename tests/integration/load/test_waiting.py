"""How long bytes may have waited for the load process until they were read together with later ones."""

from __future__ import annotations

import socket
from array import array
from pathlib import Path

from bench_runner.load.captures import read_captures
from bench_runner.load.channel import Counters, pack_start
from bench_runner.load.child import make_schedule
from bench_runner.load.generator import Generator
from bench_runner.load.planfile import open_plan, write_plan
from bench_runner.load.spool import SpoolWriter
from engines.clock import monotonic_ns, sleep_s
from engines.contract import Capture
from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from tests.integration.load.plans import make_plan
from tests.integration.load.scripted import CHUNK, EVENT, LAST_CHUNK, SSE_HEAD, Peer, scripted_server

EVENTS, GAP_S = 60, 0.01
STALL_S = 0.15
#: A machine that takes its core away for a while makes bytes wait, truly; not five times in a row.
ATTEMPTS = 5


class SlowSpool(SpoolWriter):
    """On a disk that takes its time, which the load process has to wait for."""

    def flush(self, offset_ns: int) -> None:
        sleep_s(STALL_S)
        super().flush(offset_ns)


def drive_here(folder: Path, port: int, spool_type: type[SpoolWriter]) -> Capture:
    """One request, sent by a generator within this process."""
    plan = make_plan(folder, port, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with write_plan(plan).open("rb") as file, ours, theirs:
        opened = open_plan(file.fileno())
        ours.send(pack_start(monotonic_ns() + 20_000_000))
        schedule = make_schedule(opened, -1, 0, 1)
        spool = spool_type(folder, 1)
        outcome = Generator(opened, schedule, spool, theirs, Counters(folder, create=True)).run()
    window = outcome.start_ns, outcome.end_ns
    (capture,) = read_captures([folder], array("q", [0]), plan.offsets_ns, window)
    return capture


def test_what_a_stall_kept_waiting_is_told(tmp_path: Path) -> None:
    with scripted_server(lambda peer: peer.stream(EVENTS, GAP_S)) as server:
        capture = drive_here(tmp_path / "spool", server.port, SlowSpool)
    assert capture.ended == "complete"
    # The spool is written four times a second, and the stream takes longer than that.
    assert capture.waited_ns > 0.9e9 * STALL_S
    assert OPENAI_COMPLETIONS.decode(capture).merged_events > 0


def test_what_was_sent_together_did_not_wait(tmp_path: Path) -> None:
    def in_pairs(peer: Peer) -> None:
        peer.send(SSE_HEAD)
        for _ in range(EVENTS // 2):
            sleep_s(GAP_S)
            peer.send(CHUNK + CHUNK)
        peer.send(LAST_CHUNK)

    waited_ns = []
    for attempt in range(ATTEMPTS):
        with scripted_server(in_pairs) as server:
            capture = drive_here(tmp_path / f"spool-{attempt}", server.port, SpoolWriter)
        assert OPENAI_COMPLETIONS.decode(capture).merged_events >= EVENTS // 2
        waited_ns.append(capture.waited_ns)
        if waited_ns[-1] < 0.5e9 * STALL_S:
            return
    raise AssertionError(waited_ns)


def test_several_events_of_a_chunk_are_not_asked_for(tmp_path: Path) -> None:
    both = b"%x\r\n%b\r\n" % (2 * len(EVENT), 2 * EVENT)

    def in_pairs(peer: Peer) -> None:
        peer.send(SSE_HEAD)
        for _ in range(10):
            sleep_s(GAP_S)
            peer.send(both)
        sleep_s(GAP_S)
        peer.send(LAST_CHUNK)

    with scripted_server(in_pairs) as server:
        capture = drive_here(tmp_path / "spool", server.port, SpoolWriter)
    completion = OPENAI_COMPLETIONS.decode(capture)
    assert (sum(completion.event_shared), completion.merged_events) == (10, 0)
